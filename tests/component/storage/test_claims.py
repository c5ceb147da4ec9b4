"""Volumes of PersistentVolumeClaims: what strangers may have put there, and what goes wrong with file systems."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from shoal_agent.storage import Limits, Listing, StorageError, claims, volume
from shoal_agent.storage.claims import ClaimSource
from shoal_api.storage_uri import StorageUri, parse_storage_uri

from .claims import CLAIM, Volume
from .pods import LIMITS, Pod

pytestmark = pytest.mark.asyncio(loop_scope="session")
NewPod = Callable[[], Pod]


@pytest.fixture
def models(tmp_path: Path) -> Volume:
    (tmp_path / "volume").mkdir()
    (tmp_path / "secret").write_bytes(b"not of the volume")
    return Volume(tmp_path / "volume")


@pytest.fixture
def mounted(new_pod: NewPod, models: Volume) -> Pod:
    return models.admit(new_pod())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_whole_volume_without_what_its_file_system_keeps_there(models: Volume, mounted: Pod) -> None:
    models.put("m.joblib", b"x")
    models.put("deeper/lost+found", b"a file of that name")
    models.put("lost+found/1234", b"found")
    models.put(".snapshot/hourly/m.joblib", b"old")
    assert await mounted.pull(f"pvc://{CLAIM}") == {"m.joblib": b"x", "deeper/lost+found": b"a file of that name"}
    assert await mounted.pull(f"pvc://{CLAIM}/") == {"m.joblib": b"x", "deeper/lost+found": b"a file of that name"}


async def test_a_file_is_no_folder_and_an_empty_folder_no_model(models: Volume, mounted: Pod) -> None:
    models.put("m", b"x")
    models.mark("empty/folders")
    for key in ("m/", "m/deeper", "empty"):
        error = await mounted.refused(models.uri(key))
        assert (error.reason, f"pvc://{CLAIM}/{key.strip('/')}" in error.message) == ("ArtifactNotFound", True)


async def test_links_on_the_volume_are_followed(models: Volume, mounted: Pod) -> None:
    """As a cache of Hugging Face's hub has them."""
    models.put("blobs/abc", b"weights")
    models.put("shared/tokenizer/vocab", b"words")
    models.mark("snapshots/1")
    (models.folder / "snapshots/1/model.bin").symlink_to("../../blobs/abc")
    (models.folder / "snapshots/1/tokenizer").symlink_to("../../shared/./tokenizer")
    (models.folder / "latest").symlink_to("snapshots/1")
    expected = {"model.bin": b"weights", "tokenizer/vocab": b"words"}
    assert await mounted.pull(models.uri("snapshots/1")) == expected
    assert await mounted.pull(models.uri("latest")) == expected
    assert await mounted.pull(models.uri("latest/model.bin")) == {"model.bin": b"weights"}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/etc/passwd", "leads out of the volume"),
        ("/", "leads out of the volume"),
        ("../../secret", "leads out of the volume"),
        ("../../../../../../../../etc/passwd", "leads out of the volume"),
        ("inner/../../../secret", "leads out of the volume"),
        ("nowhere", "is a link to what is not there"),
        ("m/through-a-file", "is a link to what is not there"),
        ("link", "through more than 40 links"),
        ("../a", "leads back to a folder"),
        (".", "leads back to a folder"),
        ("d/" * 200 + "m", "through more than"),
    ],
)
@pytest.mark.parametrize("name", ["a", "a/link"])
async def test_links_that_leave_it_or_lead_nowhere_are_refused(
    models: Volume, mounted: Pod, target: str, said: str, name: str
) -> None:
    models.put("a/m", b"x")
    models.mark("a/inner")
    (models.folder / "a/d").symlink_to(".")
    (models.folder / "a/link").symlink_to(target)
    before = descriptors()
    error = await mounted.refused(models.uri(name))
    if name == "a":
        assert (error.reason, "'link'" in error.message or "'d" in error.message) == ("ArtifactInvalid", True)
    else:
        assert error.reason in ("ArtifactInvalid", "ArtifactNotFound")
    if name == "a" and target != "d/" * 200 + "m":
        (models.folder / "a/d").unlink()
        error = await mounted.refused(models.uri(name))
        assert (error.reason, said in error.message) == ("ArtifactInvalid", True)
    assert "not of the volume" not in error.message
    assert descriptors() <= before + 2 * claims.THREADS


async def test_what_is_no_file_is_refused_and_never_opened(models: Volume, mounted: Pod) -> None:
    models.put("a/m", b"x")
    special = models.folder / "a/special"
    for make, said in (
        (lambda: os.mkfifo(special), "a named pipe"),
        (lambda: socket.socket(socket.AF_UNIX).bind(os.path.relpath(special)), "a socket"),
        (lambda: os.mknod(special, 0o666 | 0o020000, os.makedev(1, 5)), "a device"),
    ):
        make()
        for key in ("a", "a/special"):
            error = await asyncio.wait_for(mounted.refused(models.uri(key)), 10)
            assert (error.reason, said in error.message) == ("ArtifactInvalid", True)
        special.unlink()
    assert await mounted.pull(models.uri("a")) == {"m": b"x"}


async def test_a_huge_file_with_nothing_in_it_is_too_large(models: Volume, mounted: Pod) -> None:
    models.put("a/m", b"x")
    os.truncate(models.folder / "a/m", 1 << 42)
    for key in ("a", "a/m"):
        error = await mounted.refused(models.uri(key))
        assert (error.reason, "max-artifact-bytes" in error.message) == ("ArtifactTooLarge", True)
    os.truncate(models.folder / "a/m", 5_000_000)
    assert await mounted.pull(models.uri("a")) == {"m": b"x" + bytes(4_999_999)}


async def test_folders_count_and_have_a_depth(models: Volume, tmp_path: Path) -> None:
    source = ClaimSource(tmp_path)
    uri = parse_storage_uri("pvc://volume/a")
    for number in range(11):
        models.mark(f"a/{number}")
    with pytest.raises(StorageError) as caught:
        await source.find(uri, Limits(1 << 30, 10))
    assert (caught.value.reason, "max-artifact-files" in caught.value.message) == ("ArtifactTooLarge", True)
    models.mark("deep/" + "/".join("d" * 40))
    with pytest.raises(StorageError) as caught:
        await source.find(parse_storage_uri("pvc://volume/deep"), LIMITS)
    assert (caught.value.reason, "32 folders deep" in caught.value.message) == ("ArtifactInvalid", True)
    source.close()


@pytest.mark.parametrize("name", ["back\\slash", "new\nline", b"\xff\xfe".decode(errors="surrogateescape")])
async def test_names_that_are_none_are_refused(models: Volume, mounted: Pod, name: str) -> None:
    models.put("a/m", b"x")
    (models.folder / "a" / name).write_bytes(b"x")
    assert (await mounted.refused(models.uri("a"))).reason == "ArtifactInvalid"


async def test_what_was_overwritten_is_another_revision_and_what_was_not_is_none(models: Volume, mounted: Pod) -> None:
    models.put("a/m", b"before")
    first = await mounted.cache.look(models.uri("a"))
    assert await mounted.cache.look(models.uri("a")) == first
    models.put("a/m", b"after!")
    second = await mounted.cache.look(models.uri("a"))
    assert (first.size, first.revision != second.revision) == (second.size, True)


async def test_files_alike_in_size_and_time_at_two_places_stay_two(models: Volume, mounted: Pod) -> None:
    """As archives unpack them whose dates are fixed."""
    for name, content in (("a/m", b"first"), ("b/m", b"other")):
        models.put(name, content)
        os.utime(models.folder / name, (1, 1))
    assert await mounted.pull(models.uri("a")) == {"m": b"first"}
    assert await mounted.pull(models.uri("b")) == {"m": b"other"}


@pytest.mark.parametrize("how", ["written", "grown", "cut", "gone", "folder", "link", "pipe"])
async def test_a_file_that_changes_while_it_is_read_is_never_mixed(models: Volume, mounted: Pod, how: str) -> None:
    content = bytes(range(256)) * (4096 * 6)  # three chunks
    models.put("a/m", content)
    file = models.folder / "a/m"
    source = mounted.claims
    listing = await source.find(parse_storage_uri(models.uri("a")), LIMITS)
    chunks = source.read(listing, listing.files[0], 0, len(content))
    assert await anext(chunks) == content[: claims.CHUNK]
    match how:
        case "written":
            with file.open("r+b") as stream:
                stream.seek(2 * claims.CHUNK)
                stream.write(b"other")
        case "grown":
            with file.open("ab") as stream:
                stream.write(b"more")
        case "cut":
            os.truncate(file, 2 * claims.CHUNK - 1)
        case _:
            file.unlink()
    if how == "folder":
        file.mkdir()
    elif how == "link":
        file.symlink_to("/etc/passwd")
    elif how == "pipe":
        os.mkfifo(file)
    with pytest.raises(StorageError) as caught:
        await asyncio.wait_for(anext(chunks), 10)
    assert (caught.value.reason, "a/m" in caught.value.message) == ("ArtifactChanged", True)


async def test_a_file_that_was_written_just_now_is_looked_at_once_more(models: Volume, tmp_path: Path) -> None:
    """Its file system's clock may not tell two writes within a moment apart."""
    models.put("a/m", b"x")
    written = (models.folder / "a/m").stat().st_mtime

    async def another_write(seconds: float) -> None:
        assert seconds == claims.SETTLED_SECONDS
        (models.folder / "a/more").write_bytes(b"y")
        os.utime(models.folder / "a/more", (1, 1))

    for now, again in ((written + 0.01, True), (written - 0.01, True), (written + 60, False), (written - 3600, False)):
        source = ClaimSource(tmp_path, clock=lambda now=now: now, sleep=another_write)  # type: ignore[misc]
        found = await source.find(parse_storage_uri("pvc://volume/a"), LIMITS)
        assert len(found.files) == (2 if again else 1), now - written
        (models.folder / "a/more").unlink(missing_ok=True)
        source.close()


async def test_what_may_not_be_read_says_as_whom(models: Volume, mounted: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    models.put("a/secret/m", b"x")
    real = os.scandir

    def scandir(folder: int) -> object:
        if os.readlink(f"/proc/self/fd/{folder}").endswith("/secret"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(folder)

    monkeypatch.setattr(volume.os, "scandir", scandir)
    error = await mounted.refused(models.uri("a"))
    assert error.reason == "StorageAccessDenied"
    assert f"user {os.getuid()}" in error.message
    assert "supplementalGroups" in error.message


async def test_a_file_system_that_fails_is_tried_again(
    models: Volume, mounted: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.put("a/m", b"x")
    with monkeypatch.context() as patched:
        patched.setattr(volume.os, "preadv", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        error = await mounted.refused(models.uri("a"))
    assert (error.reason, "Input/output error" in error.message) == ("StorageUnavailable", True)
    assert await mounted.pull(models.uri("a")) == {"m": b"x"}


async def test_a_volume_that_hangs_keeps_nobody_else_waiting(
    models: Volume, mounted: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    mounted.mount("other", tmp_path / "other")
    (tmp_path / "other/m").write_bytes(b"x")
    models.put("a/m", b"x")
    let_go = threading.Event()
    real = claims.find

    def hanging(root: str, *rest: object, **more: object) -> object:
        if root.endswith(f"/{CLAIM}"):
            let_go.wait(60)
        return real(root, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(claims, "find", hanging)
    monkeypatch.setattr(claims, "FIND_SECONDS", 0.2)
    monkeypatch.setattr(claims, "FILE_SECONDS", 0.0)
    errors = await asyncio.gather(*(mounted.refused(models.uri("a")) for _ in range(3 * claims.THREADS)))
    assert {error.reason for error in errors} == {"StorageUnavailable"}
    assert all("does not answer" in error.message for error in errors)
    monkeypatch.setattr(claims, "FIND_SECONDS", 60.0)
    # All of its threads hang: nobody has to find that out again.
    await asyncio.wait_for(mounted.refused(models.uri("a")), 30)
    assert await mounted.pull("pvc://other/m") == {"m": b"x"}
    let_go.set()
    while True:
        try:
            assert await mounted.pull(models.uri("a")) == {"m": b"x"}
            break
        except StorageError:
            await asyncio.sleep(0.02)


async def test_a_cancelled_pull_ends_at_once_and_is_gone_on_with(
    models: Volume, mounted: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"z" * (80 << 20)
    models.put("a/m", content)
    let_go, reading = threading.Event(), threading.Semaphore(0)
    real = claims.read

    def slowly(*arguments: object) -> object:
        reading.release()
        let_go.wait(60)
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(claims, "read", slowly)
        task = asyncio.create_task(mounted.pull(models.uri("a")))
        await asyncio.to_thread(reading.acquire)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=30)
        assert done, "what hangs is not waited for"
        let_go.set()
    assert await mounted.pull(models.uri("a")) == {"m": content}


async def test_a_listing_that_nobody_waits_for_ends(models: Volume, tmp_path: Path) -> None:
    for number in range(50):
        models.put(f"a/{number}", b"x")
    seen = 0

    def stopped() -> bool:
        nonlocal seen
        seen += 1
        return seen > 10

    with pytest.raises(volume.Stop):
        volume.find(str(models.folder), "a", "it", LIMITS, stopped, folder=False)
    assert seen == 11


async def test_a_claim_that_is_mounted_later_is_found(models: Volume, new_pod: NewPod) -> None:
    models.put("a/m", b"x")
    pod = new_pod()
    error = await pod.refused(models.uri("a"))
    assert (error.reason, f"PersistentVolumeClaim {CLAIM} is not mounted" in error.message) == ("ClaimNotMounted", True)
    assert await models.admit(pod).pull(models.uri("a")) == {"m": b"x"}


async def test_by_an_entry_of_storage_config_as_modelmesh(models: Volume, mounted: Pod) -> None:
    models.put("a/m", b"x")
    mounted.entry("volume", {"type": "pvc", "name": CLAIM})
    assert await mounted.pull("storage://volume/a") == {"m": b"x"}
    assert await mounted.pull(f"storage:///a?type=pvc&name={CLAIM}") == {"m": b"x"}
    error = await mounted.refused("storage://volume/b")
    assert (error.reason, f"pvc://{CLAIM}/b" in error.message) == ("ArtifactNotFound", True)


async def test_a_listing_of_another_source_is_not_read(mounted: Pod, models: Volume) -> None:
    models.put("a/m", b"x")
    listing = await mounted.claims.find(StorageUri("pvc", CLAIM, "a", raw=""), LIMITS)
    other = Listing(listing.place, listing.files, access="another's")
    with pytest.raises(TypeError):
        await anext(mounted.claims.read(other, other.files[0], 0, 1))

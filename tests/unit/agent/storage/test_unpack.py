"""Archives: what they may hold, and what they may cost."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from shoal_agent.storage import Limits, StorageError
from shoal_agent.storage.disk import NOTHING, Room
from shoal_agent.storage.unpack import UnpackedFile, Unpacking
from shoal_agent.storage.unpack.formats import is_archive

from .stores import LIMITS

ROOMY = Limits(20 << 30, 2000)


def unpack(archive: Path, name: str, target: Path, limits: Limits = LIMITS, flatten: bool = False) -> dict[str, int]:
    target.mkdir(exist_ok=True, parents=True)
    return {file.path: file.size for file in Unpacking(archive, name, target, limits, flatten=flatten).run()}


def refused(archive: Path, name: str, target: Path, limits: Limits = LIMITS) -> StorageError:
    with pytest.raises(StorageError) as caught:
        unpack(archive, name, target, limits)
    return caught.value


def tar_of(*entries: tuple[str, bytes, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content, kind in entries:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


FILE, FOLDER = tarfile.REGTYPE, tarfile.DIRTYPE
TWO_FILES = tar_of(("./a/", b"", FOLDER), ("./a/b", b"12", FILE), ("c", b"3", FILE))


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("m.tar", TWO_FILES),
        ("m.tar.gz", gzip.compress(TWO_FILES)),
        ("M.TGZ", gzip.compress(TWO_FILES)),
        ("m.tar.bz2", bz2.compress(TWO_FILES)),
        ("m.tar.xz", lzma.compress(TWO_FILES, preset=9)),
        ("m.tar.zst", zstandard.compress(TWO_FILES, 19)),
    ],
)
def test_every_kind_is_unpacked(tmp_path: Path, name: str, packed: bytes) -> None:
    (tmp_path / "x").write_bytes(packed)
    assert is_archive(name)
    assert unpack(tmp_path / "x", name, tmp_path / "out") == {"a/b": 2, "c": 1}
    assert (tmp_path / "out" / "a" / "b").read_bytes() == b"12"


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w", kind) as packed:
        packed.writestr("deep/model.pkl", b"abc")
        packed.writestr("empty/", b"")
    assert unpack(tmp_path / "z", "m.zip", tmp_path / "out") == {"deep/model.pkl": 3}


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("../evil", b"x", tarfile.REGTYPE),
        ("/etc/evil", b"x", tarfile.REGTYPE),
        ("a/../../evil", b"x", tarfile.REGTYPE),
        ("link", b"", tarfile.SYMTYPE),
        ("hard", b"", tarfile.LNKTYPE),
        ("device", b"", tarfile.CHRTYPE),
        ("pipe", b"", tarfile.FIFOTYPE),
        ("big", b"x" * 1001, tarfile.REGTYPE),
        ("d/" * 40 + "deep", b"x", tarfile.REGTYPE),
    ],
)
def test_what_an_archive_may_not_hold(tmp_path: Path, name: str, content: bytes, kind: bytes) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(tar_of((name, content, kind))))
    error = refused(tmp_path / "x", "m.tgz", tmp_path / "out" / "deep")
    assert error.reason in ("ArtifactInvalid", "ArtifactTooLarge")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name == "evil"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([("a", b"1", FILE), ("a", b"2", FILE)], "twice"),
        ([("a", b"1", FILE), ("a/b", b"2", FILE)], "both as a file and as a folder"),
        ([("a/b", b"1", FILE), ("a", b"2", FILE)], "both as a file and as a folder"),
        ([("a/", b"", FOLDER)], "is empty"),
    ],
)
def test_what_makes_no_folder(tmp_path: Path, entries: list[tuple[str, bytes, bytes]], said: str) -> None:
    (tmp_path / "x").write_bytes(tar_of(*entries))
    assert said in refused(tmp_path / "x", "m.tar", tmp_path / "out").message


def zipped(folder: Path, build: Callable[[zipfile.ZipFile], object], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(folder / "z", "w", kind) as packed:
        build(packed)
    return folder / "z"


def test_a_zip_may_not_hold_links_or_leave_or_lie_about_its_size(tmp_path: Path) -> None:
    def six_files(packed: zipfile.ZipFile) -> None:
        for number in range(6):
            packed.writestr(str(number), "x")

    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    builds: list[tuple[Callable[[zipfile.ZipFile], object], str]] = [
        (lambda packed: packed.writestr(link, "/etc/passwd"), "ArtifactInvalid"),
        (lambda packed: packed.writestr("../evil", "x"), "ArtifactInvalid"),
        (lambda packed: packed.writestr("bomb", b"\0" * 10_000_000), "ArtifactTooLarge"),
        (six_files, "ArtifactTooLarge"),
        (lambda packed: None, "ArtifactInvalid"),
    ]
    for number, (build, reason) in enumerate(builds):
        assert refused(zipped(tmp_path, build), "m.zip", tmp_path / f"out{number}").reason == reason
    other = zipped(tmp_path, lambda packed: packed.writestr("a", "x"), zipfile.ZIP_BZIP2)
    assert "stored and deflate" in refused(other, "m.zip", tmp_path / "out").message


def test_a_broken_archive_is_said_to_be_broken(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no archive")
    for name in ("m.zip", "m.tar", "m.tar.gz", "m.tar.bz2", "m.tar.xz", "m.tar.zst"):
        assert "cannot be unpacked" in refused(tmp_path / "x", name, tmp_path / "out").message


def endless_header(file: Path) -> None:
    """A header that says it is 600 MiB long, and is."""
    member = tarfile.TarInfo("x")
    member.type, member.size = b"x", 600 << 20
    with gzip.open(file, "wb", compresslevel=1) as packed:
        packed.write(member.tobuf())
        for _ in range(600):
            packed.write(b"\0" * (1 << 20))


def endless_folders(file: Path) -> None:
    with gzip.open(file, "wb", compresslevel=1) as packed:
        packed.write(tar_of(("d/", b"", FOLDER))[:512] * 300_000)


def endless_directory(file: Path) -> None:
    """A zip whose directory names one file 300,000 times."""
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    one = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count, size = 300_000, 300_000 * len(one)
    file.write_bytes(
        local
        + one * count
        + struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, len(local))
        + struct.pack("<4sLQL", b"PK\6\7", 0, len(local) + size, 1)
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    )


@pytest.mark.parametrize(
    ("build", "name"), [(endless_header, "m.tgz"), (endless_folders, "m.tar.gz"), (endless_directory, "m.zip")]
)
def test_what_is_made_to_cost_memory_costs_none_of_ours(
    tmp_path: Path, build: Callable[[Path], None], name: str
) -> None:
    build(tmp_path / "x")
    before = _resident()
    assert refused(tmp_path / "x", name, tmp_path / "out", ROOMY).reason in ("ArtifactInvalid", "ArtifactTooLarge")
    assert _resident() - before < 32 << 20


def _resident() -> int:
    """Peak of this process, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        (
            ["churn/model.joblib", "churn/._model.joblib", "._churn", "__MACOSX/churn/x", "churn/.DS_Store"],
            ["model.joblib"],
        ),
        (["churn/a/model", "churn/b"], ["a/model", "b"]),
        (["1/model.onnx"], ["1/model.onnx"]),
        (["code/inference.py"], ["code/inference.py"]),
        (["a/model", "b/model"], ["a/model", "b/model"]),
        (["model"], ["model"]),
    ],
)
def test_what_people_pack_without_meaning_it(tmp_path: Path, entries: list[str], kept: list[str]) -> None:
    """macOS' own files, and one folder around all of it; folders that a server asks for stay."""
    (tmp_path / "x").write_bytes(tar_of(*((name, b"x", FILE) for name in entries)))
    assert sorted(unpack(tmp_path / "x", "m.tar", tmp_path / "out", LIMITS, flatten=True)) == kept
    there = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert there == kept


def test_it_asks_for_room_before_it_writes_and_ends_when_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(
        gzip.compress(tar_of(("a", b"\0" * (40 << 20), FILE), ("b", b"\0" * (40 << 20), FILE)))
    )
    asked: list[Room] = []

    def two_times(need: Room) -> None:
        written = sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
        assert written <= 1 + sum(each.bytes for each in asked)
        if len(asked) == 2:
            raise StorageError("DiskFull", "no")
        asked.append(need)

    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match="no") as caught:
        Unpacking(tmp_path / "x", "m.tgz", tmp_path / "out", ROOMY).run(Room(1, 10), two_times)
    assert caught.value.reason == "DiskFull"
    assert len(asked) == 2


def test_it_is_stopped_at_once(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(tar_of(("a", b"\0" * (40 << 20), FILE))))
    (tmp_path / "out").mkdir()
    unpacking = Unpacking(tmp_path / "x", "m.tgz", tmp_path / "out", ROOMY)
    started = time.monotonic()
    with pytest.raises(StorageError):
        unpacking.run(NOTHING, lambda _: unpacking.stop())
    assert time.monotonic() - started < 5
    with pytest.raises(StorageError):
        unpacking.run()


def test_the_child_knows_nothing_of_our_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("PYTHONSTARTUP", "/nonexistent")
    (tmp_path / "x").write_bytes(TWO_FILES)
    environments: list[bytes] = []
    (tmp_path / "out").mkdir()

    def look(_: Room) -> None:
        children = Path("/proc/self/task").glob("*/children")
        pids = [pid for each in children for pid in each.read_text().split()]
        environments.extend(Path(f"/proc/{pid}/environ").read_bytes() for pid in pids)

    assert Unpacking(tmp_path / "x", "m.tar", tmp_path / "out", LIMITS).run(NOTHING, look) == (
        UnpackedFile("a/b", 2),
        UnpackedFile("c", 1),
    )
    assert environments
    assert not any(b"hidden" in each for each in environments)


LAYERS = (
    tar_of(
        ("etc/passwd", b"of a base image", FILE),
        ("etc/link", b"", tarfile.SYMTYPE),
        ("models/", b"", FOLDER),
        ("models/kept", b"1", FILE),
        ("models/replaced", b"1", FILE),
        ("models/removed", b"1", FILE),
        ("models/folder/gone/a", b"1", FILE),
        ("models/emptied/a", b"1", FILE),
        ("models/both", b"a file", FILE),
        ("models/other/a", b"a folder", FILE),
    ),
    gzip.compress(
        tar_of(
            ("./models/replaced", b"22", FILE),
            ("./models/.wh.removed", b"", FILE),
            ("models/folder/.wh.gone", b"", FILE),
            ("models/emptied/b", b"22", FILE),
            ("models/emptied/.wh..wh..opq", b"", FILE),
            ("etc/.wh.passwd", b"", FILE),
            ("models/both/a", b"22", FILE),
            ("/models/other", b"22", FILE),
        )
    ),
    zstandard.compress(tar_of(("models/removed", b"333", FILE), (".wh.etc", b"", FILE))),
)


def of_layers(folder: Path, *layers: bytes, limits: Limits = LIMITS) -> dict[str, bytes]:
    files = [folder / f"{number:03}" for number in range(len(layers))]
    for file, content in zip(files, layers, strict=True):
        file.write_bytes(content)
    target = folder / "unpacked"
    target.mkdir()
    found = {file.path: file.size for file in Unpacking.of_layers(files, "Image", target, limits).run()}
    there = {str(file.relative_to(target)): file.read_bytes() for file in target.rglob("*") if file.is_file()}
    assert found == {path: len(content) for path, content in there.items()}
    return there


def test_an_images_layers_replace_and_remove_what_is_below_them(tmp_path: Path) -> None:
    assert of_layers(tmp_path, *LAYERS, limits=ROOMY) == {
        "kept": b"1",
        "replaced": b"22",
        "removed": b"333",
        "emptied/b": b"22",
        "both/a": b"22",
        "other": b"22",
    }


def test_a_later_layer_removes_the_whole_model(tmp_path: Path) -> None:
    again = tar_of((".wh.models", b"", FILE), ("models/m", b"x", FILE))
    assert of_layers(tmp_path, *LAYERS, again, limits=ROOMY) == {"m": b"x"}


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (tar_of(("models/link", b"", tarfile.SYMTYPE)), "only regular files"),
        (tar_of(("models/../../x", b"1", FILE)), "could leave"),
        (tar_of(("opt/model", b"1", FILE)), "holds no file below /models"),
        (tar_of(("models/a", b"1", FILE), ("models/a", b"1", FILE)), "the same path twice"),
        (b"no tar", "cannot be unpacked"),
        (tar_of(*((f"models/{number}", b"1", FILE) for number in range(LIMITS.max_files + 1))), "entries"),
        (gzip.compress(tar_of(("models/a", bytes(LIMITS.max_bytes + 1), FILE))), "unpacks to more than"),
    ],
)
def test_what_an_image_may_not_hold(tmp_path: Path, layer: bytes, said: str) -> None:
    with pytest.raises(StorageError) as caught:
        of_layers(tmp_path, layer)
    assert said in caught.value.message

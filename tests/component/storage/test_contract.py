"""What each scheme of storage promises, held by a real one, behind a proxy where a server is to misbehave."""

import asyncio
import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from shoal_agent.storage import Limits, Listing, StorageError
from shoal_agent.storage.fetching import AT_ONCE
from shoal_api.storage_uri import StorageUri

from tests.component.agent.parts import eventually

from .backends import Backend, Store
from .pods import Pod
from .proxy import Faults, authority, proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")
NewPod = Callable[[], Pod]


async def test_one_object_and_a_folder_and_no_neighbour(store: Store, pod: Pod) -> None:
    store.put("one/m.joblib", b"one")
    store.put("one/deep/er/file", b"two")
    store.put("one0/m.joblib", b"neighbour")
    assert await pod.pull(store.uri("one")) == {"m.joblib": b"one", "deep/er/file": b"two"}
    assert await pod.pull(store.uri("one/m.joblib")) == {"m.joblib": b"one"}


async def test_a_folder_of_many_objects(store: Store, pod: Pod) -> None:
    files = {f"{number:04}": str(number).encode() for number in range(store.many)}
    with_clients = [asyncio.to_thread(store.put, f"many/{name}", content) for name, content in files.items()]
    await asyncio.gather(*with_clients)
    assert await pod.pull(store.uri("many")) == files


async def test_markers_and_odd_keys_and_empty_files(store: Store, pod: Pod) -> None:
    odd = ["1/Model Card +1=ü%20.png", "a#b?c&d", "~x", "percent%2F", "quote'\"", "empty"]
    for name in odd:
        store.put(f"Churn Model + 2024/run=1/{name}", b"" if name == "empty" else name.encode())
    for marker in ("Churn Model + 2024/run=1/", "Churn Model + 2024/run=1/1/"):
        store.mark(marker)
    found = await pod.pull(store.uri("Churn Model + 2024/run=1"))
    assert found == {name: b"" if name == "empty" else name.encode() for name in odd}


async def test_what_is_missing_is_named(store: Store, pod: Pod) -> None:
    error = await pod.refused(store.uri("nothing/here"))
    assert error.reason == "ArtifactNotFound"
    assert ("404" if store.scheme != "pvc" else "There is no file") in error.message
    assert store.uri("nothing/here").rpartition("://")[2] in error.message
    error = await pod.refused(store.missing_bucket)
    assert (error.reason, "no-such-bucket" in error.message) == (store.missing_reason, True)


@pytest.mark.parametrize("number", [0, 1])
async def test_wrong_credentials_are_said_and_mended(server: Backend, new_pod: NewPod, number: int) -> None:
    server.put("keys/m", b"x")
    pod = server.admit(new_pod(), wrong=server.wrong[number])
    error = await pod.refused(server.uri("keys"))
    assert (error.reason, "Secret 'storage'" in error.message) == ("StorageCredentialsInvalid", True)
    assert server.admit(pod) is pod
    assert await pod.pull(server.uri("keys")) == {"m": b"x"}


async def test_rotated_credentials_are_used_at_once(server: Backend, new_pod: NewPod) -> None:
    server.put("rotated/a/m", b"a")
    server.put("rotated/b/m", b"b")
    pod = server.admit(new_pod())
    assert await pod.pull(server.uri("rotated/a")) == {"m": b"a"}
    server.admit(pod, wrong=server.wrong[0])
    await pod.read_secrets()
    assert (await pod.refused(server.uri("rotated/b"))).reason == "StorageCredentialsInvalid"
    server.admit(pod)
    await pod.read_secrets()
    assert await pod.pull(server.uri("rotated/b")) == {"m": b"b"}


async def test_a_server_that_is_not_there(server: Backend, new_pod: NewPod) -> None:
    error = await server.admit(new_pod(), "http://127.0.51.3:9").refused(server.uri("m"))
    assert (error.reason, "refused" in error.message.lower()) == ("StorageUnreachable", True)
    error = await server.admit(new_pod(), "http://no-such-host.invalid").refused(server.uri("m"))
    assert (error.reason, "no-such-host.invalid" in error.message) == ("StorageUnreachable", True)


async def test_a_server_that_throttles_and_cuts_bodies_off_costs_a_few_requests_more(
    server: Backend, new_pod: NewPod
) -> None:
    files = {f"{number:02}": bytes([number]) * 10_000 for number in range(50)}
    for name, content in files.items():
        server.put(f"faulty/{name}", content)
    faults = Faults(throttle=5, cut=5)
    async with proxy(server.endpoint, faults) as endpoint:
        assert await server.admit(new_pod(), endpoint).pull(server.uri("faulty")) == files
    assert faults.seen["object"] == 60


async def test_a_large_object_comes_in_parts_side_by_side_and_goes_on_where_it_broke_off(
    server: Backend, new_pod: NewPod
) -> None:
    content = bytes(range(256)) * (100 * 1024 * 4)  # 100 MiB
    server.put("large/m", content)
    faults = Faults(cut=2)
    async with proxy(server.endpoint, faults) as endpoint:
        assert await server.admit(new_pod(), endpoint).pull(server.uri("large")) == {"m": content}
    assert faults.most > 1
    assert faults.seen["object"] == 6


async def overwritten(pod: Pod, store: Store, key: str) -> dict[str, bytes] | StorageError:
    """What comes of a pull whose object changes between its listing and its fetch."""
    source = pod.sources[store.scheme]
    find = source.find

    async def find_and_overwrite(uri: StorageUri, limits: Limits) -> Listing:
        listing = await find(uri, limits)
        store.put(key, b"after!")
        return listing

    source.find = find_and_overwrite  # type: ignore[method-assign]
    try:
        return await pod.pull(store.uri(key)) if store.pinned else await pod.refused(store.uri(key))
    finally:
        source.find = find  # type: ignore[method-assign]


async def test_an_object_that_is_overwritten_meanwhile_is_never_mixed(store: Store, pod: Pod) -> None:
    store.put("changing/m", b"before")
    found = await overwritten(pod, store, "changing/m")
    if isinstance(found, StorageError):
        assert found.reason == "ArtifactChanged"
    else:
        assert found == {"m": b"before"}
    assert await pod.pull(store.uri("changing")) == {"m": b"after!"}


@pytest.mark.parametrize("content", [b"before", b"longer", b"short"])
async def test_a_server_that_does_not_know_if_match_is_not_believed(
    server: Backend, new_pod: NewPod, content: bytes
) -> None:
    server.put("believed/m", b"before")
    async with proxy(server.endpoint, Faults(instead=(content, '"another"'))) as endpoint:
        pod = server.admit(new_pod(), endpoint)
        if server.verified and content == b"before":
            assert await pod.pull(server.uri("believed")) == {"m": content}
        else:
            assert (await pod.refused(server.uri("believed"))).reason == "ArtifactChanged"


async def test_two_secrets_on_one_bucket_and_one_name_on_two_stores(server: Backend, new_pod: NewPod) -> None:
    """Access belongs to a listing, whatever is listed meanwhile."""
    for number in range(40):
        server.put(f"shared/{number}/m", str(number).encode())
    pod = server.admit(server.admit(new_pod(), name="a-other", wrong=server.wrong[0]))
    found = await asyncio.gather(*(pod.pull(server.uri(f"shared/{number}")) for number in range(40)))
    assert found == [{"m": str(number).encode()} for number in range(40)]


async def test_a_cancelled_pull_ends_at_once_and_is_gone_on_with(server: Backend, new_pod: NewPod) -> None:
    content = b"z" * (80 << 20)
    server.put("cancelled/m", content)
    faults = Faults(hold=asyncio.Event())
    async with proxy(server.endpoint, faults) as endpoint:
        pod = server.admit(new_pod(), endpoint)
        task = asyncio.create_task(pod.pull(server.uri("cancelled")))
        await eventually(lambda: faults.running == 3, 10, "three parts")
        await asyncio.sleep(0.5)
        started = time.monotonic()
        task.cancel()
        await asyncio.wait({task})
        assert time.monotonic() - started < 1
        faults.hold = None
        assert await pod.pull(server.uri("cancelled")) == {"m": content}


async def test_a_slow_server_is_asked_for_much_at_once(server: Backend, new_pod: NewPod) -> None:
    for number in range(200):
        server.put(f"slow/{number}", str(number).encode())
    faults = Faults(delay=0.05)
    async with proxy(server.endpoint, faults) as endpoint:
        assert len(await server.admit(new_pod(), endpoint).pull(server.uri("slow"))) == 200
    assert 16 < faults.most <= AT_ONCE, "the connections of one artifact"


async def test_archives_are_unpacked(store: Store, pod: Pod) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("churn/model.joblib", "churn/._model.joblib"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    store.put("packed/churn.tar.gz", packed.getvalue())
    assert await pod.pull(store.uri("packed/churn.tar.gz")) == {"model.joblib": b"abc"}
    assert await pod.pull(store.uri("packed/")) == {"model.joblib": b"abc"}
    store.put("packed/broken.zip", b"no zip")
    error = await pod.refused(store.uri("packed/broken.zip"))
    assert (error.reason, "'broken.zip'" in error.message) == ("ArtifactInvalid", True)


async def test_a_ca_of_its_own(server: Backend, new_pod: NewPod, tmp_path: Path) -> None:
    server.put("tls/m", b"x")
    context, bundle = authority(tmp_path / "tls", own=False)
    async with proxy(server.endpoint, Faults(), context) as endpoint:
        error = await server.admit(new_pod(), endpoint).refused(server.uri("tls"))
        assert (error.reason, "CA" in error.message) == ("StorageUnreachable", True)
        trusting = server.admit(new_pod(), endpoint, authority=bundle.read_text())
        assert await trusting.pull(server.uri("tls")) == {"m": b"x"}

"""What each scheme of object stores promises, held by a real one, behind a proxy where it is to misbehave."""

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

from .backends import Backend
from .pods import Pod
from .proxy import Faults, authority, proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")
NewPod = Callable[[], Pod]


async def test_one_object_and_a_folder_and_no_neighbour(store: Backend, pod: Pod) -> None:
    store.put("one/m.joblib", b"one")
    store.put("one/deep/er/file", b"two")
    store.put("one0/m.joblib", b"neighbour")
    assert await pod.pull(store.uri("one")) == {"m.joblib": b"one", "deep/er/file": b"two"}
    assert await pod.pull(store.uri("one/m.joblib")) == {"m.joblib": b"one"}


async def test_2500_objects(store: Backend, pod: Pod) -> None:
    files = {f"{number:04}": str(number).encode() for number in range(2500)}
    with_clients = [asyncio.to_thread(store.put, f"many/{name}", content) for name, content in files.items()]
    await asyncio.gather(*with_clients)
    assert await pod.pull(store.uri("many")) == files


async def test_markers_and_odd_keys_and_empty_files(store: Backend, pod: Pod) -> None:
    odd = ["1/Model Card +1=ü%20.png", "a#b?c&d", "~x", "percent%2F", "quote'\"", "empty"]
    for name in odd:
        store.put(f"Churn Model + 2024/run=1/{name}", b"" if name == "empty" else name.encode())
    for marker in ("Churn Model + 2024/run=1/", "Churn Model + 2024/run=1/1/"):
        store.mark(marker)
    found = await pod.pull(store.uri("Churn Model + 2024/run=1"))
    assert found == {name: b"" if name == "empty" else name.encode() for name in odd}


async def test_what_is_missing_is_named(store: Backend, pod: Pod) -> None:
    error = await pod.refused(store.uri("nothing/here"))
    assert (error.reason, "404" in error.message, "nothing/here" in error.message) == ("ArtifactNotFound", True, True)
    error = await pod.refused(store.missing_bucket)
    assert (error.reason, "'no-such-bucket'" in error.message) == ("BucketNotFound", True)


@pytest.mark.parametrize("number", [0, 1])
async def test_wrong_credentials_are_said_and_mended(store: Backend, new_pod: NewPod, number: int) -> None:
    store.put("keys/m", b"x")
    pod = store.admit(new_pod(), wrong=store.wrong[number])
    error = await pod.refused(store.uri("keys"))
    assert (error.reason, "Secret 'storage'" in error.message) == ("StorageCredentialsInvalid", True)
    assert store.admit(pod) is pod
    assert await pod.pull(store.uri("keys")) == {"m": b"x"}


async def test_rotated_credentials_are_used_at_once(store: Backend, new_pod: NewPod) -> None:
    store.put("rotated/a/m", b"a")
    store.put("rotated/b/m", b"b")
    pod = store.admit(new_pod())
    assert await pod.pull(store.uri("rotated/a")) == {"m": b"a"}
    store.admit(pod, wrong=store.wrong[0])
    await pod.read_secrets()
    assert (await pod.refused(store.uri("rotated/b"))).reason == "StorageCredentialsInvalid"
    store.admit(pod)
    await pod.read_secrets()
    assert await pod.pull(store.uri("rotated/b")) == {"m": b"b"}


async def test_a_server_that_is_not_there(store: Backend, new_pod: NewPod) -> None:
    error = await store.admit(new_pod(), "http://127.0.51.3:9").refused(store.uri("m"))
    assert (error.reason, "refused" in error.message.lower()) == ("StorageUnreachable", True)
    error = await store.admit(new_pod(), "http://no-such-host.invalid").refused(store.uri("m"))
    assert (error.reason, "no-such-host.invalid" in error.message) == ("StorageUnreachable", True)


async def test_a_server_that_throttles_and_cuts_bodies_off_costs_a_few_requests_more(
    store: Backend, new_pod: NewPod
) -> None:
    files = {f"{number:02}": bytes([number]) * 10_000 for number in range(50)}
    for name, content in files.items():
        store.put(f"faulty/{name}", content)
    faults = Faults(throttle=5, cut=5)
    async with proxy(store.endpoint, faults) as endpoint:
        assert await store.admit(new_pod(), endpoint).pull(store.uri("faulty")) == files
    assert faults.seen["object"] == 60


async def test_a_large_object_comes_in_parts_side_by_side_and_goes_on_where_it_broke_off(
    store: Backend, new_pod: NewPod
) -> None:
    content = bytes(range(256)) * (100 * 1024 * 4)  # 100 MiB
    store.put("large/m", content)
    faults = Faults(cut=2)
    async with proxy(store.endpoint, faults) as endpoint:
        assert await store.admit(new_pod(), endpoint).pull(store.uri("large")) == {"m": content}
    assert faults.most > 1
    assert faults.seen["object"] == 6


async def overwritten(pod: Pod, store: Backend, key: str) -> StorageError:
    """The error of a pull whose object changes between its listing and its fetch."""
    source = pod.sources[store.scheme]
    find = source.find

    async def find_and_overwrite(uri: StorageUri, limits: Limits) -> Listing:
        listing = await find(uri, limits)
        store.put(key, b"after!")
        return listing

    source.find = find_and_overwrite  # type: ignore[method-assign]
    try:
        return await pod.refused(store.uri(key))
    finally:
        source.find = find  # type: ignore[method-assign]


async def test_an_object_that_is_overwritten_meanwhile_is_refused(store: Backend, pod: Pod) -> None:
    store.put("changing/m", b"before")
    assert (await overwritten(pod, store, "changing/m")).reason == "ArtifactChanged"
    assert await pod.pull(store.uri("changing")) == {"m": b"after!"}


@pytest.mark.parametrize("content", [b"before", b"longer", b"short"])
async def test_a_server_that_does_not_know_if_match_is_not_believed(
    store: Backend, new_pod: NewPod, content: bytes
) -> None:
    store.put("believed/m", b"before")
    async with proxy(store.endpoint, Faults(instead=(content, '"another"'))) as endpoint:
        pod = store.admit(new_pod(), endpoint)
        assert (await pod.refused(store.uri("believed"))).reason == "ArtifactChanged"


async def test_two_secrets_on_one_bucket_and_one_name_on_two_stores(store: Backend, new_pod: NewPod) -> None:
    """Access belongs to a listing, whatever is listed meanwhile."""
    for number in range(40):
        store.put(f"shared/{number}/m", str(number).encode())
    pod = store.admit(store.admit(new_pod(), name="a-other", wrong=store.wrong[0]))
    found = await asyncio.gather(*(pod.pull(store.uri(f"shared/{number}")) for number in range(40)))
    assert found == [{"m": str(number).encode()} for number in range(40)]


async def test_a_cancelled_pull_ends_at_once_and_is_gone_on_with(store: Backend, new_pod: NewPod) -> None:
    content = b"z" * (80 << 20)
    store.put("cancelled/m", content)
    faults = Faults(hold=asyncio.Event())
    async with proxy(store.endpoint, faults) as endpoint:
        pod = store.admit(new_pod(), endpoint)
        task = asyncio.create_task(pod.pull(store.uri("cancelled")))
        await eventually(lambda: faults.running == 3, 10, "three parts")
        await asyncio.sleep(0.5)
        started = time.monotonic()
        task.cancel()
        await asyncio.wait({task})
        assert time.monotonic() - started < 1
        faults.hold = None
        assert await pod.pull(store.uri("cancelled")) == {"m": content}


async def test_a_slow_server_is_asked_for_much_at_once(store: Backend, new_pod: NewPod) -> None:
    for number in range(200):
        store.put(f"slow/{number}", str(number).encode())
    faults = Faults(delay=0.05)
    async with proxy(store.endpoint, faults) as endpoint:
        assert len(await store.admit(new_pod(), endpoint).pull(store.uri("slow"))) == 200
    assert 16 < faults.most <= AT_ONCE, "the connections of one artifact"


async def test_archives_are_unpacked(store: Backend, pod: Pod) -> None:
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


async def test_a_ca_of_its_own(store: Backend, new_pod: NewPod, tmp_path: Path) -> None:
    store.put("tls/m", b"x")
    context, bundle = authority(tmp_path / "tls", own=False)
    async with proxy(store.endpoint, Faults(), context) as endpoint:
        error = await store.admit(new_pod(), endpoint).refused(store.uri("tls"))
        assert (error.reason, "CA" in error.message) == ("StorageUnreachable", True)
        trusting = store.admit(new_pod(), endpoint, authority=bundle.read_text())
        assert await trusting.pull(store.uri("tls")) == {"m": b"x"}

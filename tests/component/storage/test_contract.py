"""What a scheme promises, held by a real S3 server: versitygw, behind a proxy where it is to misbehave."""

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

from tests.component.agent.parts import ACCESS_KEY, BUCKET, Storage, eventually

from .conftest import Pod
from .proxy import Faults, authority, proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")
NewPod = Callable[[], Pod]


async def refused(pod: Pod, uri: str) -> StorageError:
    with pytest.raises(StorageError) as caught:
        await pod.cache.pull(uri)
    return caught.value


async def test_one_object_and_a_folder_and_no_neighbour(s3: Storage, pod: Pod) -> None:
    s3.put("one/m.joblib", b"one")
    s3.put("one/deep/er/file", b"two")
    s3.put("one0/m.joblib", b"neighbour")
    assert await pod.pull(f"s3://{BUCKET}/one") == {"m.joblib": b"one", "deep/er/file": b"two"}
    assert await pod.pull(f"s3://{BUCKET}/one/m.joblib") == {"m.joblib": b"one"}


async def test_2500_objects(s3: Storage, pod: Pod) -> None:
    files = {f"{number:04}": str(number).encode() for number in range(2500)}
    with_clients = [asyncio.to_thread(s3.put, f"many/{name}", content) for name, content in files.items()]
    await asyncio.gather(*with_clients)
    assert await pod.pull(f"s3://{BUCKET}/many") == files


async def test_markers_and_odd_keys_and_empty_files(s3: Storage, pod: Pod) -> None:
    odd = ["1/Model Card +1=ü%20.png", "a#b?c&d", "~x", "percent%2F", "quote'\"", "empty"]
    for name in odd:
        s3.put(f"Churn Model + 2024/run=1/{name}", b"" if name == "empty" else name.encode())
    for marker in ("Churn Model + 2024/run=1/", "Churn Model + 2024/run=1/1/"):
        s3.client.put_object(Bucket=BUCKET, Key=marker, Body=b"")
    found = await pod.pull(f"s3://{BUCKET}/Churn Model + 2024/run=1")
    assert found == {name: b"" if name == "empty" else name.encode() for name in odd}


async def test_what_is_missing_is_named(pod: Pod) -> None:
    error = await refused(pod, f"s3://{BUCKET}/nothing/here")
    assert (error.reason, "404" in error.message, "nothing/here" in error.message) == ("ArtifactNotFound", True, True)
    error = await refused(pod, "s3://no-such-bucket/m")
    assert (error.reason, "'no-such-bucket'" in error.message) == ("BucketNotFound", True)


@pytest.mark.parametrize(("key", "secret"), [("nobody", "x"), (ACCESS_KEY, "wrong")])
async def test_wrong_keys_are_said_and_mended(s3: Storage, new_pod: NewPod, key: str, secret: str) -> None:
    s3.put("keys/m", b"x")
    pod = new_pod()
    pod.secret("storage", s3.endpoint, key, secret)
    error = await refused(pod, f"s3://{BUCKET}/keys")
    assert (error.reason, "Secret 'storage'" in error.message) == ("StorageCredentialsInvalid", True)
    pod.secret("storage", s3.endpoint)
    assert await pod.pull(f"s3://{BUCKET}/keys") == {"m": b"x"}


async def test_no_keys_is_no_state(
    s3: Storage, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The chain of credentials found none once; a minute later it does."""
    s3.put("chain/m", b"x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    pod = new_pod()
    pod.secret("storage", s3.endpoint, "", "")
    error = await refused(pod, f"s3://{BUCKET}/chain")
    assert (error.reason, "No S3 credentials" in error.message) == ("StorageCredentialsInvalid", True)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "shoal-test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "shoal-test-secret")
    assert await pod.pull(f"s3://{BUCKET}/chain") == {"m": b"x"}


async def test_a_server_that_is_not_there(new_pod: NewPod) -> None:
    error = await refused(new_pod().secret("storage", "http://127.0.51.3:9"), f"s3://{BUCKET}/m")
    assert (error.reason, "refused" in error.message.lower()) == ("StorageUnreachable", True)
    error = await refused(new_pod().secret("storage", "http://no-such-host.invalid"), f"s3://{BUCKET}/m")
    assert (error.reason, "no-such-host.invalid" in error.message) == ("StorageUnreachable", True)


async def test_a_server_that_throttles_and_cuts_bodies_off_costs_a_few_requests_more(
    s3: Storage, new_pod: NewPod
) -> None:
    files = {f"{number:02}": bytes([number]) * 10_000 for number in range(50)}
    for name, content in files.items():
        s3.put(f"faulty/{name}", content)
    faults = Faults(throttle=5, cut=5)
    async with proxy(s3.endpoint, faults) as endpoint:
        assert await new_pod().secret("storage", endpoint).pull(f"s3://{BUCKET}/faulty") == files
    assert faults.seen["object"] == 60


async def test_a_large_object_comes_in_parts_side_by_side_and_goes_on_where_it_broke_off(
    s3: Storage, new_pod: NewPod
) -> None:
    content = bytes(range(256)) * (100 * 1024 * 4)  # 100 MiB
    s3.put("large/m", content)
    faults = Faults(cut=2)
    async with proxy(s3.endpoint, faults) as endpoint:
        assert await new_pod().secret("storage", endpoint).pull(f"s3://{BUCKET}/large") == {"m": content}
    assert faults.most > 1
    assert faults.seen["object"] == 6


async def overwritten(pod: Pod, s3: Storage, key: str) -> StorageError:
    """The error of a pull whose object changes between its listing and its fetch."""
    find = pod.source.find

    async def find_and_overwrite(uri: StorageUri, limits: Limits) -> Listing:
        listing = await find(uri, limits)
        s3.put(key, b"after!")
        return listing

    pod.source.find = find_and_overwrite  # type: ignore[method-assign]
    try:
        return await refused(pod, f"s3://{BUCKET}/{key}")
    finally:
        pod.source.find = find  # type: ignore[method-assign]


async def test_an_object_that_is_overwritten_meanwhile_is_refused(s3: Storage, pod: Pod) -> None:
    s3.put("changing/m", b"before")
    assert (await overwritten(pod, s3, "changing/m")).reason == "ArtifactChanged"
    assert await pod.pull(f"s3://{BUCKET}/changing") == {"m": b"after!"}


@pytest.mark.parametrize("content", [b"before", b"longer", b"short"])
async def test_a_server_that_does_not_know_if_match_is_not_believed(
    s3: Storage, new_pod: NewPod, content: bytes
) -> None:
    s3.put("believed/m", b"before")
    async with proxy(s3.endpoint, Faults(instead=(content, '"another"'))) as endpoint:
        pod = new_pod().secret("storage", endpoint)
        assert (await refused(pod, f"s3://{BUCKET}/believed")).reason == "ArtifactChanged"


@pytest.mark.parametrize("own", [False, True])
async def test_a_ca_of_its_own(s3: Storage, new_pod: NewPod, tmp_path: Path, own: bool) -> None:
    """Also where the certificate is its own authority, which one of the two libraries does not take."""
    s3.put("tls/m", b"x")
    context, bundle = authority(tmp_path / "tls", own=own)
    async with proxy(s3.endpoint, Faults(), context) as endpoint:
        error = await refused(new_pod().secret("storage", endpoint), f"s3://{BUCKET}/tls")
        assert (error.reason, "s3-cabundle" in error.message) == ("StorageUnreachable", True)
        trusting = new_pod().secret("storage", endpoint, cabundle="ca.pem")
        (trusting.folder / "secrets" / "storage" / "ca.pem").write_bytes(bundle.read_bytes())
        assert await trusting.pull(f"s3://{BUCKET}/tls") == {"m": b"x"}
        careless = new_pod().secret("storage", endpoint, verifyssl="0")
        assert await careless.pull(f"s3://{BUCKET}/tls") == {"m": b"x"}


async def test_two_secrets_on_one_bucket_and_one_name_on_two_stores(s3: Storage, new_pod: NewPod) -> None:
    """Access belongs to a listing, whatever is listed meanwhile."""
    for number in range(40):
        s3.put(f"shared/{number}/m", str(number).encode())
    pod = new_pod().secret("a-other", s3.endpoint, "nobody", "x").secret("storage", s3.endpoint)
    found = await asyncio.gather(*(pod.pull(f"s3://{BUCKET}/shared/{number}") for number in range(40)))
    assert found == [{"m": str(number).encode()} for number in range(40)]


async def test_a_cancelled_pull_ends_at_once_and_is_gone_on_with(s3: Storage, new_pod: NewPod) -> None:
    content = b"z" * (80 << 20)
    s3.put("cancelled/m", content)
    faults = Faults(hold=asyncio.Event())
    async with proxy(s3.endpoint, faults) as endpoint:
        pod = new_pod().secret("storage", endpoint)
        task = asyncio.create_task(pod.pull(f"s3://{BUCKET}/cancelled"))
        await eventually(lambda: faults.running == 3, 10, "three parts")
        await asyncio.sleep(0.5)
        started = time.monotonic()
        task.cancel()
        await asyncio.wait({task})
        assert time.monotonic() - started < 1
        faults.hold = None
        assert await pod.pull(f"s3://{BUCKET}/cancelled") == {"m": content}


async def test_a_slow_server_is_asked_for_much_at_once(s3: Storage, new_pod: NewPod) -> None:
    for number in range(200):
        s3.put(f"slow/{number}", str(number).encode())
    faults = Faults(delay=0.05)
    async with proxy(s3.endpoint, faults) as endpoint:
        assert len(await new_pod().secret("storage", endpoint).pull(f"s3://{BUCKET}/slow")) == 200
    assert 16 < faults.most <= AT_ONCE, "the connections of one artifact"


async def test_archives_are_unpacked(s3: Storage, pod: Pod) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("churn/model.joblib", "churn/._model.joblib"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    s3.put("packed/churn.tar.gz", packed.getvalue())
    assert await pod.pull(f"s3://{BUCKET}/packed/churn.tar.gz") == {"model.joblib": b"abc"}
    assert await pod.pull(f"s3://{BUCKET}/packed/") == {"model.joblib": b"abc"}
    s3.put("packed/broken.zip", b"no zip")
    error = await refused(pod, f"s3://{BUCKET}/packed/broken.zip")
    assert (error.reason, "'broken.zip'" in error.message) == ("ArtifactInvalid", True)


async def test_equal_content_is_on_disk_once(s3: Storage, pod: Pod) -> None:
    s3.put("copies/a/m", b"same")
    s3.put("copies/b/m", b"same")
    first, second = [await pod.cache.pull(f"s3://{BUCKET}/copies/{name}") for name in "ab"]
    assert (first.artifact, second.fetched_bytes) == (second.artifact, 0)

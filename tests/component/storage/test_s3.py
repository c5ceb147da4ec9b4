"""What only S3 promises, held by versitygw."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.component.agent.parts import ACCESS_KEY, BUCKET, SECRET_KEY, Storage

from .pods import Pod
from .proxy import Faults, authority, proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")
NewPod = Callable[[], Pod]
KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


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
    pod = new_pod().secret("storage", {}, {"s3-endpoint": s3.endpoint})
    error = await pod.refused(f"s3://{BUCKET}/chain")
    assert (error.reason, "No S3 credentials" in error.message) == ("StorageCredentialsInvalid", True)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "shoal-test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "shoal-test-secret")
    assert await pod.pull(f"s3://{BUCKET}/chain") == {"m": b"x"}


@pytest.mark.parametrize("own", [False, True])
async def test_a_ca_of_its_own(s3: Storage, new_pod: NewPod, tmp_path: Path, own: bool) -> None:
    """Also where the certificate is its own authority, which one of the two libraries does not take."""
    s3.put("tls/m", b"x")
    context, bundle = authority(tmp_path / "tls", own=own)
    async with proxy(s3.endpoint, Faults(), context) as endpoint:
        error = await new_pod().secret("storage", KEYS, {"s3-endpoint": endpoint}).refused(f"s3://{BUCKET}/tls")
        assert (error.reason, "s3-cabundle" in error.message) == ("StorageUnreachable", True)
        keys = {**KEYS, "ca.pem": bundle.read_text()}
        trusting = new_pod().secret("storage", keys, {"s3-endpoint": endpoint, "s3-cabundle": "ca.pem"})
        assert await trusting.pull(f"s3://{BUCKET}/tls") == {"m": b"x"}
        careless = new_pod().secret("storage", KEYS, {"s3-endpoint": endpoint, "s3-verifyssl": "0"})
        assert await careless.pull(f"s3://{BUCKET}/tls") == {"m": b"x"}


async def test_equal_content_is_on_disk_once(s3: Storage, new_pod: NewPod) -> None:
    pod = new_pod().secret("storage", KEYS, {"s3-endpoint": s3.endpoint})
    s3.put("copies/a/m", b"same")
    s3.put("copies/b/m", b"same")
    first, second = [await pod.cache.pull(f"s3://{BUCKET}/copies/{name}") for name in "ab"]
    assert (first.artifact, second.fetched_bytes) == (second.artifact, 0)

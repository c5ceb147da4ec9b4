"""What only ``gs://`` promises, held by fake-gcs-server behind the checks of ``gcs.py``."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .gcs import KEY_FILE, PUBLIC, Gcs
from .pods import Pod

pytestmark = pytest.mark.asyncio(loop_scope="session")
NewPod = Callable[[], Pod]


def host(endpoint: str) -> str:
    return endpoint.partition("://")[2]


async def test_a_service_account_that_may_not_is_told_which_role_it_lacks(gcs: Gcs, new_pod: NewPod) -> None:
    gcs.put("denied/m", b"x")
    error = await gcs.admit(new_pod(), wrong="stranger").refused(gcs.uri("denied"))
    assert error.reason == "StorageAccessDenied"
    for words in ("403 AccessDenied", "gs://models/denied/", gcs.endpoint, "Secret 'storage'", "Storage Object Viewer"):
        assert words in error.message


async def test_a_public_bucket_needs_no_secret(gcs: Gcs, tmp_path: Path) -> None:
    """KServe's samples are in such a one. An emulator is named as Google's libraries have it."""
    gcs.put("samples/model.joblib", b"x", PUBLIC)
    pod = Pod(tmp_path / "pod", {"STORAGE_EMULATOR_HOST": host(gcs.endpoint)})
    assert await pod.pull(f"gs://{PUBLIC}/samples") == {"model.joblib": b"x"}
    gcs.put("samples/model.joblib", b"x")
    error = await pod.refused(gcs.uri("samples"))
    assert (error.reason, KEY_FILE in error.message) == ("StorageAccessDenied", True)


async def test_without_a_secret_the_pods_identity_is_used(
    gcs: Gcs, new_pod: NewPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a metadata server of our own; that of a real cloud is not shown. The key's file names the endpoint here, since
    a token of the pod's goes to Google alone."""
    gcs.put("identity/m", b"x")
    monkeypatch.setenv("GCE_METADATA_HOST", host(gcs.endpoint))
    monkeypatch.setenv("GOOGLE_BASE_URL", gcs.endpoint)
    assert await new_pod().pull(gcs.uri("identity")) == {"m": b"x"}
    assert gcs.identities_asked > 0


async def test_a_token_of_the_pods_goes_nowhere_else(gcs: Gcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", host(gcs.endpoint))
    before = gcs.identities_asked
    error = await Pod(tmp_path / "pod", {"STORAGE_EMULATOR_HOST": gcs.endpoint}).refused(gcs.uri("identity"))
    assert (error.reason, gcs.identities_asked) == ("StorageAccessDenied", before)


async def test_no_secret_and_no_identity_is_said(new_pod: NewPod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.51.3:9")
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.51.3:9")
    monkeypatch.setenv("GOOGLE_BASE_URL", "http://127.0.51.3:9")
    error = await new_pod().refused("gs://models/m")
    assert error.reason == "StorageUnreachable"


@pytest.mark.parametrize("of_type", ["gs", "gcs"])
async def test_by_key_and_path(gcs: Gcs, new_pod: NewPod, of_type: str) -> None:
    """KServe's name of the type and ModelMesh's, with ModelMesh's fields."""
    gcs.put("entry/m", b"x")
    key = json.loads(gcs.key_file())
    entry = {name: key[name] for name in ("client_email", "private_key", "token_uri")}
    pod = new_pod().entry("mine", {**entry, "type": of_type, "bucket": "models", "endpoint_url": gcs.endpoint})
    assert await pod.pull("storage://mine/entry") == {"m": b"x"}
    pod.entry("nobody", {"type": of_type, "bucket": "models", "endpoint_url": gcs.endpoint})
    error = await pod.refused("storage://nobody/entry")
    assert (error.reason, "entry 'nobody'" in error.message) == ("StorageAccessDenied", True)


async def test_a_key_with_an_empty_segment_is_refused_by_name(gcs: Gcs, new_pod: NewPod) -> None:
    gcs.put("segments//m", b"x")
    error = await gcs.admit(new_pod()).refused(gcs.uri("segments"))
    assert (error.reason, "segments//m" in error.message) == ("ArtifactInvalid", True)


async def test_an_object_that_google_would_decompress_is_refused_by_name(gcs: Gcs, new_pod: NewPod) -> None:
    """Its size, which a listing tells, is not that of what it stands for."""
    gcs.put("encoded/m", gzip.compress(b"content" * 1000), encoding="gzip")
    error = await gcs.admit(new_pod()).refused(gcs.uri("encoded"))
    assert (error.reason, "encoded/m" in error.message, "gzip" in error.message) == ("ArtifactInvalid", True, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "no JSON object"),
        ('{"type": "external_account"}', "type 'external_account'"),
        ('{"type": "service_account", "client_email": "a@b"}', "no private_key"),
        ('{"client_email": "a@b", "private_key": "hidden"}', "cannot be used"),
    ],
)
async def test_a_key_file_that_is_none_is_said(gcs: Gcs, new_pod: NewPod, content: str, words: str) -> None:
    pod = new_pod().secret("storage", {KEY_FILE: content}, {"gcs-endpoint": gcs.endpoint})
    error = await pod.refused(gcs.uri("m"))
    assert (error.reason, "Secret 'storage'" in error.message) == ("StorageCredentialsInvalid", True)
    assert words in error.message
    assert "hidden" not in error.message

"""Endpoints, keys and regions that no request can have are said before a store is asked."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import GenericError
from obstore.store import S3Store
from shoal_agent.storage import StorageError
from shoal_agent.storage.azure import AzureType
from shoal_agent.storage.azure_access import AzureAccess
from shoal_agent.storage.credentials import S3Access
from shoal_agent.storage.gcs import GcsType
from shoal_agent.storage.gcs_access import GcsAccess
from shoal_agent.storage.s3_stores import new_store
from shoal_agent.storage.sayable import refuse_endpoint
from shoal_agent.storage.stores import ObstoreBucket


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://minio:9000",
        "https://s3.eu-central-1.amazonaws.com",
        "http://minio_1:9000",
        "http://[::1]:9000",
        "https://store.example/s3",
        "http://127.0.0.1:1",
    ],
)
def test_endpoints_of_stores(endpoint: str) -> None:
    refuse_endpoint(endpoint, "Secret 'a'")
    assert new_store(S3Access("Secret 'a'", endpoint=endpoint, access_key="k", secret_key="s"), "models", 4)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://x:99999",
        "http://x:0",
        "http://",
        "http://:9",
        "http://x y",
        "http://[::1",
        "http://[zz]",
        "http:////x",
        "ftp://x",
        "http://user:word@x",
        "http://x/?a=b",
        "http://x/#a",
        "http://é.example",
        "http://x\x00",
        "http://x:9\r\nX: y",
        "http://x:abc",
        "http://..",
        "http://" + "a" * 300,
    ],
)
def test_what_is_no_endpoint_is_said(endpoint: str) -> None:
    with pytest.raises(StorageError, match=r"The endpoint of Secret 'a' is ") as caught:
        new_store(S3Access("Secret 'a'", endpoint=endpoint, access_key="k", secret_key="s"), "models", 4)
    assert caught.value.reason == "StorageCredentialsInvalid"
    assert len(caught.value.message) < 600


@pytest.mark.parametrize("name", ["access_key", "secret_key", "session_token", "region"])
def test_what_no_header_can_have_is_said_and_not_shown(name: str) -> None:
    for value in ("hid\x01den", "hidden\nx: y", "hidden" * 5000):
        values = {"access_key": "k", "secret_key": "s", name: value}
        with pytest.raises(StorageError) as caught:
            new_store(S3Access("Secret 'a'", **values), "models", 4)
        assert caught.value.reason == "StorageCredentialsInvalid"
        assert f"The {name.replace('_', ' ')} of Secret 'a'" in caught.value.message
        assert "hid" not in caught.value.message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"endpoint": "http://x:99999"}, "The endpoint of Secret 'a' is 'http://x:99999'"),
        ({"login": "http://a b"}, "The authority host of Secret 'a'"),
        ({"tenant": "a b", "client": "c", "secret": "s"}, "The tenant of Secret 'a' is 'a b'"),
        ({"key": "a\nb"}, "The key of Secret 'a' contains a line break"),
        ({"sas": "a\x01"}, "The sas of Secret 'a' contains a line break"),
    ],
)
def test_azures_settings_likewise(tmp_path: Path, values: dict[str, str], words: str) -> None:
    azure = AzureType(tmp_path / "storage.json", tmp_path)
    with pytest.raises(StorageError) as caught:
        azure.open(AzureAccess("Secret 'a'", account="acc", **values), "models", 4, exact=False)
    assert caught.value.reason == "StorageCredentialsInvalid"
    assert caught.value.message.startswith(words)


def test_googles_endpoint_likewise(tmp_path: Path) -> None:
    google = GcsType(tmp_path / "storage.json", tmp_path, {})
    with pytest.raises(StorageError, match="The endpoint of Secret 'a'"):
        google.open(GcsAccess("Secret 'a'", endpoint="http://x:99999", anonymous=True), "models", 4, exact=False)


async def test_a_panic_of_the_library_is_a_failure_of_the_store() -> None:
    settings = {"endpoint": "http://x:99999", "access_key_id": "k", "secret_access_key": "s", "region": "eu"}
    store = ObstoreBucket(S3Store("models", config=settings, client_options={"allow_http": True}))
    with pytest.raises(GenericError, match="could not be written"):
        await store.head("m")
    with pytest.raises(GenericError, match="could not be written"):
        [entry async for entry in store.list("m/")]


@given(st.text(max_size=60))
def test_any_text_is_an_endpoint_or_is_not(endpoint: str) -> None:
    try:
        refuse_endpoint(endpoint, "Secret 'a'")
    except StorageError:
        return
    assert endpoint.startswith(("http://", "https://"))

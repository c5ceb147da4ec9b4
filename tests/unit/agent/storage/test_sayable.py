"""Endpoints, keys and regions that no request can have are said before a store is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_agent.storage import StorageError
from shoal_agent.storage.credentials import S3Access
from shoal_agent.storage.s3_stores import new_store
from shoal_agent.storage.sayable import refuse_endpoint


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


@given(st.text(max_size=60))
def test_any_text_is_an_endpoint_or_is_not(endpoint: str) -> None:
    try:
        refuse_endpoint(endpoint, "Secret 'a'")
    except StorageError:
        return
    assert endpoint.startswith(("http://", "https://"))

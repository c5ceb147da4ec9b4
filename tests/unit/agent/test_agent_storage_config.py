"""Models by an entry of the Secret storage-config, as KServe's and ModelMesh's users have it."""

import json
from pathlib import Path
from typing import Any

import pytest
from shoal_agent.storage import StorageError
from shoal_agent.storage.storage_config import configured
from shoal_api.model_storage import ModelStorage
from shoal_api.storage_uri import StorageUri, parse_storage_uri

MINIO: dict[str, Any] = {
    "type": "s3",
    "access_key_id": "key",
    "secret_access_key": "hidden",
    "endpoint_url": "http://minio:9000",
    "region": "us-south",
    "default_bucket": "models",
}


def place(folder: Path, storage: dict[str, Any], **entries: Any) -> tuple[StorageUri, Any]:
    mount = folder / "secrets" / "storage-config"
    if entries:
        mount.mkdir(parents=True, exist_ok=True)
    for key, entry in entries.items():
        (mount / key).write_text(entry if isinstance(entry, str) else json.dumps(entry))
    uri = parse_storage_uri(ModelStorage.model_validate(storage).location())
    return configured(uri, folder / "secrets")


def test_modelmeshs_entry(tmp_path: Path) -> None:
    uri, access = place(tmp_path, {"key": "localMinIO", "path": "sklearn/mnist.joblib"}, localMinIO=MINIO)
    assert (uri.scheme, uri.bucket, uri.key, uri.folder) == ("s3", "models", "sklearn/mnist.joblib", False)
    assert (access.endpoint, access.region) == ("http://minio:9000", "us-south")
    assert (access.access_key, access.secret_key) == ("key", "hidden")
    assert access.origin == "entry 'localMinIO' of Secret 'storage-config'"
    assert "hidden" not in repr(access)


def test_kserves_default_entries_and_parameters(tmp_path: Path) -> None:
    entries = {"default": {**MINIO, "bucket": "own"}, "default_s3": {**MINIO, "anonymous": True, "verify_ssl": False}}
    assert place(tmp_path, {"path": "a/"}, **entries)[0].bucket == "own"
    uri, access = place(tmp_path, {"path": "a/", "parameters": {"type": "s3", "bucket": "other", "region": "eu"}})
    assert (uri.bucket, uri.key, uri.folder) == ("other", "a", True)
    assert (access.anonymous, access.access_key, access.region, access.verify) == (True, None, "eu", False)


@pytest.mark.parametrize(
    "parameters", [{"endpoint_url": "http://elsewhere"}, {"verify_ssl": "0"}, {"certificate": "x"}, {"endpoint": "x"}]
)
def test_parameters_send_an_entrys_keys_nowhere_else(tmp_path: Path, parameters: dict[str, str]) -> None:
    with pytest.raises(StorageError) as caught:
        place(tmp_path, {"key": "a", "path": "m", "parameters": parameters}, a=MINIO)
    assert caught.value.reason == "StorageUriInvalid"
    assert f"storage.parameters.{next(iter(parameters))} is another than that of entry 'a'" in caught.value.message
    same = {"endpoint_url": MINIO["endpoint_url"], "bucket": "other"}
    uri, access = place(tmp_path, {"key": "a", "path": "m", "parameters": same})
    assert (uri.bucket, access.endpoint) == ("other", "http://minio:9000")


def test_a_certificate_in_the_entry(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----"
    _, access = place(tmp_path, {"key": "a", "path": "m"}, a={**MINIO, "certificate": pem})
    assert isinstance(access.verify, str)
    assert Path(access.verify).read_text() == pem
    assert place(tmp_path, {"key": "a", "path": "m"})[1] == access  # so that a client is kept


@pytest.mark.parametrize(
    ("entries", "reason", "words"),
    [
        ({}, "StorageCredentialsInvalid", "it is not there, or empty"),
        ({"other": MINIO}, "StorageCredentialsInvalid", "its keys are other"),
        ({"a": "no json"}, "StorageCredentialsInvalid", "no JSON object"),
        ({"a": "[]"}, "StorageCredentialsInvalid", "no JSON object"),
        ({"a": {**MINIO, "type": "http"}}, "StorageUriNotSupported", "type 'http', which is not supported"),
        ({"a": {"type": "azure", "client_secret": "hidden"}}, "StorageCredentialsInvalid", "No bucket"),
        (
            {"a": {"type": "azure", "container": "models", "client_secret": "hidden"}},
            "StorageCredentialsInvalid",
            "no AZ_CLIENT_ID",
        ),
        ({"a": {"type": "gs", "bucket": "models", "client_email": "a@b"}}, "StorageCredentialsInvalid", "private_key"),
        ({"a": {**MINIO, "type": "hdfs"}}, "StorageUriNotSupported", "type 'hdfs'"),
        ({"a": {"type": "pvc"}}, "StorageCredentialsInvalid", "has no name"),
        ({"a": {"type": "pvc", "name": "../etc"}}, "StorageUriInvalid", "By entry 'a'"),
        ({"a": {**MINIO, "default_bucket": ""}}, "StorageCredentialsInvalid", "storage.parameters.bucket"),
        ({"a": {**MINIO, "default_bucket": "UP"}}, "StorageUriInvalid", "By entry 'a'"),
        ({"a": {**MINIO, "access_key_id": ""}}, "StorageCredentialsInvalid", "no access_key_id"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, entries: dict[str, Any], reason: str, words: str) -> None:
    with pytest.raises(StorageError) as raised:
        place(tmp_path, {"key": "a", "path": "m"}, **entries)
    assert raised.value.reason == reason
    assert words in raised.value.message
    assert "hidden" not in raised.value.message

"""Storage URIs: what is accepted, and what a user is told otherwise."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_api.model_storage import ModelStorage
from shoal_api.storage_uri import StorageUriError, claim_of, parse_storage_uri


@pytest.mark.parametrize(
    ("raw", "bucket", "key", "prefix", "folder"),
    [
        ("s3://bkt1/m1", "bkt1", "m1", "m1/", False),
        ("s3://bkt1/a/b/m1/", "bkt1", "a/b/m1", "a/b/m1/", True),
        ("S3://my_bucket.x/m", "my_bucket.x", "m", "m/", False),
        ("s3://bkt1", "bkt1", "", "", True),
        ("s3://bkt1/", "bkt1", "", "", True),
        ("s3://bkt1/mit leer/ü?#%2e", "bkt1", "mit leer/ü?#%2e", "mit leer/ü?#%2e/", False),
        ("s3://bkt1/a/..b/c..", "bkt1", "a/..b/c..", "a/..b/c../", False),
    ],
)
def test_good(raw: str, bucket: str, key: str, prefix: str, folder: bool) -> None:
    uri = parse_storage_uri(raw)
    assert (uri.scheme, uri.bucket, uri.key, uri.prefix, uri.folder, str(uri)) == (
        "s3",
        bucket,
        key,
        prefix,
        folder,
        raw,
    )


@pytest.mark.parametrize(
    ("raw", "host", "path"),
    [
        ("https://Host.example:8443/a/m%20x.zip?sig=a%2Fb#part", "host.example:8443", "a/m x.zip"),
        ("http://[::1]:80/m", "[::1]:80", "m"),
        ("https://10.0.0.1/m", "10.0.0.1", "m"),
    ],
)
def test_web(raw: str, host: str, path: str) -> None:
    uri = parse_storage_uri(raw)
    assert (uri.bucket, uri.key, str(uri)) == (host, path, raw)


@pytest.mark.parametrize(
    ("raw", "claim", "key", "folder"),
    [
        ("pvc://models/churn/v1", "models", "churn/v1", False),
        ("pvc://models/churn/", "models", "churn", True),
        ("pvc://team.models-1/a b?c#d", "team.models-1", "a b?c#d", False),
        ("PVC://models", "models", "", True),
        ("pvc://models/", "models", "", True),
    ],
)
def test_claim(raw: str, claim: str, key: str, folder: bool) -> None:
    uri = parse_storage_uri(raw)
    assert (uri.scheme, uri.bucket, uri.key, uri.folder) == ("pvc", claim, key, folder)
    assert claim_of(raw) == claim


@pytest.mark.parametrize(
    ("location", "claim"),
    [
        ("storage:///m?name=models&type=pvc", "models"),
        ("storage://key/m?name=models&type=pvc", "models"),
        ("storage://key/m?name=models", ""),
        ("storage://key/m?type=pvc", ""),
        ("storage://key/m", ""),
        ("s3://models/m", ""),
        ("pvc://../m", ""),
        ("", ""),
    ],
)
def test_which_claim_a_location_names(location: str, claim: str) -> None:
    assert claim_of(location) == claim


@pytest.mark.parametrize(
    ("raw", "repository", "revision", "key", "folder"),
    [
        ("hf://facebook/opt-125m", "facebook/opt-125m", None, "", True),
        ("hf://facebook/opt-125m:v1.0", "facebook/opt-125m", "v1.0", "", True),
        ("hf://a/B_2.x:main/folder one/m?.bin", "a/B_2.x", "main", "folder one/m?.bin", False),
        ("hf://a/b/folder/", "a/b", None, "folder", True),
    ],
)
def test_hub(raw: str, repository: str, revision: str | None, key: str, folder: bool) -> None:
    uri = parse_storage_uri(raw)
    assert (uri.scheme, uri.bucket, uri.key, uri.folder) == ("hf", repository, key, folder)
    assert dict(uri.parameters).get("revision") == revision


@pytest.mark.parametrize(
    ("raw", "host", "repository", "named"),
    [
        ("oci://churn", "docker.io", "library/churn", {}),
        ("oci://team/churn:1", "docker.io", "team/churn", {"tag": "1"}),
        ("oci://docker.io/churn", "docker.io", "library/churn", {}),
        ("oci://localhost/churn", "localhost", "churn", {}),
        ("oci://Registry.example:5000/a/b_c:V1.0", "registry.example:5000", "a/b_c", {"tag": "V1.0"}),
        (f"oci://q.io/a:1@sha256:{'0' * 64}", "q.io", "a", {"tag": "1", "digest": f"sha256:{'0' * 64}"}),
    ],
)
def test_registries(raw: str, host: str, repository: str, named: dict[str, str]) -> None:
    uri = parse_storage_uri(raw)
    assert (uri.scheme, uri.bucket, uri.key, dict(uri.parameters)) == ("oci", host, repository, named)


@pytest.mark.parametrize(
    ("raw", "reason", "hint"),
    [
        ("oci://a.b/Churn", "StorageUriInvalid", "lower-case"),
        ("oci://a.b:0/churn", "StorageUriInvalid", "names no image"),
        ("oci://a.b/c@sha256:0", "StorageUriInvalid", "names no image"),
        ("oci://user@a.b/c", "StorageUriInvalid", "names no image"),
        (f"oci://a.b/{'c' * 256}", "StorageUriInvalid", "names no image"),
        ("hf://gpt2", "StorageUriInvalid", "names no repository"),
        ("hf://a/b:", "StorageUriInvalid", "names no repository"),
        ("hf://a/b@main", "StorageUriInvalid", "names no repository"),
        ("hf://../b", "StorageUriInvalid", "names no repository"),
        ("hf://a/b/c/../d", "StorageUriInvalid", "'..'"),
        ("gs:///m", "StorageUriInvalid", "gs://bucket/path"),
        ("gs://My_Models/m", "StorageUriInvalid", "no capitals"),
        ("hdfs://namenode/m", "StorageUriNotSupported", "gs://"),
        ("file:///m", "StorageUriNotSupported", "file://"),
        ("https://host/", "StorageUriInvalid", "names no file"),
        ("https://host", "StorageUriInvalid", "names no file"),
        ("https://user:pass@host/m", "StorageUriInvalid", "into a Secret"),
        ("https://ho st/m", "StorageUriInvalid", "is no host"),
        ("https://host:99999/m", "StorageUriInvalid", "99999 is no port"),
        ("https://[::1]:0/m", "StorageUriInvalid", "0 is no port"),
        ("s3://bucket/" + "ä" * 513, "StorageUriInvalid", "1026 bytes"),
        ("https:///m", "StorageUriInvalid", "is no host"),
        ("https://host/a/../m", "StorageUriInvalid", "'..'"),
        ("https://host/a/%2e%2e/m", "StorageUriInvalid", "'..'"),
        ("hdfs://claim/m", "StorageUriNotSupported", "hdfs://"),
        ("pvc:///m", "StorageUriInvalid", "names no PersistentVolumeClaim"),
        ("pvc://Claim/m", "StorageUriInvalid", "names no PersistentVolumeClaim"),
        ("pvc://../m", "StorageUriInvalid", "names no PersistentVolumeClaim"),
        ("pvc://a..b/m", "StorageUriInvalid", "names no PersistentVolumeClaim"),
        (f"pvc://{'a' * 254}/m", "StorageUriInvalid", "names no PersistentVolumeClaim"),
        ("pvc://claim/a/../m", "StorageUriInvalid", "'..'"),
        ("pvc://claim/a//m", "StorageUriInvalid", "'//'"),
        ("", "StorageUriInvalid", "no scheme"),
        ("models/m1", "StorageUriInvalid", "no scheme"),
        ("s3:/b/m", "StorageUriInvalid", "no scheme"),
        ("s3:///m1", "StorageUriInvalid", "no bucket"),
        ("s3://user:pass@bucket/m", "StorageUriInvalid", "not a bucket name"),
        ("s3://192.168.0.1/m", "StorageUriInvalid", "'192.168.0.1' is not a bucket name: it is an IP address"),
        ("s3://host:9000/m", "StorageUriInvalid", "endpoint"),
        ("s3://ab/m", "StorageUriInvalid", "at least 3 characters"),
        ("s3://My-Models/m", "StorageUriInvalid", "no capitals"),
        ("s3://YOUR-BUCKET/m", "StorageUriInvalid", "no capitals"),
        ("s3://-abc/m", "StorageUriInvalid", "a letter or digit first"),
        ("s3://bkt1/a/../m", "StorageUriInvalid", "'..'"),
        ("s3://bkt1/./m", "StorageUriInvalid", "'.'"),
        ("s3://bkt1/a//m", "StorageUriInvalid", "extra slash"),
        ("s3://bkt1/m\n", "StorageUriInvalid", "control characters"),
        (" s3://bkt1/m", "StorageUriInvalid", "spaces around"),
        ("s3://bkt1/" + "x" * 3000, "StorageUriInvalid", "at most 2048"),
    ],
)
def test_bad(raw: str, reason: str, hint: str) -> None:
    with pytest.raises(StorageUriError) as caught:
        parse_storage_uri(raw)
    assert caught.value.reason == reason
    assert hint in caught.value.message
    assert len(caught.value.message) < 1000


@given(
    st.text("abcXYZ-_.019", max_size=20),
    st.text(max_size=60),
    st.dictionaries(
        st.sampled_from(["type", "bucket", "region", "a&b=c"]), st.text(max_size=9).filter(str.isprintable)
    ),
)
def test_a_storage_key_and_path_survive_being_a_uri(key: str, path: str, parameters: dict[str, str]) -> None:
    raw = ModelStorage(key=key, path=path, parameters={**parameters, "type": "s3"}).location()
    try:
        uri = parse_storage_uri(raw)
    except StorageUriError:
        return
    assert (uri.scheme, uri.bucket, uri.key) == ("storage", key, path.strip("/"))
    assert dict(uri.parameters) == {**parameters, "type": "s3"}


@pytest.mark.parametrize(
    ("storage", "reason", "hint"),
    [
        ({"key": "a b", "path": "m"}, "StorageUriInvalid", "no key of a Secret"),
        ({"path": "a/../m"}, "StorageUriInvalid", "storage.path"),
        ({"path": "m", "parameters": {"type": "hdfs"}}, "StorageUriNotSupported", "'hdfs' is not supported"),
        ({"path": "m", "parameters": {"type": "pvc", "name": "/etc"}}, "StorageUriInvalid", "is no name"),
        ({"path": "m", "parameters": {"secret_access_key": "x"}}, "StorageUriInvalid", "is a secret"),
        ({"path": "m", "parameters": {"private_key": "x"}}, "StorageUriInvalid", "is a secret"),
    ],
)
def test_a_storage_that_cannot_be(storage: dict[str, Any], reason: str, hint: str) -> None:
    with pytest.raises(StorageUriError) as caught:
        parse_storage_uri(ModelStorage.model_validate(storage).location())
    assert caught.value.reason == reason
    assert hint in caught.value.message


@given(st.text(max_size=60))
def test_whatever_is_accepted_stays_below_its_bucket(text: str) -> None:
    try:
        uri = parse_storage_uri(f"s3://bucket/{text}")
    except StorageUriError:
        return
    assert not uri.key.startswith("/")
    assert not {"", ".", ".."} & set(uri.key.split("/")) or uri.key == ""


@pytest.mark.parametrize(
    ("raw", "account", "container", "key", "folder"),
    [
        ("https://acc01.blob.core.windows.net/models/a/m%201", "acc01", "models", "a/m 1", False),
        ("https://acc01.blob.core.windows.net:443/models/a/", "acc01", "models", "a", True),
        ("https://ACC01.Blob.Core.Windows.Net/models", "acc01", "models", "", True),
        ("https://acc01.dfs.core.windows.net/models/a", "acc01", "models", "a", False),
        ("https://acc01.z12.blob.storage.azure.net/models/a", "acc01.z12.blob.storage.azure.net", "models", "a", False),
        ("az://models/a%20b", "", "models", "a%20b", False),
        ("abfss://models@acc01.dfs.core.windows.net/a", "acc01", "models", "a", False),
        ("abfs://$web/a", "", "$web", "a", False),
    ],
)
def test_azure(raw: str, account: str, container: str, key: str, folder: bool) -> None:
    uri = parse_storage_uri(raw)
    assert (uri.scheme, uri.account, uri.bucket, uri.key, uri.folder) == ("az", account, container, key, folder)
    assert (uri.parameters, str(uri)) == ((), raw)


def test_a_signature_behind_azures_uri_is_kept_and_another_query_is_not() -> None:
    place = "https://acc01.blob.core.windows.net/models/m"
    assert parse_storage_uri(f"{place}?sv=1&sig=a%2Fb").parameters == (("sas", "sv=1&sig=a%2Fb"),)
    assert parse_storage_uri(f"{place}?snapshot=1").parameters == ()


@pytest.mark.parametrize(
    ("raw", "scheme"),
    [
        ("http://acc01.blob.core.windows.net/models/m", "http"),
        ("https://blob.core.windows.net/models/m", "https"),
        ("https://acc01.blob.core.windows.net.evil.example/models/m", "https"),
        ("https://evil.example/acc01.blob.core.windows.net/m", "https"),
    ],
)
def test_what_only_looks_like_azure_is_a_web_server(raw: str, scheme: str) -> None:
    assert parse_storage_uri(raw).scheme == scheme


@pytest.mark.parametrize(
    ("raw", "reason", "hint"),
    [
        ("https://acc01.blob.core.windows.net/", "StorageUriInvalid", "no container"),
        ("https://acc01.blob.core.windows.net/M/m", "StorageUriInvalid", "'M' is no container"),
        ("https://acc01.blob.core.windows.net/models/a/../b", "StorageUriInvalid", "'..'"),
        ("https://acc01.file.core.windows.net/share/m", "StorageUriNotSupported", "file shares"),
        ("abfss://models@elsewhere.example/m", "StorageUriInvalid", "no container"),
        ("az://double--dash/m", "StorageUriInvalid", "no container"),
    ],
)
def test_azure_that_cannot_be(raw: str, reason: str, hint: str) -> None:
    with pytest.raises(StorageUriError) as caught:
        parse_storage_uri(raw)
    assert caught.value.reason == reason
    assert hint in caught.value.message

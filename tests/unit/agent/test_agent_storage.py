"""Credentials of S3; its errors."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from botocore import exceptions as boto
from obstore import exceptions as obs
from shoal_agent.storage import StorageError
from shoal_agent.storage.credentials import S3Access, accesses, fingerprint
from shoal_agent.storage.mounted import Mounted, read_mount
from shoal_agent.storage.s3_errors import explain

from .storage.stores import client_error


def _answered(kind: type[Exception], status: int, code: str) -> Exception:
    """As obstore says it."""
    body = f"<Error><Code>{code}</Code><Message>said</Message></Error>" if code else ""
    return kind(
        f"Error performing GET http://s3/bucket/k in 1ms - Server returned non-2xx status code: {status} X: {body}"
    )


def _not_sent(cause: str) -> Exception:
    return obs.GenericError(
        f"Error performing GET http://s3/k in 1ms - HTTP error: error sending request\n\nDebug source:\n{cause}"
    )


@pytest.mark.parametrize(
    ("error", "reason", "hint"),
    [
        (client_error(403, "AccessDenied"), "StorageAccessDenied", "s3:ListBucket"),
        (client_error(403, "SignatureDoesNotMatch"), "StorageCredentialsInvalid", "secret"),
        (client_error(403, "InvalidAccessKeyId"), "StorageCredentialsInvalid", "Secret 'a'"),
        (client_error(404, "XAdminUserNotFound"), "StorageCredentialsInvalid", "404"),
        (client_error(400, "ExpiredToken"), "StorageCredentialsInvalid", "ExpiredToken"),
        (client_error(404, "NoSuchBucket"), "BucketNotFound", "'bucket'"),
        (client_error(404, "NoSuchKey"), "ArtifactNotFound", "Upload"),
        (client_error(412, "PreconditionFailed"), "ArtifactChanged", "again"),
        (client_error(301, "PermanentRedirect"), "StorageCredentialsInvalid", "s3-region"),
        (client_error(503, "SlowDown"), "StorageUnavailable", "503 SlowDown"),
        (client_error(500, "InternalError"), "StorageUnavailable", "500"),
        (boto.EndpointConnectionError(endpoint_url="http://s3"), "StorageUnreachable", "s3-endpoint"),
        (boto.ConnectTimeoutError(endpoint_url="http://s3"), "StorageUnreachable", "http://s3"),
        (
            boto.SSLError(endpoint_url="https://s3", error=ValueError("self-signed")),
            "StorageUnreachable",
            "s3-cabundle",
        ),
        (boto.NoCredentialsError(), "StorageCredentialsInvalid", "useanoncredential"),
        (ValueError("Invalid endpoint"), "StorageCredentialsInvalid", "Invalid endpoint"),
        (OSError(28, "No space left on device"), "DiskFull", "ephemeral storage"),
        (_answered(obs.PermissionDeniedError, 403, "AccessDenied"), "StorageAccessDenied", "403 AccessDenied"),
        (_answered(obs.GenericError, 403, "SignatureDoesNotMatch"), "StorageCredentialsInvalid", "secret"),
        (_answered(FileNotFoundError, 404, "NoSuchKey"), "ArtifactNotFound", "Upload"),
        (_answered(FileNotFoundError, 404, ""), "ArtifactNotFound", "S3 answered 404 for"),
        (_answered(obs.GenericError, 404, "NoSuchBucket"), "BucketNotFound", "'bucket'"),
        (_answered(obs.PreconditionError, 412, "PreconditionFailed"), "ArtifactChanged", "again"),
        (_answered(obs.GenericError, 503, "SlowDown"), "StorageUnavailable", "503 SlowDown for"),
        (
            obs.UnauthenticatedError("External AWS credential provider: NoCredentialsError: Unable to locate them"),
            "StorageCredentialsInvalid",
            "useanoncredential",
        ),
        (
            _not_sent('ConnectError("dns error", Custom { error: "no such host" })'),
            "StorageUnreachable",
            "no such host",
        ),
        (_not_sent('Os { code: 111, message: "Connection refused" }'), "StorageUnreachable", "Connection refused"),
        (_not_sent("TimedOut"), "StorageUnreachable", "took too long"),
        (_not_sent("error: InvalidCertificate(\n   UnknownIssuer,\n)"), "StorageUnreachable", "s3-cabundle"),
        (obs.GenericError("Generic S3 error: NotPartial\n\nDebug source:\nX"), "StorageUnavailable", "NotPartial"),
    ],
)
def test_every_error_has_a_reason_and_says_what_to_do(error: Exception, reason: str, hint: str) -> None:
    explained = explain(error, "m1/a", "bucket", "http://s3", "Secret 'a'")
    assert explained.reason == reason
    assert hint in explained.message


# Credentials.


def secret(folder: Path, name: str, keys: dict[str, str]) -> None:
    (folder / "secrets" / name).mkdir(parents=True, exist_ok=True)
    for key, value in keys.items():
        (folder / "secrets" / name / key).write_text(value)


def annotated(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"serving.kserve.io/s3-{key}": value for key, value in settings.items()}


def read(
    folder: Path,
    annotations: dict[str, dict[str, str]],
    environment: dict[str, str] | None = None,
    account: dict[str, str] | None = None,
) -> list[S3Access]:
    secrets = [{"name": name, "annotations": annotated(given)} for name, given in annotations.items()]
    said = {} if account is None else {"serviceAccount": {"name": "models", "annotations": annotated(account)}}
    (folder / "storage.json").write_text(json.dumps({"version": 1, "secrets": secrets, **said}))
    return accesses(folder / "storage.json", folder / "secrets", environment or {})


def test_kserves_annotations(tmp_path: Path) -> None:
    secret(tmp_path, "a", {"AWS_ACCESS_KEY_ID": "key\n", "AWS_SECRET_ACCESS_KEY": "hidden"})
    (access,) = read(
        tmp_path,
        {
            "a": {
                "endpoint": "minio:9000",
                "usehttps": "0",
                "region": "eu",
                "verifyssl": "0",
                "usevirtualbucket": "true",
            }
        },
    )
    assert access.endpoint == "http://minio:9000"
    assert (access.region, access.verify, access.virtual_host, access.anonymous) == ("eu", False, True, False)
    assert (access.access_key, access.secret_key) == ("key", "hidden")
    assert "hidden" not in repr(access)


def test_other_spellings_of_keys_and_no_keys_at_all(tmp_path: Path) -> None:
    secret(tmp_path, "a", {"awsAccessKeyID": "k", "awsSecretAccessKey": "s"})
    (access,) = read(tmp_path, {"a": {}})
    assert (access.access_key, access.secret_key, access.endpoint, access.verify) == ("k", "s", None, True)
    (anonymous,) = read(tmp_path, {"b": {"useanoncredential": "true", "endpoint": "https://s3.example"}})
    assert (anonymous.anonymous, anonymous.access_key, anonymous.endpoint) == (True, None, "https://s3.example")
    secret(tmp_path, "half", {"AWS_ACCESS_KEY_ID": "k"})
    with pytest.raises(StorageError, match="no AWS_SECRET_ACCESS_KEY"):
        read(tmp_path, {"half": {}})


STORE = {"endpoint": "minio:9000", "usehttps": "0", "region": "eu", "usevirtualbucket": "1", "requesterpays": "true"}


def test_the_service_accounts_annotations_hold_for_secrets_that_say_nothing(tmp_path: Path) -> None:
    for name in ("plain", "own"):
        secret(tmp_path, name, {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": "s"})
    secret(tmp_path, "pull", {".dockerconfigjson": "{}"})
    said = {"plain": {}, "own": {"endpoint": "other:9000", "region": "us"}, "pull": {}}
    plain, own = read(tmp_path, said, account={**STORE, "useanoncredential": "true"})
    assert (plain.endpoint, plain.region, plain.virtual_host) == ("http://minio:9000", "eu", True)
    assert (plain.requester_pays, plain.anonymous, plain.access_key) == (True, False, "plain")
    assert (own.endpoint, own.region) == ("https://other:9000", "us")  # never with another endpoint's scheme


def test_the_service_accounts_annotations_hold_for_a_cloud_identity(tmp_path: Path) -> None:
    injected = {"AWS_REGION": "us-east-1", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "S3_VERIFY_SSL": "0"}
    (access,) = read(tmp_path, {}, injected, account=STORE)
    assert (access.endpoint, access.region, access.verify) == ("http://minio:9000", "eu", False)
    assert (access.access_key, access.anonymous, access.requester_pays) == (None, False, True)
    assert "service account 'models'" in access.origin
    (public,) = read(tmp_path, {}, {}, account={"useanoncredential": "true"})
    assert public.anonymous


def test_whom_tls_trusts_is_one_point(tmp_path: Path) -> None:
    secret(tmp_path, "a", {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "ca.pem": "-----"})
    (access,) = read(tmp_path, {"a": {"cabundle": "ca.pem"}}, account={"verifyssl": "0"})
    assert access.verify == str(tmp_path / "secrets" / "a" / "ca.pem")


def test_settings_beside_the_keys(tmp_path: Path) -> None:
    keys = {"awsAccessKeyID": "k", "awsSecretAccessKey": "s"}
    secret(tmp_path, "a", {**keys, "S3_ENDPOINT": "minio:9000", "S3_USE_HTTPS": "0", "AWS_DEFAULT_REGION": "eu"})
    secret(tmp_path, "b", {**keys, "AWS_S3_ENDPOINT": "https://s3.openshift", "S3_USE_ACCELERATE": "true"})
    a, b = read(tmp_path, {"a": {"region": "eu-2"}, "b": {}})
    assert (a.endpoint, a.region) == ("http://minio:9000", "eu-2")
    assert (b.endpoint, b.accelerate) == ("https://s3.openshift", True)


@pytest.mark.parametrize("extra", [{}, {"cabundle": "/etc/ssl/custom-certs/cabundle.crt"}])
def test_an_authority_from_a_configmap(tmp_path: Path, extra: dict[str, str]) -> None:
    secret(tmp_path, "a", {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"})
    said = {"cabundle-configmap": "store-ca", **extra}
    with pytest.raises(StorageError, match="ConfigMap 'store-ca'") as raised:
        read(tmp_path, {"a": said})
    assert raised.value.reason == "StorageCredentialsInvalid"
    present = tmp_path / "secrets" / ".ca" / "store-ca" / "..2026"
    present.mkdir(parents=True)
    (present / "cabundle.crt").write_text("-----")
    (present.parent / "..data").symlink_to("..2026")
    (access,) = read(tmp_path, {"a": said})
    assert access.verify == str(present / "cabundle.crt")  # so that a renewed one is another access


def test_a_secret_is_read_as_of_one_moment(tmp_path: Path) -> None:
    mount = tmp_path / "secrets" / "a"
    for number in (1, 2):
        (mount / f"..{number}").mkdir(parents=True)
        (mount / f"..{number}" / "AWS_ACCESS_KEY_ID").write_text(f"k{number}")
        (mount / f"..{number}" / "AWS_SECRET_ACCESS_KEY").write_text(f"s{number}")
    (mount / "..data").symlink_to("..1")
    seen: list[str] = []

    def exchanged(mounted: Mounted) -> str:
        seen.append(mounted.text(["AWS_ACCESS_KEY_ID"]) or "")
        if len(seen) == 1:  # the kubelet, between two files
            (mount / "fresh").symlink_to("..2")
            (mount / "fresh").replace(mount / "..data")
        return seen[-1] + (mounted.text(["AWS_SECRET_ACCESS_KEY"]) or "")

    assert read_mount(mount, exchanged) == "k2s2"


def test_a_secret_for_something_else_leaves_the_environment(tmp_path: Path) -> None:
    secret(tmp_path, "pull", {".dockerconfigjson": "{}"})
    (access,) = read(tmp_path, {"pull": {}}, {"AWS_ENDPOINT_URL": "http://minio:9000", "AWS_REGION": "eu-1"})
    assert (access.endpoint, access.region, access.access_key) == ("http://minio:9000", "eu-1", None)
    (kserve,) = read(tmp_path, {}, {"S3_ENDPOINT": "minio:9000", "S3_USE_HTTPS": "0", "S3_VERIFY_SSL": "0"})
    assert (kserve.endpoint, kserve.verify) == ("http://minio:9000", False)


def test_a_secret_that_is_not_there_is_named_when_there_are_no_credentials(tmp_path: Path) -> None:
    (access,) = read(tmp_path, {"misspelt": {}})
    explained = explain(boto.NoCredentialsError(), "m1/a", "bucket", "AWS S3", access.origin)
    assert "service account 'default' names Secret 'misspelt', which is missing" in explained.message
    secret(tmp_path, "a", {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"})
    (found,) = read(tmp_path, {"misspelt": {}, "a": {}})
    assert found.origin == "Secret 'a'"


def test_a_ca_bundle_in_the_secret(tmp_path: Path) -> None:
    secret(tmp_path, "a", {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "ca.pem": "-----"})
    (access,) = read(tmp_path, {"a": {"cabundle": "ca.pem"}})
    assert access.verify == str(tmp_path / "secrets" / "a" / "ca.pem")
    with pytest.raises(StorageError, match=r"other\.pem"):
        read(tmp_path, {"a": {"cabundle": "other.pem"}})


def test_a_rotated_secret_is_another_access_and_another_fingerprint(tmp_path: Path) -> None:
    secret(tmp_path, "a", {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"})
    before = read(tmp_path, {"a": {}})
    mark = fingerprint(tmp_path / "storage.json", tmp_path / "secrets")
    assert fingerprint(tmp_path / "storage.json", tmp_path / "secrets") == mark
    fresh = tmp_path / "fresh"
    fresh.write_text("rotated")
    fresh.replace(tmp_path / "secrets" / "a" / "AWS_SECRET_ACCESS_KEY")
    assert fingerprint(tmp_path / "storage.json", tmp_path / "secrets") != mark
    assert accesses(tmp_path / "storage.json", tmp_path / "secrets", {}) != before

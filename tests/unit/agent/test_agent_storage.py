"""What an artifact may be, whatever the storage or the archive says; credentials; errors."""

import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as boto
from shoal_agent.storage import Cancelled, Limits, StorageError
from shoal_agent.storage.archives import unpack
from shoal_agent.storage.credentials import S3Access, accesses, fingerprint
from shoal_agent.storage.mounted import Mounted, read_mount
from shoal_agent.storage.paths import check_tree, safe_path
from shoal_agent.storage.s3 import S3Source, new_client
from shoal_agent.storage.s3_errors import explain
from shoal_api.storage_uri import parse_storage_uri

LIMITS = Limits(max_bytes=1000, max_files=5)


class FakeS3:
    """An S3 that keeps objects in a dictionary, two to a page, and can lie."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        self.listed_size: dict[str, int] = {}
        self.fails: Exception | None = None
        self.lists = 0

    def list_objects_v2(self, **arguments: Any) -> Mapping[str, Any]:
        self.lists += 1
        if self.fails is not None:
            raise self.fails
        keys = sorted(key for key in self.objects if key.startswith(arguments["Prefix"]))
        start = int(arguments.get("ContinuationToken", "0"))
        return {
            "Contents": [
                {"Key": key, "Size": self.listed_size.get(key, len(self.objects[key])), "ETag": self._etag(key)}
                for key in keys[start : start + 2]
            ],
            "IsTruncated": start + 2 < len(keys),
            "NextContinuationToken": str(start + 2),
        }

    def head_object(self, **arguments: Any) -> Mapping[str, Any]:
        key = arguments["Key"]
        if key not in self.objects:
            raise client_error(404, "404")
        return {"ContentLength": len(self.objects[key]), "ETag": self._etag(key)}

    def get_object(self, **arguments: Any) -> Mapping[str, Any]:
        key = arguments["Key"]
        return {"Body": io.BytesIO(self.objects[key]), "ETag": self._etag(key)}

    def _etag(self, key: str) -> str:
        return f'"{hash(self.objects[key])}"'


def client_error(status: int, code: str) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "ListObjectsV2",
    )


def source(fake: FakeS3, folder: Path) -> S3Source:
    return S3Source(folder / "storage.json", folder / "secrets", 2, {}, lambda access, connections: fake)


def paths_of(fake: FakeS3, folder: Path, uri: str) -> list[str]:
    return [file.path for file in source(fake, folder).find(parse_storage_uri(uri), LIMITS).files]


def test_m1_does_not_fetch_m10(tmp_path: Path) -> None:
    fake = FakeS3({"m1/model.joblib": b"1", "m10/model.joblib": b"10", "m1x": b"x", "am1/y": b"y"})
    assert paths_of(fake, tmp_path, "s3://bucket/m1") == ["model.joblib"]


def test_all_pages_folders_and_a_single_object(tmp_path: Path) -> None:
    fake = FakeS3({"m/a": b"1", "m/b/c": b"2", "m/b/d/e": b"3", "m/": b"", "m/b/": b""})
    assert paths_of(fake, tmp_path, "s3://bucket/m") == ["a", "b/c", "b/d/e"]
    assert paths_of(fake, tmp_path, "s3://bucket/m/b/c") == ["c"]
    assert fake.lists == 4


@pytest.mark.parametrize(
    "key", ["m/../evil", "m/a/../../evil", "m//evil", "m/./x", "m/a\\b", "m/a\x00b", "m/" + "x" * 300]
)
def test_a_key_that_could_leave_the_folder_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(StorageError) as caught:
        paths_of(FakeS3({"m/model.joblib": b"1", key: b"evil"}), tmp_path, "s3://bucket/m")
    assert caught.value.reason == "ArtifactInvalid"


def test_a_key_that_is_file_and_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        paths_of(FakeS3({"m/a": b"1", "m/a/b": b"2"}), tmp_path, "s3://bucket/m")
    assert caught.value.reason == "ArtifactInvalid"


def test_limits_are_kept_while_listing(tmp_path: Path) -> None:
    many = FakeS3({f"m/{number}": b"" for number in range(50)})
    with pytest.raises(StorageError, match="more than 5 objects"):
        paths_of(many, tmp_path, "s3://bucket/m")
    assert many.lists == 3
    with pytest.raises(StorageError, match="at most 1000"):
        paths_of(FakeS3({"m/a": b"x" * 600, "m/b": b"x" * 600}), tmp_path, "s3://bucket/m")


@pytest.mark.parametrize("listed", [1, 5])
def test_a_size_that_is_not_the_listed_one_is_refused(tmp_path: Path, listed: int) -> None:
    fake = FakeS3({"m/a": b"abc"})
    fake.listed_size["m/a"] = listed
    made, uri = source(fake, tmp_path), parse_storage_uri("s3://bucket/m")
    listing = made.find(uri, LIMITS)
    with pytest.raises(StorageError) as caught:
        made.fetch(uri, listing.files[0], tmp_path / "a", threading.Event())
    assert caught.value.reason == "ArtifactChanged"


def test_content_that_changed_since_the_listing_is_refused(tmp_path: Path) -> None:
    fake = FakeS3({"m/a": b"abc"})
    made, uri = source(fake, tmp_path), parse_storage_uri("s3://bucket/m")
    listing = made.find(uri, LIMITS)
    fake.objects["m/a"] = b"xyz"
    with pytest.raises(StorageError, match="changed while it was being fetched"):
        made.fetch(uri, listing.files[0], tmp_path / "a", threading.Event())
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        made.fetch(uri, made.find(uri, LIMITS).files[0], tmp_path / "b", cancelled)


def test_nothing_there_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        paths_of(FakeS3({"m10/a": b"1"}), tmp_path, "s3://bucket/m1")
    assert caught.value.reason == "ArtifactNotFound"
    assert "404" in caught.value.message
    assert "s3://bucket/m1/" in caught.value.message


def test_keys_that_may_get_but_not_list_can_name_an_object(tmp_path: Path) -> None:
    fake = FakeS3({"m/a.joblib": b"1"})
    fake.fails = client_error(403, "AccessDenied")
    assert paths_of(fake, tmp_path, "s3://bucket/m/a.joblib") == ["a.joblib"]
    with pytest.raises(StorageError) as caught:
        paths_of(fake, tmp_path, "s3://bucket/m")
    assert caught.value.reason == "StorageAccessDenied"


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
    ],
)
def test_every_error_has_a_reason_and_says_what_to_do(error: Exception, reason: str, hint: str) -> None:
    explained = explain(error, "m1/a", "bucket", "http://s3", "Secret 'a'")
    assert explained.reason == reason
    assert hint in explained.message


def test_paths() -> None:
    assert safe_path("a/b..c/.d", "x") == "a/b..c/.d"
    check_tree(["a/b", "a/c", "d"], "x")
    with pytest.raises(StorageError, match="more than once"):
        check_tree(["a", "a"], "x")


# Archives.


def packed_tar(build: Callable[[tarfile.TarFile], None], path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        build(archive)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
    archive.addfile(member, io.BytesIO(content))


def two_files(archive: tarfile.TarFile) -> None:
    add(archive, "./a/b", b"12")
    add(archive, "c", b"3")


def test_regular_files_are_unpacked(tmp_path: Path) -> None:
    archive = packed_tar(two_files, tmp_path / "x")
    target = tmp_path / "out"
    target.mkdir()
    assert unpack(archive, "m.tar.gz", target, LIMITS, threading.Event()) == 3
    assert (target / "a" / "b").read_bytes() == b"12"
    with zipfile.ZipFile(tmp_path / "z", "w") as packed:
        packed.writestr("deep/model.pkl", b"abc")
        packed.writestr("empty/", b"")
    other = tmp_path / "other"
    other.mkdir()
    assert unpack(tmp_path / "z", "m.zip", other, LIMITS, threading.Event()) == 3


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("../evil", b"x", tarfile.REGTYPE),
        ("/etc/evil", b"x", tarfile.REGTYPE),
        ("a/../../evil", b"x", tarfile.REGTYPE),
        ("link", b"", tarfile.SYMTYPE),
        ("hard", b"", tarfile.LNKTYPE),
        ("device", b"", tarfile.CHRTYPE),
        ("big", b"x" * 1001, tarfile.REGTYPE),
    ],
)
def test_what_an_archive_may_not_hold(tmp_path: Path, name: str, content: bytes, kind: bytes) -> None:
    archive = packed_tar(lambda tar: add(tar, name, content, kind), tmp_path / "x")
    target = tmp_path / "out" / "deep"
    target.mkdir(parents=True)
    with pytest.raises(StorageError) as caught:
        unpack(archive, "m.tgz", target, LIMITS, threading.Event())
    assert caught.value.reason in ("ArtifactInvalid", "ArtifactTooLarge")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name == "evil"]


def test_a_zip_may_not_hold_links_or_leave_or_lie_about_its_size(tmp_path: Path) -> None:
    def refused(build: Callable[[zipfile.ZipFile], None]) -> str:
        with zipfile.ZipFile(tmp_path / "z", "w", zipfile.ZIP_DEFLATED) as packed:
            build(packed)
        target = tmp_path / "out"
        target.mkdir(exist_ok=True)
        with pytest.raises(StorageError) as caught:
            unpack(tmp_path / "z", "m.zip", target, LIMITS, threading.Event())
        return caught.value.reason

    def six_files(packed: zipfile.ZipFile) -> None:
        for number in range(6):
            packed.writestr(str(number), "x")

    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    assert refused(lambda packed: packed.writestr(link, "/etc/passwd")) == "ArtifactInvalid"
    assert refused(lambda packed: packed.writestr("../evil", "x")) == "ArtifactInvalid"
    assert refused(lambda packed: packed.writestr("bomb", b"\0" * 10_000_000)) == "ArtifactTooLarge"
    assert refused(six_files) == "ArtifactTooLarge"
    assert refused(lambda packed: None) == "ArtifactInvalid"


def test_a_broken_archive_is_said_to_be_broken(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no archive")
    for name in ("m.zip", "m.tar", "m.tar.gz", "m.tgz"):
        with pytest.raises(StorageError, match="cannot be unpacked"):
            unpack(tmp_path / "x", name, tmp_path, LIMITS, threading.Event())


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


def test_a_second_secret_is_tried_when_the_first_is_denied(tmp_path: Path) -> None:
    for name in ("a", "b"):
        secret(tmp_path, name, {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": "s"})
    read(tmp_path, {"a": {}, "b": {}})
    denied, allowed = FakeS3({"m/x": b"1"}), FakeS3({"m/x": b"1"})
    denied.fails = client_error(403, "AccessDenied")
    made = S3Source(
        tmp_path / "storage.json",
        tmp_path / "secrets",
        2,
        {},
        lambda access, connections: denied if access.access_key == "a" else allowed,
    )
    uri = parse_storage_uri("s3://bucket/m")
    made.find(uri, LIMITS)
    made.find(uri, LIMITS)
    assert (denied.lists, allowed.lists) == (1, 2)
    allowed.fails = client_error(503, "SlowDown")
    with pytest.raises(StorageError, match="SlowDown"):
        made.find(uri, LIMITS)


@pytest.mark.parametrize(
    ("access", "url"),
    [
        (S3Access("x", endpoint="http://minio:9000"), "http://minio:9000/bucket/k"),
        (S3Access("x", endpoint="http://minio:9000", virtual_host=True), "http://bucket.minio:9000/k"),
    ],
)
def test_addresses_of_a_real_client(access: S3Access, url: str) -> None:
    client: Any = new_client(S3Access(**{**_fields(access), "access_key": "k", "secret_key": "s"}), 2)
    signed = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
    assert signed.partition("?")[0] == url
    assert new_client(S3Access(**{**_fields(access), "anonymous": True}), 2) is not None


def _fields(access: S3Access) -> dict[str, Any]:
    return {name: getattr(access, name) for name in ("origin", "endpoint", "region", "virtual_host")}

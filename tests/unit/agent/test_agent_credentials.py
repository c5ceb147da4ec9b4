"""Which S3 is talked to, and as whom: Secrets, what is said of them, and the two together."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as boto
from hypothesis import given
from hypothesis import strategies as st
from shoal_agent.storage import StorageError
from shoal_agent.storage.credentials import S3Access, accesses
from shoal_agent.storage.joined import Joined
from shoal_agent.storage.mounted import Mounted, read_mount
from shoal_agent.storage.s3_errors import explain
from shoal_agent.storage.secret_accesses import fingerprint


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


class Cluster:
    """A Secret, what the operator has said of it, and the kubelet, each of which moves when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, str] = {}
        self.said: dict[str, Any] = {"name": "a", "missing": True}
        self.joined: Joined[S3Access] = Joined()
        self.mounts = 0

    def secret(self, key: str) -> None:
        self.keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": f"secret of {key}"} if key else {}

    def says(self, uid: str, version: str, endpoint: str) -> None:
        said = annotated({"endpoint": endpoint}) if endpoint else {}
        self.said = {"name": "a", "uid": uid, "version": version, "annotations": said, "missing": not uid}

    def kubelet(self) -> None:
        """Mounts both as they are now."""
        self.mounts += 1
        mount = self.folder / "secrets" / "a"
        now = mount / f"..{self.mounts}"
        now.mkdir(parents=True)
        document = json.dumps({"version": 1, "secrets": [self.said]})
        (now / ".shoal-storage.json").write_text(document)
        for name, value in self.keys.items():
            (now / name).write_text(value)
        (mount / "fresh").symlink_to(now.name)
        (mount / "fresh").replace(mount / "..data")
        (self.folder / "storage.json").write_text(document)

    def used(self) -> list[tuple[str | None, str | None]]:
        """Key and endpoint of what would be tried; empty when nothing may be."""
        files = self.folder / "storage.json", self.folder / "secrets"
        return [(each.access_key, each.endpoint) for each in accesses(*files, {}, joined=self.joined)]


def test_keys_of_a_secret_made_again_never_go_where_the_former_ones_went(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.secret("k1")
    cluster.says("u1", "1", "https://one")
    cluster.kubelet()
    assert cluster.used() == [("k1", "https://one")]
    cluster.secret("")
    cluster.kubelet()  # before the operator has seen that it is gone
    assert cluster.used() == [(None, None)]  # nobody's keys: the cloud identity
    cluster.secret("k2")
    cluster.kubelet()
    assert cluster.used() == [("k1", "https://one")]  # as they belonged together
    cluster.says("u2", "7", "https://two")
    cluster.kubelet()
    assert cluster.used() == [("k2", "https://two")]


def test_keys_of_a_secret_that_the_operator_does_not_know_yet_go_nowhere(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.secret("k1")
    cluster.kubelet()
    with pytest.raises(StorageError, match="Secret 'a' was made just now") as raised:
        cluster.used()
    assert raised.value.reason == "StorageCredentialsInvalid"
    cluster.says("u1", "1", "https://one")
    cluster.kubelet()
    assert cluster.used() == [("k1", "https://one")]
    cluster.says("", "", "")  # the operator saw that it is gone, and the kubelet not yet
    cluster.kubelet()
    with pytest.raises(StorageError, match="made just now"):
        cluster.used()


def test_an_edit_of_keys_and_endpoint_is_read_as_one(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.secret("k1")
    cluster.says("u1", "1", "https://one")
    cluster.kubelet()
    cluster.used()
    cluster.secret("k2")
    cluster.kubelet()
    assert cluster.used() == [("k1", "https://one")]
    assert cluster.used() == [("k1", "https://one")]
    cluster.says("u1", "2", "https://two")
    cluster.kubelet()
    assert cluster.used() == [("k2", "https://two")]
    cluster.says("u1", "3", "https://three")  # only an annotation
    cluster.kubelet()
    assert cluster.used() == [("k2", "https://three")]


@given(st.lists(st.sampled_from(["delete", "make", "edit", "operator", "kubelet"]), max_size=30))
def test_no_keys_are_used_but_where_their_own_secret_said(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """In any order, as long as keys change once at most between two looks of the kubelet."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    belongs: set[tuple[str | None, str | None]] = set()
    uid, state, present, mounted = 0, 0, False, True
    for step in ["make", "operator", "kubelet", *steps]:
        if step == "delete":
            cluster.secret("")
            present = False
        elif step == ("edit" if present else "make") and mounted:
            state, uid, mounted, present = state + 1, uid + (not present), False, True
            cluster.secret(f"k{state}")
            belongs.add((f"k{state}", f"https://e{state}"))
        elif step == "operator":
            cluster.says(f"u{uid}", str(state), f"https://e{state}") if present else cluster.says("", "", "")
        elif step == "kubelet":
            cluster.kubelet()
            mounted = True
        with contextlib.suppress(StorageError):
            assert {used for used in cluster.used() if used[0] is not None} <= belongs


def test_one_broken_secret_does_not_keep_the_others_from_being_tried(tmp_path: Path) -> None:
    secret(tmp_path, "half", {"AWS_ACCESS_KEY_ID": "k"})
    secret(tmp_path, "a", {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"})
    (access,) = read(tmp_path, {"half": {}, "a": {}})
    assert access.origin == "Secret 'a'"


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

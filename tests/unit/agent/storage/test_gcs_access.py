"""Which Google Cloud Storage is talked to, and as whom."""

import json
from pathlib import Path

import pytest
from shoal_agent.storage import StorageError
from shoal_agent.storage.gcs_access import GcsAccess, accesses
from shoal_agent.storage.joined import Joined

KEY_FILE = "gcloud-application-credentials.json"
KEY = json.dumps({"type": "service_account", "client_email": "a@b", "private_key": "hidden", "private_key_id": "7"})


def secret(folder: Path, name: str, keys: dict[str, str]) -> None:
    (folder / "secrets" / name).mkdir(parents=True, exist_ok=True)
    for key, value in keys.items():
        (folder / "secrets" / name / key).write_text(value)


def read(
    folder: Path,
    secrets: dict[str, dict[str, str]],
    *,
    account: dict[str, str] | None = None,
    environment: dict[str, str] | None = None,
    version: str = "",
    joined: Joined[GcsAccess] | None = None,
) -> list[GcsAccess]:
    said = [{"name": name, "annotations": given, "uid": version, "version": version} for name, given in secrets.items()]
    document = {"version": 1, "secrets": said, "serviceAccount": {"name": "models", "annotations": account or {}}}
    (folder / "storage.json").write_text(json.dumps(document))
    return accesses(folder / "storage.json", folder / "secrets", environment or {}, joined)


def test_a_key_file(tmp_path: Path) -> None:
    secret(tmp_path, "google", {KEY_FILE: KEY})
    (access,) = read(tmp_path, {"google": {}})
    assert (access.origin, access.endpoint, access.anonymous) == ("Secret 'google'", None, False)
    assert json.loads(access.key or "") == json.loads(KEY)
    assert "hidden" not in repr(access)


def test_the_endpoint_is_what_stands_nearest(tmp_path: Path) -> None:
    account = {"serving.kserve.io/gcs-endpoint": "https://of-account"}
    secret(tmp_path, "a", {KEY_FILE: KEY, "STORAGE_EMULATOR_HOST": "of-key:4443"})
    secret(tmp_path, "b", {KEY_FILE: KEY})
    said = {"a": {"serving.kserve.io/gcs-endpoint": "https://of-secret/"}, "b": {}}
    assert [each.endpoint for each in read(tmp_path, said, account=account)] == [
        "https://of-secret",
        "https://of-account",
    ]
    assert [each.endpoint for each in read(tmp_path, {"a": {}}, account=account)] == ["http://of-key:4443"]


def test_without_a_secret_the_pods_identity_then_nobody(tmp_path: Path) -> None:
    secret(tmp_path, "s3", {"AWS_ACCESS_KEY_ID": "x"})
    identity, nobody = read(tmp_path, {"s3": {}, "gone": {}})
    assert (identity.anonymous, nobody.anonymous) == (False, True)
    assert "names Secret 's3', 'gone', which is missing or holds nothing for Google Cloud Storage" in identity.origin


@pytest.mark.parametrize("by", ["environment", "account"])
def test_the_pods_token_goes_to_google_alone(tmp_path: Path, by: str) -> None:
    if by == "environment":
        found = read(tmp_path, {}, environment={"STORAGE_EMULATOR_HOST": "emulator:4443"})
    else:
        found = read(tmp_path, {}, account={"serving.kserve.io/gcs-endpoint": "http://emulator:4443"})
    assert [(each.endpoint, each.anonymous) for each in found] == [("http://emulator:4443", True)]


def test_a_new_key_waits_for_what_is_said_of_it(tmp_path: Path) -> None:
    joined: Joined[GcsAccess] = Joined()
    secret(tmp_path, "google", {KEY_FILE: KEY})
    (before,) = read(tmp_path, {"google": {}}, version="1", joined=joined)
    secret(tmp_path, "google", {KEY_FILE: KEY.replace("a@b", "c@d")})
    (held,) = read(tmp_path, {"google": {}}, version="1", joined=joined)
    assert (held.key, "its former keys" in held.origin) == (before.key, True)
    (after,) = read(tmp_path, {"google": {}}, version="2", joined=joined)
    assert "c@d" in (after.key or "")


def test_one_bad_key_file_leaves_the_other_secrets(tmp_path: Path) -> None:
    secret(tmp_path, "bad", {KEY_FILE: "{"})
    secret(tmp_path, "good", {KEY_FILE: KEY})
    assert [each.origin for each in read(tmp_path, {"bad": {}, "good": {}})] == ["Secret 'good'"]
    with pytest.raises(StorageError, match="no JSON object"):
        read(tmp_path, {"bad": {}})


def test_a_users_credentials_are_read_where_they_lie(tmp_path: Path) -> None:
    secret(tmp_path, "user", {KEY_FILE: '{"type": "authorized_user", "refresh_token": "hidden"}'})
    (access,) = read(tmp_path, {"user": {}})
    assert (access.user, access.key) == (str(tmp_path / "secrets" / "user" / KEY_FILE), None)

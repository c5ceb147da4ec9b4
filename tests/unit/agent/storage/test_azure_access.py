"""Which account of Azure is talked to, and as whom."""

import json
from pathlib import Path

import pytest
from shoal_agent.storage import StorageError
from shoal_agent.storage.azure_access import AzureAccess, accesses, for_account, with_keys
from shoal_api.storage_uri import parse_storage_uri

KEY = {"AZURE_STORAGE_ACCESS_KEY": "hidden"}


def read(
    folder: Path,
    secrets: dict[str, dict[str, str]],
    annotations: dict[str, dict[str, str]] | None = None,
    account: dict[str, str] | None = None,
) -> list[AzureAccess]:
    for name, keys in secrets.items():
        (folder / "secrets" / name).mkdir(parents=True, exist_ok=True)
        for key, value in keys.items():
            (folder / "secrets" / name / key).write_text(value)

    def said(given: dict[str, str]) -> dict[str, str]:
        return {f"serving.kserve.io/azure-{key}": value for key, value in given.items()}

    listed = [{"name": name, "annotations": said((annotations or {}).get(name, {}))} for name in secrets]
    document = {"version": 1, "secrets": listed, "serviceAccount": {"annotations": said(account or {})}}
    (folder / "storage.json").write_text(json.dumps(document))
    return accesses(folder / "storage.json", folder / "secrets")


@pytest.mark.parametrize("prefix", ["AZ_", "AZURE_"])
def test_kserves_service_principal_in_both_spellings(tmp_path: Path, prefix: str) -> None:
    keys = {"SUBSCRIPTION_ID": "s", "TENANT_ID": "t", "CLIENT_ID": "c", "CLIENT_SECRET": "hidden"}
    (access,) = read(tmp_path, {"a": {prefix + name: value for name, value in keys.items()}})
    assert (access.tenant, access.client, access.secret, access.anonymous) == ("t", "c", "hidden", False)
    assert "hidden" not in repr(access)


def test_half_a_service_principal_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no AZ_TENANT_ID"):
        read(tmp_path, {"a": {"AZ_CLIENT_ID": "c", "AZ_CLIENT_SECRET": "hidden"}})


def test_a_secret_is_for_the_account_that_it_names(tmp_path: Path) -> None:
    known = read(
        tmp_path, {"one": KEY, "two": KEY, "any": KEY}, {"one": {"account": "acc01"}, "two": {"account": "acc02"}}
    )
    uri = parse_storage_uri("https://acc02.blob.core.windows.net/models/m")
    assert [(each.origin, each.account) for each in for_account(known, uri)] == [
        ("Secret 'two'", "acc02"),
        ("Secret 'any'", "acc02"),
    ]
    without = for_account(known, parse_storage_uri("az://models/m"))
    assert [each.account for each in without] == ["acc01", "acc02"]


def test_no_secret_for_an_account_leaves_the_pods_identity_and_nobody(tmp_path: Path) -> None:
    known = read(tmp_path, {"one": KEY}, {"one": {"account": "acc01"}})
    found = for_account(known, parse_storage_uri("https://acc09.blob.core.windows.net/models/m"))
    assert [(each.anonymous, each.key) for each in found] == [(False, None), (True, None)]
    assert "no Secret is for account 'acc09'" in found[0].origin


def test_the_pods_token_goes_to_azure_alone(tmp_path: Path) -> None:
    assert [each.anonymous for each in read(tmp_path, {}, account={"endpoint": "http://azurite:10000/a"})] == [True]


def test_a_signature_behind_the_uri_is_all_that_counts(tmp_path: Path) -> None:
    known = read(tmp_path, {"one": KEY})
    uri = parse_storage_uri("https://acc01.blob.core.windows.net/models/m?sv=1&sig=hidden")
    (access,) = for_account(known, uri)
    assert (access.sas, access.key, access.endpoint) == ("sv=1&sig=hidden", None, None)
    assert "hidden" not in repr(access)


@pytest.mark.parametrize(
    ("connection", "account", "endpoint", "key", "sas"),
    [
        ("AccountName=acc01;AccountKey=a==;EndpointSuffix=core.windows.net", "acc01", None, "a==", None),
        ("AccountName=acc01;AccountKey=a==;EndpointSuffix=x.cn", "acc01", "https://acc01.blob.x.cn", "a==", None),
        ("BlobEndpoint=https://acc01.blob.x/;SharedAccessSignature=b", "acc01", "https://acc01.blob.x", None, "b"),
        ("BlobEndpoint=http://h:1/acc01/;SharedAccessSignature=?sig=b", "", "http://h:1/acc01", None, "sig=b"),
    ],
)
def test_connection_strings(
    connection: str, account: str, endpoint: str | None, key: str | None, sas: str | None
) -> None:
    access = with_keys(AzureAccess("x"), {"connection": connection})
    assert (access.account, access.endpoint, access.key, access.sas) == (account, endpoint, key, sas)


def test_a_connection_string_that_is_none_is_said() -> None:
    with pytest.raises(StorageError, match="neither AccountName nor BlobEndpoint"):
        with_keys(AzureAccess("x"), {"connection": "hidden"})

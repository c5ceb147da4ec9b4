"""Which account of Azure Blob Storage to talk to, and as whom.

Keys of a Secret are KServe's, in both its spellings (``AZ_CLIENT_ID``, ``AZURE_CLIENT_ID``), and Azure's own. Where no
Secret is for the account, the pod's identity is asked for a token, and then what is public is read without one.
https://kserve.github.io/website/docs/model-serving/storage/providers/azure
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from shoal_api.storage_secrets import AZURE_ANNOTATIONS, AnnotatedSecret, ServiceAccountNote
from shoal_api.storage_uri import StorageUri

from . import STORAGE_CREDENTIALS_INVALID, StorageError
from .joined import Joined
from .mounted import Mounted
from .s3_settings import annotated, true, url
from .secret_accesses import Values, of_secrets, settings_of

KEY: Final = "AZURE_STORAGE_ACCESS_KEY"
SAS: Final = "AZURE_STORAGE_SAS_TOKEN"
ACCOUNT: Final = "AZURE_STORAGE_ACCOUNT"
_SECRET_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "key": (KEY, "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
    "sas": (SAS, "AZURE_STORAGE_SAS_KEY"),
    "connection": ("AZURE_STORAGE_CONNECTION_STRING",),
    "tenant": ("AZ_TENANT_ID", "AZURE_TENANT_ID"),
    "client": ("AZ_CLIENT_ID", "AZURE_CLIENT_ID"),
    "secret": ("AZ_CLIENT_SECRET", "AZURE_CLIENT_SECRET"),
}
_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "account": (ACCOUNT, "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_ACCOUNT_NAME"),
    "endpoint": ("AZURE_STORAGE_ENDPOINT", "AZURE_SERVICE_URL"),
    "login": ("AZURE_AUTHORITY_HOST",),
}
AUTHORITY: Final = "ca.crt"
_IDENTITY: Final = "the pod's cloud identity"
_ANONYMOUS: Final = "no credentials"
_SIGNED: Final = "the signature in storageUri"


@dataclass(frozen=True, slots=True)
class AzureAccess:
    """One way to reach an account; ``account`` empty: whichever a URI names. Of ``key``, ``sas`` and ``secret`` (of
    ``client`` in ``tenant``) one at most is used, in the reverse order; none, and not anonymous: the pod's identity.

    ``origin`` names it in messages. Two that are equal can share a client.
    """

    origin: str
    account: str = ""
    endpoint: str | None = None
    anonymous: bool = False
    authority: str | None = None
    login: str | None = None
    tenant: str | None = None
    client: str | None = None
    secret: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    sas: str | None = field(default=None, repr=False)


def accesses(annotations_file: Path, secrets: Path, joined: Joined[AzureAccess] | None = None) -> list[AzureAccess]:
    """All that may be tried, in that order. Blocks. As ``of_secrets``."""
    found = of_secrets(annotations_file, secrets, _AzureReading(), joined)
    if found.accesses:
        return found.accesses
    said = annotated(found.account.annotations, AZURE_ANNOTATIONS)
    return _nobodys(found.in_vain("Azure Blob Storage"), said.get("account", ""), _endpoint(said.get("endpoint")))


def for_account(known: Sequence[AzureAccess], uri: StorageUri) -> list[AzureAccess]:
    """Those for the account that a URI names; else, and for one that has its own signature, without a Secret. Raises
    StorageError (StorageCredentialsInvalid) where nobody names an account."""
    named = uri.account
    if sas := dict(uri.parameters).get("sas"):
        return [AzureAccess(_SIGNED, account=named, sas=sas)]
    name = named.partition(".")[0]
    fit = [replace(each, account=named or each.account) for each in known if each.account in ("", name) or not name]
    fit = [each for each in fit if each.account]
    if fit:
        return fit
    if not named:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"{uri} names no storage account, and no Secret of the service account does. Add {ACCOUNT} to the Secret, "
            "or write https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH.",
        )
    return _nobodys(f" (no Secret is for account {name!r})", named, None)


def with_keys(access: AzureAccess, given: Mapping[str, str]) -> AzureAccess:
    """With what a Secret or an entry has: ``key``, ``sas``, ``connection``, ``tenant``, ``client``, ``secret``. Raises
    StorageError (StorageCredentialsInvalid)."""
    if connection := given.get("connection"):
        access = _connected(access, connection)
    tenant, client, secret = (given.get(name) for name in ("tenant", "client", "secret"))
    if secret and not (tenant and client):
        missing = "AZ_TENANT_ID" if client else "AZ_CLIENT_ID"
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID, f"{access.origin} has a client's secret but no {missing}. Add it."
        )
    return replace(
        access,
        tenant=tenant,
        client=client,
        secret=secret,
        key=given.get("key") or access.key,
        sas=(given.get("sas") or access.sas or "").lstrip("?") or None,
    )


@dataclass(frozen=True, slots=True)
class _AzureReading:
    """``Reading``."""

    def keys(self, mounted: Mounted) -> Values:
        return tuple(mounted.text(names) for names in _SECRET_KEYS.values())

    def settings(self, mounted: Mounted) -> Values:
        return settings_of(_texts(_SETTINGS, mounted).items())

    def access(self, said: AnnotatedSecret, account: ServiceAccountNote, mounted: Mounted) -> AzureAccess | None:
        keys = _texts(_SECRET_KEYS, mounted)
        own = {**_texts(_SETTINGS, mounted), **annotated(said.annotations, AZURE_ANNOTATIONS)}
        if not keys and not own:
            return None
        inherited = annotated(account.annotations, AZURE_ANNOTATIONS)
        authority = mounted.file(AUTHORITY)
        access = AzureAccess(
            f"Secret {said.name!r}",
            account=own.get("account") or inherited.get("account", ""),
            endpoint=_endpoint(own.get("endpoint") or inherited.get("endpoint")),
            anonymous=not keys or true(own.get("useanoncredential", "")),
            authority=str(authority) if authority is not None else None,
            login=own.get("login"),
        )
        return access if access.anonymous else with_keys(access, keys)


def _nobodys(vain: str, account: str, endpoint: str | None) -> list[AzureAccess]:
    anonymous = AzureAccess(f"{_ANONYMOUS}{vain}", account=account, endpoint=endpoint, anonymous=True)
    if endpoint is not None:
        return [anonymous]  # a token of the pod's is Azure's alone
    return [AzureAccess(f"{_IDENTITY}{vain}", account=account), anonymous]


def _connected(access: AzureAccess, connection: str) -> AzureAccess:
    parts = dict(part.partition("=")[::2] for part in connection.split(";") if "=" in part)
    account = access.account or parts.get("AccountName", "")
    endpoint = parts.get("BlobEndpoint")
    if not account and endpoint is not None and ".blob." in endpoint:
        account = endpoint.partition("://")[2].partition(".")[0]
    if endpoint is None and parts.get("EndpointSuffix", "core.windows.net") != "core.windows.net":
        endpoint = f"https://{account}.blob.{parts['EndpointSuffix']}"
    if not account and endpoint is None:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"The connection string in {access.origin} has neither AccountName nor BlobEndpoint. Copy it as Azure's "
            "portal shows it.",
        )
    return replace(
        access,
        account=account,
        endpoint=access.endpoint or _endpoint(endpoint),
        key=parts.get("AccountKey"),
        sas=parts.get("SharedAccessSignature"),
    )


def _texts(names: Mapping[str, tuple[str, ...]], mounted: Mounted) -> dict[str, str]:
    return {name: text for name, keys in names.items() if (text := mounted.text(keys))}


def _endpoint(said: str | None) -> str | None:
    return url(said.strip(), "1") if said and said.strip() else None

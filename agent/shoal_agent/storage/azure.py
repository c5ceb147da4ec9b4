"""``https://ACCOUNT.blob.core.windows.net/``, ``az://``, ``abfs://``: artifacts from Azure Blob Storage, by obstore."""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, cast

from obstore.exceptions import BaseError
from obstore.store import AzureStore
from shoal_api.storage_uri import StorageUri

from . import STORAGE_CREDENTIALS_INVALID, StorageError
from .azure_access import KEY, AzureAccess, accesses, for_account
from .cloud_errors import Words, unusable
from .cloud_type import CloudType
from .joined import Joined
from .object_source import ObjectSource
from .sayable import refuse_endpoint, refuse_text
from .stores import CloudBucket, Entry, Store, client_options

AZURE: Final = "Azure Blob Storage"
_ONE_BLOB: Final = "sr=b"
"""In a signature that is for one blob, and lists nothing."""
_TENANT: Final = re.compile(r"[A-Za-z0-9.-]{1,253}")
_WORDS: Final = Words(
    store=AZURE,
    bucket="container",
    bad_keys=frozenset({"AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"}),
    private=frozenset({"ResourceNotFound"}),
    no_bucket=frozenset({"ContainerNotFound", "ContainerBeingDeleted"}),
    correct="Correct the account's key, the SAS token (it may have expired) or the client's secret; a corrected Secret "
    "is noticed.",
    allow="Grant the role Storage Blob Data Reader on the container, let the account's network rules admit the "
    "cluster, or use other credentials (a SAS token needs the permissions read and list).",
    give=f"Add a Secret with {KEY}, or with AZ_TENANT_ID, AZ_CLIENT_ID and AZ_CLIENT_SECRET, to the predictor's "
    "service account, bind that to an Azure identity (workload identity), or make the container public.",
    endpoint="annotation serving.kserve.io/azure-endpoint, or AZURE_STORAGE_ENDPOINT",
)


class AzureBucket(CloudBucket):
    """``Store``. ``lists``: whether what reaches it may list."""

    def __init__(self, store: AzureStore, *, lists: bool) -> None:
        super().__init__(store)
        self._lists = lists

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        if self._lists:
            async for entry in super().list(prefix):
                yield entry


class AzureType(CloudType[AzureAccess]):
    """``StoreType``. A bucket is a container."""

    name: ClassVar[str] = AZURE
    words: ClassVar[Words] = _WORDS

    def __init__(self, annotations_file: Path, secrets: Path) -> None:
        self._annotations_file, self._secrets = annotations_file, secrets
        self._joined: Joined[AzureAccess] = Joined()

    def read(self) -> list[AzureAccess]:
        return accesses(self._annotations_file, self._secrets, self._joined)

    def candidates(self, known: Sequence[AzureAccess], uri: StorageUri) -> list[AzureAccess]:
        return for_account(known, uri)

    def open(self, access: AzureAccess, bucket: str, connections: int, *, exact: bool) -> Store:
        """A part that breaks off is tried again by whoever fetches it: the library does not."""
        _refuse_unsayable(access)
        client = client_options(connections, authority=access.authority)
        try:
            store = AzureStore(
                bucket,
                config=cast(Any, _config(access)),
                client_options=cast(Any, client),
                retry_config={"max_retries": 0},
            )
        except (BaseError, OSError) as error:
            raise unusable(error, self.asked(access, bucket, ""), _WORDS) from error
        return AzureBucket(store, lists=access.sas is None or _ONE_BLOB not in access.sas.split("&"))

    def url(self, access: AzureAccess, bucket: str, key: str) -> str:
        return f"{_usual(access.account)}/{bucket}/{key}"

    def endpoint(self, access: AzureAccess) -> str:
        return access.endpoint or _usual(access.account)


class AzureSource(ObjectSource[AzureAccess]):
    """``Source`` of Azure's URIs."""

    def __init__(self, annotations_file: Path, secrets: Path, connections: int) -> None:
        super().__init__(AzureType(annotations_file, secrets), connections)


def _refuse_unsayable(access: AzureAccess) -> None:
    """Raises StorageError (StorageCredentialsInvalid) for what no request can have."""
    refuse_endpoint(access.endpoint or _usual(access.account), access.origin)
    if access.login is not None:
        refuse_endpoint(access.login, access.origin, "authority host")
    if access.tenant is not None and not _TENANT.fullmatch(access.tenant):
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"The tenant of {access.origin} is {access.tenant[:80]!r}, which is neither a tenant's ID nor its domain.",
        )
    for what in ("client", "secret", "key", "sas"):
        refuse_text(getattr(access, what), what, access.origin)


def _usual(account: str) -> str:
    """An account's own address; ``account`` may be that of a DNS zone."""
    return f"https://{account}" if "." in account else f"https://{account}.blob.core.windows.net"


def _config(access: AzureAccess) -> dict[str, Any]:
    """What is said here counts, whatever the environment says; of an identity the environment says it all."""
    config: dict[str, Any] = {"account_name": access.account.partition(".")[0], "skip_signature": access.anonymous}
    if access.endpoint is not None or "." in access.account:
        config["endpoint"] = access.endpoint or _usual(access.account)
    if access.login is not None:
        config["authority_host"] = access.login
    if access.anonymous:
        return config
    if access.secret is not None:
        named = {"client_id": access.client, "tenant_id": access.tenant, "client_secret": access.secret}
        return config | named | {"credential_type": "client_secret"}
    if access.key is not None:
        return config | {"account_key": access.key, "credential_type": "access_key"}
    if access.sas is not None:
        return config | {"sas_key": access.sas, "credential_type": "sas_token"}
    return config | ({"client_id": access.client} if access.client else {})

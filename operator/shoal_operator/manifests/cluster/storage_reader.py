"""Reads the storage Secrets of service accounts: their metadata only, never their keys."""

import logging

from shoal_operator.kube import METADATA_ONLY, KubeApi, KubeError, object_path
from shoal_operator.logs import OncePer
from shoal_operator.manifests.storage import Storage, StorageSecret, is_generated, secret_names, storage_annotations
from shoal_operator.work_queue import Retry

log = logging.getLogger(__name__)

DEFAULT_SERVICE_ACCOUNT = "default"
Account = tuple[str, str]
"""Namespace and name of a ServiceAccount."""


class StorageReader:
    """Keeps what each service account brought; ``refresh`` reads it again."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._known: dict[Account, Storage] = {}
        self._complain = OncePer(600.0)

    async def get(self, account: Account) -> Storage:
        """What is known, read first if nothing is. Raises Retry when the API server cannot say."""
        known = self._known.get(account)
        if known is None:
            known = self._known[account] = await self._read(account)
        return known

    async def refresh(self, account: Account) -> bool:
        """Read again; whether it changed. When the API server cannot say, what was known stays."""
        try:
            now = await self._read(account)
        except Retry:
            return False
        changed = self._known.get(account) != now
        self._known[account] = now
        return changed

    def keep_only(self, accounts: set[Account]) -> None:
        """Forget service accounts that no InferenceService names any more."""
        for account in self._known.keys() - accounts:
            del self._known[account]

    async def _read(self, account: Account) -> Storage:
        namespace, name = account
        try:
            found = await self._api.request("GET", object_path("v1", "serviceaccounts", namespace, name))
        except KubeError as error:
            # Without its service account no pod can be made, and the Deployment says so.
            self._raise_if_passing(error, f"service account {namespace}/{name}")
            return Storage(name)
        secrets = []
        for secret in secret_names(found):
            described = await self._describe(namespace, secret)
            if described is not None:
                secrets.append(described)
        return Storage(name, storage_annotations(found.get("metadata") or {}), tuple(secrets))

    async def _describe(self, namespace: str, name: str) -> StorageSecret | None:
        try:
            found = await self._api.request("GET", object_path("v1", "secrets", namespace, name), accept=METADATA_ONLY)
        except KubeError as error:
            self._raise_if_passing(error, f"Secret {namespace}/{name}")
            return StorageSecret(name)  # mounted once it is there
        meta = found.get("metadata") or {}
        return None if is_generated(meta) else StorageSecret(name, storage_annotations(meta))

    def _raise_if_passing(self, error: KubeError, what: str) -> None:
        """Raises Retry when the answer may be another soon; logs one that will stay (gone, forbidden)."""
        if error.transient or error.status == 401:
            raise Retry(str(error), error.retry_after or 0.0) from error
        if self._complain.ready(what):
            log.warning(
                "storage credentials could not be looked up",
                extra={"event": "StorageAccountUnreadable", "object": what, "answer": str(error)},
            )

"""Reads the storage Secrets of service accounts: their metadata only, never their keys."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from shoal_api.model_storage import STORAGE_CONFIG_SECRET
from shoal_api.names import LABEL_INFERENCE_SERVICE, LABEL_MANAGED_BY, MANAGED_BY

from shoal_operator.kube import METADATA_ONLY, KubeApi, KubeError, merge_patch, object_path
from shoal_operator.logs import OncePer
from shoal_operator.manifests.storage import (
    ANNOTATION_STORAGE,
    Storage,
    StorageSecret,
    is_generated,
    secret_names,
    storage_annotations,
)
from shoal_operator.state.world.values import ServiceKey
from shoal_operator.work_queue import Retry

log = logging.getLogger(__name__)

DEFAULT_SERVICE_ACCOUNT = "default"
Account = tuple[str, str]
"""Namespace and name of a ServiceAccount."""


LOOK_SECONDS = 10.0
"""How often what is missing is looked for; all else likewise where it is little, up to the below where it is much, and
when somebody hints."""
REFRESH_SECONDS = 60.0
ACCOUNTS_A_SECOND = 4.0
"""Service accounts read again, each with its Secrets, where there are so many."""
PAUSE_SECONDS = 1.0
SETTLE_SECONDS = 1.0
"""Until what was written has reached the kubelets' own watches."""


class StorageReader:
    """Keeps what each service account brought, and reads it again: of Secrets nothing may be watched.

    ``in_use``: the service accounts that InferenceServices name. ``on_change``: told of one that brings something else.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        in_use: Callable[[], set[Account]] = set,
        on_change: Callable[[Account], None] = lambda account: None,
    ) -> None:
        self._api = api
        self._in_use = in_use
        self._on_change = on_change
        self._known: dict[Account, Storage] = {}
        self._hinted: set[Account] = set()
        self._hint = asyncio.Event()
        self._complain = OncePer(600.0)

    async def get(self, account: Account) -> Storage:
        """What is known, read first if nothing is. Raises Retry when the API server cannot say."""
        known = self._known.get(account)
        if known is None:
            known = self._known[account] = await self._read(account)
        return known

    def known(self, account: Account | None) -> Storage:
        """What is known; nothing if nothing is."""
        return (self._known.get(account) if account is not None else None) or Storage()

    def hint(self, account: Account | None) -> None:
        """Its pods come or go: have it read again now, since a new pod mounts the Secrets as they are now."""
        if account in self._known:
            self._hinted.add(account)
            self._hint.set()

    async def run(self) -> None:
        """Until cancelled."""
        refreshed = time.monotonic()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hint.wait(), min(LOOK_SECONDS, REFRESH_SECONDS))
            self._hint.clear()
            accounts, hinted, self._hinted = self._in_use(), self._hinted, set()
            for account in self._known.keys() - accounts:
                del self._known[account]
            patience = min(REFRESH_SECONDS, max(LOOK_SECONDS, len(accounts) / ACCOUNTS_A_SECOND))
            if everything := time.monotonic() - refreshed >= patience:
                refreshed = time.monotonic()
            for account in [*accounts]:
                if everything or account in hinted or self.known(account).missing:
                    await self._refresh(account)
            await asyncio.sleep(min(PAUSE_SECONDS, REFRESH_SECONDS))

    async def applied(self, service: ServiceKey, before: Storage | None, now: Storage) -> Storage:
        """The service's storage.json is as ``now``, and was as ``before``: what is news the kubelets are to mount now.

        A kubelet looks at a pod's volumes once a minute, and when the pod changes: so its annotation does.
        """
        if before is None or before == now:
            return now
        await asyncio.sleep(SETTLE_SECONDS)
        query = {"labelSelector": f"{LABEL_INFERENCE_SERVICE}={service.name},{LABEL_MANAGED_BY}={MANAGED_BY}"}
        patch = {"metadata": {"annotations": {ANNOTATION_STORAGE: now.mark}}}
        pods = object_path("v1", "pods", service.namespace)
        with suppress(KubeError):  # they get round to it by themselves
            found = await self._api.request("GET", pods, query=query)
            for pod in found.get("items") or ():
                with suppress(KubeError):
                    await merge_patch(self._api, f"{pods}/{pod['metadata']['name']}", patch)
        return now

    async def _refresh(self, account: Account) -> None:
        """Read again. When the API server cannot say, what was known stays."""
        try:
            now = await self._read(account)
        except Retry:
            return
        before = self._known.get(account)
        self._known[account] = now
        if before != now:
            self._on_change(account)

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
        entries = await self._describe(namespace, STORAGE_CONFIG_SECRET)
        state = f"{entries.uid}/{entries.version}" if entries is not None else ""
        return Storage(name, storage_annotations(found.get("metadata") or {}), tuple(secrets), state)

    async def _describe(self, namespace: str, name: str) -> StorageSecret | None:
        try:
            found = await self._api.request("GET", object_path("v1", "secrets", namespace, name), accept=METADATA_ONLY)
        except KubeError as error:
            if not error.gone:  # which is a condition's to say, and of storage-config as it should be
                self._raise_if_passing(error, f"Secret {namespace}/{name}")
            return StorageSecret(name, missing=True)  # mounted once it is there
        meta = found.get("metadata") or {}
        if is_generated(meta):
            return None
        uid, version = str(meta.get("uid", "")), str(meta.get("resourceVersion", ""))
        return StorageSecret(name, storage_annotations(meta), uid, version)

    def _raise_if_passing(self, error: KubeError, what: str) -> None:
        """Raises Retry when the answer may be another soon; logs one that will stay (gone, forbidden)."""
        if error.transient or error.status == 401:
            raise Retry(str(error), error.retry_after or 0.0) from error
        if self._complain.ready(what):
            log.warning(
                "storage credentials could not be looked up",
                extra={"event": "StorageAccountUnreadable", "object": what, "answer": str(error)},
            )

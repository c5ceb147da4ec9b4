"""Metadata-only lists: they end the initial sync, and find what a watch gap has hidden (ghosts, by UID)."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from shoal_api.names import GROUP, LABEL_INFERENCE_SERVICE, LABEL_MANAGED_BY, MANAGED_BY
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from shoal_operator.kube import KubeApi, KubeError, object_path
from shoal_operator.state.events import Kind, Listed

log = logging.getLogger(__name__)

ACCEPT = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE = 2000
INTERVAL_SECONDS = 300.0
CATCH_UP_SECONDS = 5.0
CATCH_UP_MAX_SECONDS = 60.0
POLL_SECONDS = 0.1

Uids = dict[tuple[str, str], str]

_PATHS = {
    Kind.SERVICE: (f"{GROUP}/v1beta1", "inferenceservices", ""),
    Kind.POD: ("v1", "pods", f"{LABEL_INFERENCE_SERVICE},{LABEL_MANAGED_BY}={MANAGED_BY}"),
    Kind.MODEL: (f"{GROUP}/v1alpha1", "trainedmodels", ""),
}


class Sweeper:
    """Lists every kind at start and every ``INTERVAL_SECONDS``.

    ``known(kind)``: the UIDs that the watch has delivered so far. A list is handed on once the watch has caught up
    with it, so that the state never believes that it knows everything while objects are still on their way; and with
    what the watch has shown since the list was begun, which must not be taken for ghosts.
    """

    def __init__(
        self,
        api: KubeApi,
        namespaces: Sequence[str],
        known: Callable[[Kind], Uids],
        deliver: Callable[[Listed], None],
    ) -> None:
        self._api = api
        self._namespaces: Sequence[str | None] = tuple(namespaces) or (None,)
        self._known = known
        self._deliver = deliver

    async def run(self) -> None:
        """Sweep until cancelled; an API server that is away is tried again."""
        while True:
            for kind in _PATHS:
                self._deliver(Listed(kind, await self._caught_up(kind)))
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _caught_up(self, kind: Kind) -> Uids:
        """A list that the watch has delivered in full; after a while, which grows, the list is made again."""
        patience = CATCH_UP_SECONDS
        while True:
            before = dict(self._known(kind))
            uids = await self._list(kind)
            missing = list(uids)
            for _ in range(int(patience / POLL_SECONDS)):
                missing = [key for key in missing if not self._shown(kind, key, uids[key], before)]
                if not missing:
                    known = self._known(kind)
                    since = {key: uid for key, uid in known.items() if key not in uids and before.get(key) != uid}
                    return {key: uid for key, uid in uids.items() if known.get(key) == uid} | since
                await asyncio.sleep(POLL_SECONDS)
            log.warning(
                "the watch lags behind the list", extra={"event": "WatchLags", "kind": kind, "missing": len(missing)}
            )
            patience = min(2 * patience, CATCH_UP_MAX_SECONDS)

    def _shown(self, kind: Kind, key: tuple[str, str], uid: str, before: Uids) -> bool:
        """The watch has shown the object, or has shown it and taken it back since."""
        now = self._known(kind).get(key)
        return now == uid or (now is None and before.get(key) == uid)

    async def _list(self, kind: Kind) -> Uids:
        uids: Uids = {}
        for namespace in self._namespaces:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(KubeError), wait=wait_exponential_jitter(multiplier=0.5, max=30)
            ):
                with attempt:
                    found = await self._list_namespace(kind, namespace)
            uids |= found
        return uids

    async def _list_namespace(self, kind: Kind, namespace: str | None) -> Uids:
        api_version, plural, selector = _PATHS[kind]
        path = object_path(api_version, plural, namespace)
        uids: Uids = {}
        token = ""
        while True:
            query = {"limit": str(PAGE), "continue": token, "labelSelector": selector}
            answer: dict[str, Any] = await self._api.request(
                "GET", path, accept=ACCEPT, query={key: value for key, value in query.items() if value}
            )
            for item in answer.get("items") or ():
                meta = item["metadata"]
                uids[meta["namespace"], meta["name"]] = meta["uid"]
            token = (answer.get("metadata") or {}).get("continue") or ""
            if not token:
                return uids

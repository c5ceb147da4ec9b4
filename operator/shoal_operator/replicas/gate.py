"""Sets the readiness gate of pods: the pod is Ready for Kubernetes once its share of models is placed."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from shoal_api.names import FIELD_MANAGER, READINESS_GATE

from shoal_operator.kube import STRATEGIC_MERGE, KubeApi, KubeError, object_path
from shoal_operator.work_queue import Retry, WorkQueue

log = logging.getLogger(__name__)


class PodKey(NamedTuple):
    """A pod by name."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class _Wish:
    uid: str
    is_open: bool
    message: str


class GateSetter:
    """Bounded by the number of pods: only the latest wish for each is kept."""

    def __init__(self, api: KubeApi, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api = api
        self._now = now
        self._wishes: dict[PodKey, _Wish] = {}
        self._queue: WorkQueue[PodKey] = WorkQueue(self._write, workers=4)

    def set(self, namespace: str, pod: str, uid: str, *, is_open: bool, message: str) -> None:
        """Have the gate opened or closed; an empty ``uid`` means whichever pod has the name."""
        key = PodKey(namespace, pod)
        self._wishes[key] = _Wish(uid, is_open, message)
        self._queue.add(key)

    async def run(self) -> None:
        """Until cancelled."""
        await self._queue.run()

    async def _write(self, key: PodKey) -> None:
        wish = self._wishes.get(key)
        if wish is None:
            return
        condition = {
            "type": READINESS_GATE,
            "status": "True" if wish.is_open else "False",
            "reason": "ModelsPlaced" if wish.is_open else "ModelsLoading",
            "message": wish.message,
            "lastTransitionTime": self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        # A strategic merge joins conditions by type, so the kubelet's own stay as they are.
        patch: dict[str, Any] = {"status": {"conditions": [condition]}}
        if wish.uid:
            patch["metadata"] = {"uid": wish.uid}
        try:
            await self._api.request(
                "PATCH",
                object_path("v1", "pods", key.namespace, key.name, "status"),
                body=patch,
                content_type=STRATEGIC_MERGE,
                query={"fieldManager": FIELD_MANAGER},
            )
        except KubeError as error:
            # Gone, or another pod by that name: nothing is left to open.
            if not (error.gone or (wish.uid and error.status in (409, 422))):
                log.info(
                    "a pod's readiness gate could not be set yet",
                    extra={"event": "GateDelayed", "pod": f"{key.namespace}/{key.name}", "answer": str(error)},
                )
                raise Retry(str(error), error.retry_after or 0.0) from error
        if self._wishes.get(key) == wish:
            del self._wishes[key]

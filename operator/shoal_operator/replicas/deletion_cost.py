"""Tells Kubernetes which pod to drop first when a Deployment gets smaller, by annotation pod-deletion-cost."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from shoal_api.names import ANNOTATION_DELETION_COST

from shoal_operator.kube import KubeApi, KubeError, merge_patch, object_path
from shoal_operator.work_queue import Retry, WorkQueue

from .gate import PodKey

log = logging.getLogger(__name__)

Object = dict[str, Any]

BETWEEN_SECONDS = 15.0
"""Between two writes to one pod."""
MAX_REMEMBERED = 10_000
"""Pods whose last cost is remembered; one that is forgotten costs a further write."""


class Cost(NamedTuple):
    """Of one pod by UID."""

    uid: str
    value: int


class DeletionCosts:
    """Bounded by the number of pods: only the latest cost of each is kept, and written only when it changed."""

    def __init__(self, api: KubeApi, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._wishes: dict[PodKey, Cost] = {}
        self._written: OrderedDict[PodKey, tuple[Cost, float]] = OrderedDict()
        self._queue: WorkQueue[PodKey] = WorkQueue(self._write, workers=2, clock=clock)

    def set(self, namespace: str, pod: str, uid: str, value: int) -> None:
        """Have the cost written."""
        key, cost = PodKey(namespace, pod), Cost(uid, value)
        written = self._written.get(key)
        if key not in self._wishes and written is not None and written[0] == cost:
            return
        self._wishes[key] = cost
        self._queue.add(key)

    def pending(self, namespace: str, prefix: str) -> bool:
        """Whether a cost is still to be written, of a pod whose name begins so."""
        return any(key.namespace == namespace and key.name.startswith(prefix) for key in self._wishes)

    async def run(self) -> None:
        """Until cancelled."""
        await self._queue.run()

    async def _write(self, key: PodKey) -> None:
        wish = self._wishes.get(key)
        if wish is None:
            return
        before = self._written.get(key)
        if before is not None and before[0] == wish:
            del self._wishes[key]  # taken back before it was written
            return
        if before is not None and before[0].uid == wish.uid:
            wait = before[1] + BETWEEN_SECONDS - self._clock()
            if wait > 0:
                raise Retry("this pod's cost was written a moment ago", wait)
        patch: Object = {"metadata": {"annotations": {ANNOTATION_DELETION_COST: str(wish.value)}}}
        if wish.uid:
            patch["metadata"]["uid"] = wish.uid
        try:
            await merge_patch(self._api, object_path("v1", "pods", *key), patch)
        except KubeError as error:
            # Gone, or another pod by that name: there is nothing to choose any more.
            if not error.gone and error.status not in (409, 422):
                self._failed(key, error)
        else:
            self._remember(key, wish)
        if self._wishes.get(key) == wish:
            del self._wishes[key]

    def _failed(self, key: PodKey, error: KubeError) -> None:
        """Raises Retry when the answer may be another soon. Else any pod goes: no reason to keep one too many."""
        log.info(
            "a pod's deletion cost could not be set",
            extra={"event": "DeletionCostRefused", "pod": f"{key.namespace}/{key.name}", "answer": str(error)},
        )
        if error.transient or error.status == 401:
            raise Retry(str(error), error.retry_after or 0.0) from error

    def _remember(self, key: PodKey, cost: Cost) -> None:
        self._written[key] = cost, self._clock()
        self._written.move_to_end(key)
        if len(self._written) > MAX_REMEMBERED:
            self._written.popitem(last=False)

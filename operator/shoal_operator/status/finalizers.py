"""KServe's finalizer taken off TrainedModels that are being deleted, a few at a time, beside the status writes."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from shoal_api.names import GROUP

from shoal_operator.kube import KubeApi, KubeError, merge_patch, object_path
from shoal_operator.logs import OncePer

from .budget import TokenBucket
from .patches import finalizer_patch

log = logging.getLogger(__name__)

Object = dict[str, Any]
Key = tuple[str, str, str]

WORKERS = 4
PER_SECOND = 50.0
ATTEMPTS = 6
RETRY_SECONDS = 0.5


class Finalizers:
    """``deleting`` never blocks; ``run`` works. One entry for each object that is being deleted and still has it."""

    def __init__(self, api: KubeApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._bucket = TokenBucket(PER_SECOND, burst=PER_SECOND / 2)
        self._patches: dict[Key, Object] = {}
        self._waiting: deque[Key] = deque()
        self._work = asyncio.Semaphore(0)
        self._complain = OncePer(60.0)

    def deleting(self, obj: Mapping[str, Any]) -> None:
        """A TrainedModel is being deleted: take KServe's finalizer off if it has it. Does nothing otherwise."""
        patch = finalizer_patch(obj)
        meta = obj.get("metadata") or {}
        key = (str(meta.get("namespace", "")), str(meta.get("name", "")), str(meta.get("uid", "")))
        if patch is None or key in self._patches:
            return
        self._patches[key] = patch
        self._waiting.append(key)
        self._work.release()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(self._remove_for_ever())

    async def _remove_for_ever(self) -> None:
        while True:
            await self._work.acquire()
            key = self._waiting.popleft()
            try:
                await self._remove(key, self._patches[key])
            except Exception:
                # One object's trouble must not end a worker.
                extra = {"event": "FinalizerFailed", "object": "/".join(key[:2])}
                log.exception("KServe's finalizer could not be removed", extra=extra)
            finally:
                del self._patches[key]

    async def _remove(self, key: Key, patch: Object) -> None:
        """One object's finalizer; on a conflict the watch brings the object again, and with it the next try."""
        namespace, name, _ = key
        path = object_path(f"{GROUP}/v1alpha1", "trainedmodels", namespace, name)
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(self._bucket.wait(self._clock()))
            try:
                await merge_patch(self._api, path, patch)
                return
            except KubeError as error:
                if not error.transient or error.conflict:
                    if not (error.gone or error.conflict) and self._complain.ready(("finalizer", error.status)):
                        log.warning(
                            "KServe's finalizer could not be removed",
                            extra={"event": "FinalizerKept", "object": f"{namespace}/{name}", "answer": str(error)},
                        )
                    return
                await asyncio.sleep(RETRY_SECONDS * 2**attempt)

"""Owned objects that were there and are gone: whether they are to be made again, and when.

Most often somebody deleted one by mistake, and it is made again at once. But where the InferenceService's own end was
not told of yet (its watch is silent), it is the garbage collector that takes its objects; and where somebody else
deletes an object again and again, making it again is a fight. So its owner is looked up first, and pauses grow.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from shoal_api.names import GROUP

from shoal_operator.kube import METADATA_ONLY, KubeApi, KubeError, object_path
from shoal_operator.state.world.values import ServiceKey, is_group
from shoal_operator.work_queue import Retry

from .owned import ObjectKey

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
CALM_SECONDS = 600.0
"""After so long an object that is lost is made again at once."""


class OwnerGone(Exception):
    """The InferenceService is not there any more, or is about to go."""


@dataclass(slots=True)
class _Lost:
    times: int
    at: float  # the last time
    is_there: bool = False  # again


class LostObjects:
    """Bounded by the objects of the InferenceServices that there are. ``clock`` in seconds."""

    def __init__(self, api: KubeApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._lost: dict[ServiceKey, dict[ObjectKey, _Lost]] = {}

    def lost(self, service: ServiceKey, key: ObjectKey) -> None:
        """The watch has told of the object's end, which we have not asked for."""
        entry = self._lost.setdefault(service, {}).setdefault(key, _Lost(0, self._clock()))
        entry.times = entry.times + 1 if self._clock() < entry.at + CALM_SECONDS else 1
        entry.at, entry.is_there = self._clock(), False

    def made(self, service: ServiceKey, key: ObjectKey) -> None:
        """It is there again."""
        entry = self._lost.get(service, {}).get(key)
        if entry is not None:
            entry.is_there = True

    def forget(self, service: ServiceKey) -> None:
        """The InferenceService is gone."""
        self._lost.pop(service, None)

    async def check(self, service: ServiceKey, key: ObjectKey, owner_uid: str) -> None:
        """May the object be made? Does nothing for one that was not lost. Raises Retry (not yet) and OwnerGone."""
        entry = self._lost.get(service, {}).get(key)
        if entry is None or entry.is_there:
            return
        wait = entry.at + _pause(entry.times) - self._clock()
        if wait > 0:
            raise Retry(f"{key.kind} {key.name} was deleted {entry.times} times", wait)
        if is_group(service.name):
            return  # its runtime's end is told, and takes the object along
        path = object_path(f"{GROUP}/v1beta1", "inferenceservices", service.namespace, service.name)
        try:
            found = await self._api.request("GET", path, accept=METADATA_ONLY)
        except KubeError as error:
            if error.gone:
                raise OwnerGone from error
            raise Retry(str(error), error.retry_after or 0.0) from error
        meta = found.get("metadata") or {}
        if meta.get("uid") != owner_uid or meta.get("deletionTimestamp") is not None:
            raise OwnerGone


def _pause(times: int) -> float:
    return 0.0 if times <= 1 else min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(times - 2, 10))

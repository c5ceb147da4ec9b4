"""Kubernetes Events: one per failing object and reason in some minutes, few in all; of good news only scaling."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shoal_operator.kube import KubeApi, KubeError, object_path
from shoal_operator.logs import OncePer

from .budget import TokenBucket

log = logging.getLogger(__name__)

REPORTER = "shoal.dev/operator"
AGAIN_SECONDS = 600.0
MAX_REMEMBERED = 20_000
MAX_WAITING = 200
MAX_NOTE_BYTES = 1024
"""The API server counts the bytes of UTF-8."""


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class FailureEvents:
    """``failed`` never blocks and never fails; ``run`` sends. ``instance``: the operator's pod name."""

    def __init__(
        self,
        api: KubeApi,
        instance: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._instance = instance
        self._clock = clock
        self._now = now
        # A thousand models may fail for one cause: enough are told to be seen, and the etcd is spared the rest.
        self._bucket = TokenBucket(rate=2.0, burst=50.0)
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self._complain = OncePer(60.0)

    def failed(self, regarding: Regarding, reason: str, message: str) -> None:
        """Tell of a failure, unless the same was told lately or too many are."""
        now = self._clock()
        key = (regarding.uid, reason)
        told = self._told.get(key)
        if told is not None and now - told < AGAIN_SECONDS:
            return
        if self._queue.full() or not self._bucket.take(now):
            return
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
        self._queue.put_nowait(self._event(regarding, reason, message))

    def scaled(self, regarding: Regarding, message: str) -> None:
        """Tell that the number of pods was changed, each time, unless too many events wait."""
        if not self._queue.full() and self._bucket.take(self._clock()):
            self._queue.put_nowait(self._event(regarding, "Scaled", message, kind="Normal", action="Scale"))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            event = await self._queue.get()
            path = object_path("events.k8s.io/v1", "events", event["metadata"]["namespace"])
            try:
                await self._api.request("POST", path, body=event)
            except KubeError as error:
                # An event that is lost is in the object's status still, so it is not tried again.
                if not error.namespace_ending and self._complain.ready(error.status):
                    log.warning("an event was not taken", extra={"event": "EventRefused", "answer": str(error)})

    def _event(
        self, regarding: Regarding, reason: str, message: str, kind: str = "Warning", action: str = "Serve"
    ) -> dict[str, Any]:
        moment = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{regarding.name[:200]}-", "namespace": regarding.namespace},
            "eventTime": moment,
            "type": kind,
            "reason": reason,
            "action": action,
            "note": message.encode()[:MAX_NOTE_BYTES].decode(errors="ignore"),
            "reportingController": REPORTER,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": regarding.api_version,
                "kind": regarding.kind,
                "namespace": regarding.namespace,
                "name": regarding.name,
                "uid": regarding.uid,
            },
        }

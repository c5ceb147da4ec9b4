"""The one writer of both kinds' status: coalescing, bounded, quiet when nothing changed.

A key that was said to have changed is looked at again after a moment; only then is its view built, so a hundred
changes cost one view. A status equal to the stored one is never sent, and the watch tells what is stored, so a
restart of the operator writes nothing.
"""

import asyncio
import hashlib
import heapq
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from typing import Any

from shoal_api.names import GROUP

from shoal_operator.kube import KubeApi, KubeError, json_patch, merge_patch, object_path
from shoal_operator.logs import OncePer
from shoal_operator.state.values import ModelKey, ServiceKey
from shoal_operator.state.views import ModelView, ServiceView

from .budget import MODEL_QUIET_SECONDS, SERVICE_QUIET_SECONDS, Due, Ledger, TokenBucket, due
from .conditions import Finding
from .events import FailureEvents, Regarding
from .model_status import model_status, trouble
from .patches import finalizer_patch, status_patch
from .service_status import service_status
from .service_status import trouble as service_trouble

log = logging.getLogger(__name__)

Object = dict[str, Any]

COALESCE_SECONDS = 0.05
RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 60.0
_EMPTY = b"{}"


class Subject(StrEnum):
    """The two kinds, and their path in the API."""

    MODEL = "trainedmodels"
    SERVICE = "inferenceservices"


_VERSIONS = {Subject.MODEL: "v1alpha1", Subject.SERVICE: "v1beta1"}
_KINDS = {Subject.MODEL: "TrainedModel", Subject.SERVICE: "InferenceService"}
_QUIET = {Subject.MODEL: MODEL_QUIET_SECONDS, Subject.SERVICE: SERVICE_QUIET_SECONDS}

Target = tuple[Subject, str, str]


@dataclass(slots=True)
class _Entry:
    """One object's status as stored. ``stored`` is JSON: thousands of these are kept, and few are ever read."""

    uid: str = ""
    version: int = 0
    stored: bytes = _EMPTY
    settled: bytes = b""  # digest of what was sent and of what came of it: the schema may drop fields
    ledger: Ledger = field(default_factory=Ledger)
    due: float | None = None
    queued: deque[Target] | None = None  # the queue it counts in; an older place in the other one is void
    writing: bool = False
    changed: bool = False  # while it was being written
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Work:
    """What would be written now."""

    uid: str
    desired: Object
    due: Due
    trouble: Finding | None


class StatusWriter:
    """``model_view`` and ``service_view`` build one view on demand; they are called on the event loop."""

    def __init__(
        self,
        api: KubeApi,
        *,
        model_view: Callable[[ModelKey], ModelView | None],
        service_view: Callable[[ServiceKey], ServiceView | None],
        events: FailureEvents | None = None,
        cluster_domain: str = "cluster.local",
        writes_per_second: float = 100.0,
        writers: int = 8,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._model_view = model_view
        self._service_view = service_view
        self._events = events
        self._cluster_domain = cluster_domain
        self._bucket = TokenBucket(writes_per_second, burst=writes_per_second / 2)
        self._writers = writers
        self._clock = clock
        self._now = now
        self._entries: dict[Target, _Entry] = {}
        self._timers: list[tuple[float, int, Target]] = []
        self._sequence = count()
        self._urgent: deque[Target] = deque()
        self._normal: deque[Target] = deque()
        self._opened = asyncio.Event()
        self._timer_changed = asyncio.Event()
        self._work_waiting = asyncio.Semaphore(0)
        self._finalizers: dict[tuple[str, str, str], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._complain = OncePer(60.0)
        self.written = 0
        """Status writes that the API server took, for metrics."""

    # What changed.

    def model_changed(self, key: ModelKey) -> None:
        """A model's view may differ now."""
        self._look_soon((Subject.MODEL, key.namespace, key.name))

    def service_changed(self, key: ServiceKey) -> None:
        """An InferenceService's view may differ now."""
        self._look_soon((Subject.SERVICE, key.namespace, key.name))

    def observed_model_status(
        self, key: ModelKey, uid: str, resource_version: str, status: Mapping[str, Any] | None
    ) -> None:
        """The watch saw this status stored."""
        self._observed((Subject.MODEL, key.namespace, key.name), uid, resource_version, status)

    def observed_service_status(
        self, key: ServiceKey, uid: str, resource_version: str, status: Mapping[str, Any] | None
    ) -> None:
        """The watch saw this status stored."""
        self._observed((Subject.SERVICE, key.namespace, key.name), uid, resource_version, status)

    def model_gone(self, key: ModelKey) -> None:
        """The object was deleted: nothing of it is kept."""
        self._entries.pop((Subject.MODEL, key.namespace, key.name), None)

    def service_gone(self, key: ServiceKey) -> None:
        """The object was deleted: nothing of it is kept."""
        self._entries.pop((Subject.SERVICE, key.namespace, key.name), None)

    def model_deleting(self, obj: Mapping[str, Any]) -> None:
        """A TrainedModel is being deleted: take KServe's finalizer off if it has it. Does nothing otherwise."""
        patch = finalizer_patch(obj)
        meta = obj.get("metadata") or {}
        key = (str(meta.get("namespace", "")), str(meta.get("name", "")), str(meta.get("uid", "")))
        if patch is None or key in self._finalizers:
            return
        self._finalizers[key] = 1
        self._start(self._remove_finalizer(key, patch), "finalizer")

    # Running.

    def open(self) -> None:
        """Writing may begin: the recovery barrier fell."""
        self._opened.set()

    @property
    def pending(self) -> int:
        """Objects whose status is due or held back, for metrics."""
        return sum(1 for entry in self._entries.values() if entry.ledger.differs_since is not None)

    async def run(self) -> None:
        """Until cancelled."""
        await self._opened.wait()
        try:
            for number in range(self._writers):
                self._start(self._write_for_ever(), f"writer-{number}")
            while True:
                await self._wait_for_timer()
                now = self._clock()
                while self._timers and self._timers[0][0] <= now:
                    at, _, target = heapq.heappop(self._timers)
                    entry = self._entries.get(target)
                    if entry is not None and entry.due == at:
                        entry.due = None
                        self._look(target, entry)
        finally:
            await self.close()

    async def close(self) -> None:
        """End what is under way; what was not written will be found different after the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Deciding.

    def _look_soon(self, target: Target) -> None:
        entry = self._entries.get(target)
        if entry is None:
            entry = self._entries[target] = _Entry()
        if entry.writing:
            entry.changed = True
        else:
            self._schedule(target, entry, self._clock() + COALESCE_SECONDS)

    def _observed(self, target: Target, uid: str, resource_version: str, status: Mapping[str, Any] | None) -> None:
        version = int(resource_version) if resource_version.isdigit() else 0
        entry = self._entries.get(target)
        if entry is None:
            entry = self._entries[target] = _Entry(uid=uid)
        elif entry.uid != uid:
            entry.uid, entry.stored, entry.settled, entry.ledger = uid, _EMPTY, b"", Ledger()
        elif version < entry.version:
            return  # our own write is newer than this event
        entry.version = version
        stored = _dump(status or {})
        if stored == entry.stored:
            return
        entry.stored = stored
        # Somebody else wrote it (or this is the first sight of it): compare with what it should be.
        self._look_soon(target)

    def _schedule(self, target: Target, entry: _Entry, at: float) -> None:
        if entry.due is not None and entry.due <= at:
            return
        entry.due = at
        heapq.heappush(self._timers, (at, next(self._sequence), target))
        self._timer_changed.set()

    async def _wait_for_timer(self) -> None:
        self._timer_changed.clear()
        delay = self._timers[0][0] - self._clock() if self._timers else None
        if delay is not None and delay <= 0:
            await asyncio.sleep(0)  # thousands may be due: let others run in between
            return
        try:
            async with asyncio.timeout(delay):
                await self._timer_changed.wait()
        except TimeoutError:
            return

    def _look(self, target: Target, entry: _Entry) -> None:
        """Queue the object, put it off, or forget the difference."""
        if entry.writing:
            entry.changed = True
            return
        work = self._work(target, entry)
        if work is None:
            return
        now = self._clock()
        if entry.ledger.differs_since is None:
            entry.ledger.differs_since = now
        if work.due.at > now:
            self._schedule(target, entry, work.due.at)
            return
        queue = self._urgent if work.due.urgent else self._normal
        if entry.queued is None or (entry.queued is self._normal and queue is self._urgent):
            entry.queued = queue
            queue.append(target)
            self._work_waiting.release()

    def _work(self, target: Target, entry: _Entry) -> _Work | None:
        """What is to be written of an object, or None when it is gone or equal to what is stored."""
        subject, namespace, name = target
        previous: Object = json.loads(entry.stored)
        if subject is Subject.MODEL:
            model = self._model_view(ModelKey(namespace, name))
            if model is None:
                return None
            uid, found = model.spec.uid, trouble(model)
            previous = previous if uid == entry.uid else {}
            desired = model_status(model, previous, self._now(), self._cluster_domain)
        else:
            service = self._service_view(ServiceKey(namespace, name))
            if service is None:
                return None
            uid, found = service.spec.uid, service_trouble(service)
            previous = previous if uid == entry.uid else {}
            desired = service_status(service, previous, self._now(), self._cluster_domain)
        if uid != entry.uid:
            entry.uid, entry.version, entry.stored, entry.settled = uid, 0, _EMPTY, b""
            entry.ledger = Ledger()
        if desired == previous or (entry.settled and _digest(_dump(desired), entry.stored) == entry.settled):
            entry.ledger.differs_since = None
            return None
        when = due(previous, desired, entry.ledger, _QUIET[subject], self._clock())
        return _Work(uid, desired, when, found)

    # Writing.

    async def _write_for_ever(self) -> None:
        while True:
            await self._work_waiting.acquire()
            await asyncio.sleep(self._bucket.wait(self._clock()))
            queue = self._urgent or self._normal
            target = queue.popleft()
            entry = self._entries.get(target)
            if entry is None or entry.queued is not queue:
                continue
            entry.queued, entry.writing = None, True
            try:
                await self._write(target, entry)
            except Exception:
                # One object's trouble must not end a writer.
                extra = {"event": "StatusFailed", "object": "/".join(target)}
                log.exception("a status could not be written", extra=extra)
            finally:
                entry.writing = False
                if entry.changed and self._entries.get(target) is entry:
                    entry.changed = False
                    self._look_soon(target)

    async def _write(self, target: Target, entry: _Entry) -> None:
        # The time in the queue may have changed everything: what is written is what is true now.
        work = self._work(target, entry)
        if work is None:
            return
        now = self._clock()
        if work.due.at > now:
            self._schedule(target, entry, work.due.at)
            return
        subject, namespace, name = target
        path = object_path(f"{GROUP}/{_VERSIONS[subject]}", subject.value, namespace, name, "status")
        try:
            answer = await json_patch(self._api, path, status_patch(work.uid, work.desired))
        except KubeError as error:
            self._failed(target, entry, error)
            return
        self.written += 1
        entry.failures = 0
        entry.ledger.wrote(self._clock(), urgent=work.due.urgent)
        version = str((answer.get("metadata") or {}).get("resourceVersion", ""))
        if entry.uid == work.uid and version.isdigit() and int(version) >= entry.version:
            entry.version = int(version)
            entry.stored = _dump(answer.get("status") or {})
            entry.settled = _digest(_dump(work.desired), entry.stored)
        if work.trouble is not None and self._events is not None:
            regarding = Regarding(f"{GROUP}/{_VERSIONS[subject]}", _KINDS[subject], namespace, name, work.uid)
            self._events.failed(regarding, work.trouble.reason, work.trouble.text)

    def _failed(self, target: Target, entry: _Entry, error: KubeError) -> None:
        if error.gone:
            self._entries.pop(target, None)
            return
        entry.failures += 1
        backoff = min(RETRY_SECONDS * 2 ** min(entry.failures - 1, 10), MAX_RETRY_SECONDS)
        self._schedule(target, entry, self._clock() + max(backoff, error.retry_after or 0.0))
        if self._complain.ready((error.status, error.reason)):
            log.warning(
                "a status was not taken; it is tried again",
                extra={
                    "event": "StatusRefused",
                    "object": "/".join(target),
                    "status": error.status,
                    "reason": error.reason,
                    "answer": error.message,
                    "retry_seconds": backoff,
                },
            )

    async def _remove_finalizer(self, key: tuple[str, str, str], patch: Object) -> None:
        """One object's finalizer; on a conflict the watch brings the object again, and with it the next try."""
        namespace, name, _ = key
        path = object_path(f"{GROUP}/{_VERSIONS[Subject.MODEL]}", Subject.MODEL.value, namespace, name)
        try:
            for attempt in range(6):
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
        finally:
            self._finalizers.pop(key, None)

    def _start(self, work: Awaitable[None], name: str) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()

"""The one writer of both kinds' status: coalescing, bounded, quiet when nothing changed.

A key that was said to have changed is looked at again after a moment; only then is its view built, so a hundred
changes cost one view. A status equal to the stored one is never sent, and the watch tells what is stored, so a
restart of the operator writes nothing. When more is due than may be sent, ``queue`` says what goes first.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

from prometheus_client import CollectorRegistry
from shoal_api.quantity import whole_number

from shoal_operator.kube import KubeApi, KubeError, json_patch
from shoal_operator.logs import OncePer
from shoal_operator.state.world.values import ModelKey, ServiceKey
from shoal_operator.state.world.views import ModelView, ServiceView

from .budget import Rank, TokenBucket
from .entry import Entry, Wishes
from .events import FailureEvents
from .finalizers import Finalizers
from .metrics import StatusMetrics
from .patches import status_patch
from .queue import Queues
from .stored import pack
from .subjects import KINDS, Subject, Target, regarding, status_path

log = logging.getLogger(__name__)

COALESCE_SECONDS = 0.05
MANY, COALESCE_MANY_SECONDS = 500, 0.25
"""While so many are to be looked at (a start, a mass of new models), each changes several times in a moment: looked at
a little later, it is looked at less often. Nobody can tell, since the writes take far longer."""
RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 60.0
LOOKS_PER_TURN = 40
"""Objects looked at before others get the event loop: a few milliseconds, also when ten thousand are due at once."""
NEWCOMERS_SECONDS = 0.2
"""How often newcomers that wait to be told of are looked at."""


class StatusWriter:
    """``model_view`` and ``service_view`` build one view on demand; they are called on the event loop. ``failed``: told
    of a status that could not be made, for an error of our own."""

    def __init__(
        self,
        api: KubeApi,
        *,
        model_view: Callable[[ModelKey], ModelView | None],
        service_view: Callable[[ServiceKey], ServiceView | None],
        events: FailureEvents | None = None,
        failed: Callable[[Target, Exception], None] = lambda target, error: None,
        cluster_domain: str = "cluster.local",
        writes_per_second: float = 100.0,
        writers: int = 8,
        metrics: StatusMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._wishes = Wishes(model_view, service_view, cluster_domain, clock, now)
        self._events = events
        self._on_failed = failed
        self._bucket = TokenBucket(writes_per_second, burst=writes_per_second / 2)
        self._writers = writers
        self._clock = clock
        self._entries: dict[Target, Entry] = {}
        self._timers: list[tuple[float, int, Target]] = []
        self._sequence = count()
        self._queues: Queues[Target] = Queues()
        self._opened = asyncio.Event()
        self._timer_changed = asyncio.Event()
        self._work_waiting = asyncio.Semaphore(0)
        self._finalizers = Finalizers(api, clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._complain = OncePer(60.0)
        self._metrics = metrics if metrics is not None else StatusMetrics(CollectorRegistry())
        self._metrics.show_waiting(self._queues.lengths)

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
        self._finalizers.deleting(obj)

    # Running.

    def open(self) -> None:
        """Writing may begin: the recovery barrier fell."""
        self._opened.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            self._start(self._finalizers.run())
            await self._opened.wait()
            for _ in range(self._writers):
                self._start(self._write_for_ever())
            while True:
                await self._wait_for_timer()
                self._let_newcomers_through()
                await self._look_at_due()
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
            entry = self._entries[target] = Entry()
        if entry.writing:
            entry.changed = True
        else:
            pause = COALESCE_SECONDS if len(self._timers) < MANY else COALESCE_MANY_SECONDS
            self._schedule(target, entry, self._clock() + pause)

    def _observed(self, target: Target, uid: str, resource_version: str, status: Mapping[str, Any] | None) -> None:
        version = whole_number(resource_version) or 0
        entry = self._entries.get(target)
        if entry is None:
            entry = self._entries[target] = Entry(uid=uid)
        elif entry.uid != uid:
            entry.begin(uid)
        elif version < entry.version:
            return  # our own write is newer than this event
        entry.version = version
        stored = pack(status or {})
        if stored == entry.stored:
            return
        entry.stored = stored
        # Somebody else wrote it (or this is the first sight of it): compare with what it should be.
        self._look_soon(target)

    def _schedule(self, target: Target, entry: Entry, at: float) -> None:
        if entry.due is not None and entry.due <= at:
            return
        entry.due = at
        heapq.heappush(self._timers, (at, next(self._sequence), target))
        self._timer_changed.set()

    async def _wait_for_timer(self) -> None:
        self._timer_changed.clear()
        delay = self._timers[0][0] - self._clock() if self._timers else None
        if self._queues.lengths()[Rank.NEWCOMER]:
            delay = NEWCOMERS_SECONDS if delay is None else min(delay, NEWCOMERS_SECONDS)
        if delay is not None and delay <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(delay):
                await self._timer_changed.wait()
        except TimeoutError:
            return

    async def _look_at_due(self) -> None:
        now = self._clock()
        looked = 0
        while self._timers and self._timers[0][0] <= now:
            at, _, target = heapq.heappop(self._timers)
            entry = self._entries.get(target)
            if entry is None or entry.due != at:
                continue
            entry.due = None
            try:
                self._look(target, entry)
            except Exception as error:
                self._broken(target, entry, error)
            looked += 1
            if looked % LOOKS_PER_TURN == 0:
                await asyncio.sleep(0)

    def _let_newcomers_through(self) -> None:
        now = self._clock()
        while (target := self._queues.newcomer(now, self._no_newcomer)) is not None:
            self._enqueue(target, self._entries[target], Rank.REST)

    def _no_newcomer(self, target: Target) -> bool:
        entry = self._entries.get(target)
        return entry is None or entry.queued is not Rank.NEWCOMER

    def _enqueue(self, target: Target, entry: Entry, rank: Rank) -> None:
        entry.queued = rank
        self._queues.put(rank, target[1], target)
        if rank is Rank.NEWCOMER:
            self._timer_changed.set()
        else:
            self._work_waiting.release()

    def _look(self, target: Target, entry: Entry) -> None:
        """Queue the object, put it off, or forget the difference."""
        if entry.writing:
            entry.changed = True
            return
        work = self._wishes.of(target, entry)
        if work is None:
            return
        now = self._clock()
        if entry.ledger.differs_since is None:
            entry.ledger.differs_since = now
        if work.due.at > now:
            self._schedule(target, entry, work.due.at)
            return
        # Those that have been let through keep their place.
        if entry.queued is None or work.due.rank < entry.queued:
            self._enqueue(target, entry, work.due.rank)

    # Writing.

    async def _write_for_ever(self) -> None:
        while True:
            await self._work_waiting.acquire()
            rank, target = self._queues.get()
            entry = self._entries.get(target)
            if entry is None or entry.queued is not rank:
                continue
            await asyncio.sleep(self._bucket.wait(self._clock()))
            if self._entries.get(target) is not entry:
                continue
            entry.queued, entry.writing = None, True
            try:
                await self._write(target, entry)
            except Exception as error:
                self._broken(target, entry, error)
            finally:
                entry.writing = False
                if entry.changed and self._entries.get(target) is entry:
                    entry.changed = False
                    self._look_soon(target)

    async def _write(self, target: Target, entry: Entry) -> None:
        # The time in the queue may have changed everything: what is written is what is true now.
        work = self._wishes.of(target, entry)
        if work is None:
            return
        now = self._clock()
        if work.due.at > now:
            self._schedule(target, entry, work.due.at)
            return
        try:
            answer = await json_patch(self._api, status_path(target), status_patch(work.uid, work.desired))
        except KubeError as error:
            self._failed(target, entry, error)
            return
        now = self._clock()
        self._metrics.writes.labels(KINDS[target[0]]).inc()
        if entry.ledger.differs_since is not None:
            waited = now - entry.ledger.differs_since
            self._metrics.delay_seconds.labels(work.due.rank.name.lower()).observe(waited)
        if work.due.rank in (Rank.CHANGED, Rank.FIRST):
            self._queues.gate.progressed(now)
        entry.failures = 0
        entry.ledger.wrote(now, work.due)
        version = whole_number(str((answer.get("metadata") or {}).get("resourceVersion", "")))
        if entry.uid == work.uid and version is not None and version >= entry.version:
            entry.wrote(version, work.desired, answer.get("status") or {})
        if self._events is not None and (found := work.trouble()) is not None:
            self._events.failed(regarding(target, work.uid), found.reason, found.text)

    def _broken(self, target: Target, entry: Entry, error: Exception) -> None:
        """An error of our own: said once a minute, and tried again; one object's trouble ends nobody else's status."""
        if self._complain.ready(("broken", *target)):
            self._on_failed(target, error)
        entry.failures += 1
        backoff = min(RETRY_SECONDS * 2 ** min(entry.failures - 1, 10), MAX_RETRY_SECONDS)
        self._schedule(target, entry, self._clock() + backoff)

    def _failed(self, target: Target, entry: Entry, error: KubeError) -> None:
        if error.gone:
            self._entries.pop(target, None)
            return
        entry.failures += 1
        self._metrics.refusals.labels(error.reason[:64]).inc()
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

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

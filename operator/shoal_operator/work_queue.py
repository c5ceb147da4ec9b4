"""Work by key: each key at most once at a time, repeated requests joined, failures tried again with backoff."""

import asyncio
import heapq
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from shoal_operator.logs import OncePer

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 60.0

K = TypeVar("K", bound=Hashable)


class Retry(Exception):
    """The work should be tried again later; ``after``: not before this many seconds. Not worth a log line."""

    def __init__(self, message: str = "", after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


@dataclass(slots=True)
class _Job:
    due: float
    failures: int = 0
    running: bool = False
    again: bool = False


class WorkQueue(Generic[K]):
    """Calls ``work(key)`` for every key that was added, ``workers`` at a time. Bounded by the number of keys."""

    def __init__(
        self,
        work: Callable[[K], Awaitable[None]],
        *,
        workers: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._workers = workers
        self._clock = clock
        self._jobs: dict[K, _Job] = {}
        self._timers: list[tuple[float, int, K]] = []
        self._sequence = count()
        self._changed = asyncio.Event()
        self._complain = OncePer(60.0)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, key: K) -> None:
        """Have the key worked on, now, or again when it is being worked on. Ends its backoff."""
        job = self._jobs.get(key)
        now = self._clock()
        if job is None:
            self._jobs[key] = _Job(now)
        elif job.running:
            job.again = True
            return
        elif job.due <= now:
            return
        else:
            job.due = now
        self._push(key, now)

    async def run(self) -> None:
        """Until cancelled."""
        free = asyncio.Semaphore(self._workers)
        async with asyncio.TaskGroup() as group:
            while True:
                await free.acquire()
                key, job = await self._next()
                job.running, job.again = True, False
                group.create_task(self._serve(key, job)).add_done_callback(lambda _: free.release())

    async def _serve(self, key: K, job: _Job) -> None:
        delay: float | None = None
        try:
            await self._work(key)
            job.failures = 0
        except Retry as retry:
            delay = max(self._backoff(job), retry.after)
        except Exception:
            delay = self._backoff(job)
            if self._complain.ready(key):
                log.exception("work failed; it is tried again", extra={"event": "WorkFailed", "key": str(key)})
        job.running = False
        if job.again:
            delay = 0.0 if delay is None else min(delay, RETRY_SECONDS)
        if delay is None:
            del self._jobs[key]
        else:
            job.due = self._clock() + delay
            self._push(key, job.due)

    async def _next(self) -> tuple[K, _Job]:
        """The key that is due first, once it is due."""
        while True:
            self._changed.clear()
            delay: float | None = None
            while self._timers:
                at, _, key = self._timers[0]
                job = self._jobs.get(key)
                if job is not None and not job.running and job.due == at:
                    delay = at - self._clock()
                    if delay > 0:
                        break
                heapq.heappop(self._timers)
                if delay is not None and job is not None:
                    return key, job
            try:
                async with asyncio.timeout(delay):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _push(self, key: K, at: float) -> None:
        heapq.heappush(self._timers, (at, next(self._sequence), key))
        self._changed.set()

    @staticmethod
    def _backoff(job: _Job) -> float:
        job.failures += 1
        return min(RETRY_SECONDS * 2.0 ** min(job.failures - 1, 10), MAX_RETRY_SECONDS)

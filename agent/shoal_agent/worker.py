"""Carries the steps out: owns the slots, runs pulls, loads and unloads within bounds, tells of every change.

All state is touched on the event loop only; what blocks runs in threads. One model's change costs work for that model.
"""

import asyncio
import functools
import random
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

from shoal_api.messages import CopyIntent, FailureStage
from shoal_api.storage_uri import StorageUriError

from . import logs, slots, sync
from .exchange import Accepted, News, Observed
from .files import Files, take_up
from .lanes import Lane, Lanes
from .metrics import Metrics
from .retries import Backoff
from .servers import (
    MODEL_LOAD_FAILED,
    MODEL_UNLOAD_FAILED,
    ModelServer,
    ServerError,
    ServerGone,
    ServerState,
)
from .slots import Doing, Slot, Staged
from .staging import Found
from .storage import Cancelled, StorageError

AGENT_ERROR: Final = "AgentError"
CONCURRENT_CLEANING: Final = 4
CONCURRENT_UNLOADING: Final = 4
MAX_UNLOADING: Final = 256
"""With those that wait for their last requests, which cost nothing."""
IN_FLIGHT_SECONDS: Final = 0.02
"""How often the requests in flight are counted while an unload waits for them."""
SETTLE_SECONDS: Final = 10.0
"""After a load's connection broke: how long to wait for the watch to say whether the process ended."""


class Worker:
    """``changed`` is called when there is something new to tell the operator, with how soon.

    ``in_flight`` blocks: the requests of one model that the server is answering now. An unload waits until there are
    none, at most ``unload_wait`` seconds.
    """

    def __init__(
        self,
        *,
        files: Files,
        server: ModelServer,
        observed: Observed,
        metrics: Metrics,
        changed: Callable[[News], None],
        backoff: Backoff,
        concurrent_pulls: int,
        concurrent_loads: int,
        concurrent_stats: int,
        in_flight: Callable[[str], int],
        unload_wait: float,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.slots: dict[str, Slot] = {}
        self._files, self._server = files, server
        self._observed, self._metrics, self._changed = observed, metrics, changed
        self._backoff, self._clock, self._chance = backoff, clock, chance
        self._in_flight, self._unload_wait = in_flight, unload_wait
        self._pool = ThreadPoolExecutor(concurrent_pulls, thread_name_prefix="pull")
        self._looking = ThreadPoolExecutor(concurrent_stats, thread_name_prefix="look")
        self._unloading = asyncio.Semaphore(CONCURRENT_UNLOADING)
        self._lanes = Lanes(
            {
                Lane.PULL: concurrent_pulls,
                Lane.LOAD: concurrent_loads,
                Lane.TRIAL: 1,
                Lane.UNLOAD: MAX_UNLOADING,
                Lane.CLEAN: CONCURRENT_CLEANING,
                Lane.STAT: concurrent_stats,
            }
        )
        self._server_ready = False
        self._told = False  # a whole desired list has come
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._cancels: dict[str, threading.Event] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False
        self._operations = 0
        self._touched: dict[str, int] = {}  # which operation last ended, by slot

    # What comes in.

    def start(self, found: list[Found]) -> None:
        """Take up what is on disk: it is what was wanted when the agent ended."""
        taken, surplus = take_up(found)
        self._files.start(taken, surplus)
        for slot in taken:
            self._put(slot)

    def accept(self, accepted: Accepted) -> None:
        """Obey the operator."""
        wanted, unwanted = accepted.wanted, accepted.unwanted
        if accepted.whole:
            self._told = True
            changes = sync.whole_list(self.slots, wanted)
            wanted, unwanted = changes.wanted, changes.unwanted
        for intent in wanted:
            self._want(intent.name, intent)
        for name in unwanted:
            if name in self.slots:
                self._want(name, None)

    def mark(self) -> int:
        """Taken before the server is asked for its state; what ends later is newer than that state."""
        return self._operations

    def server_up(self, state: ServerState, mark: int) -> None:
        self._server_ready = True
        self.server_state(state, mark)
        for name in list(self.slots):
            self._poke(name)

    def server_down(self) -> None:
        self._server_ready = False
        loading = [name for name, slot in self.slots.items() if slot.doing is Doing.LOADING]
        if loading:
            logs.warning("server ended while loading", models=loading[:20], count=len(loading))
        for name, slot in list(self.slots.items()):
            if slot.doing in (Doing.LOADING, Doing.UNLOADING) and (task := self._tasks.get(name)):
                task.cancel()
            changed = slots.server_lost(
                slot, loading == [name], now=self._clock(), backoff=self._backoff, chance=self._chance()
            )
            if changed != slot:
                self._put(changed)
        self._metrics.server_crashes.inc()

    def server_state(self, state: ServerState, mark: int) -> None:
        """Believe the server's own list, but for slots that something is, or was since, under way for."""
        listed = {model.name: model.copy for model in state.models if model.ready}
        for name, copy in listed.items():
            slot = self.slots.get(name)
            if slot is None:
                if self._told:  # before that, it could be a model that the operator is about to name
                    self._put(Slot(name=name, foreign=copy))
            elif self._at_rest(slot, mark):
                self._put(slots.seen(slot, copy))
        for name, slot in list(self.slots.items()):
            if name not in listed and (slot.live or slot.foreign) and self._at_rest(slot, mark):
                self._put(replace(slot, live=False, foreign=""))

    def _at_rest(self, slot: Slot, mark: int) -> bool:
        # Neither looking nor pulling changes anything about the server.
        return slot.doing in (Doing.NOTHING, Doing.LOOKING, Doing.PULLING) and self._touched.get(slot.name, 0) <= mark

    def retry_storage(self) -> None:
        """The storage Secrets changed: what failed for want of them is tried at once."""
        for slot in list(self.slots.values()):
            if slot.failure is not None and slot.failure.stage is FailureStage.STORAGE and not slot.settled:
                self._put(replace(slot, not_before=0.0))

    def loading(self) -> bool:
        return self._lanes.running(Lane.LOAD) + self._lanes.running(Lane.TRIAL) > 0

    async def close(self) -> None:
        """End what is under way. What was half done is found out at the next start."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        for cancelled in self._cancels.values():
            cancelled.set()
        running = [*self._tasks.values(), *self._chores]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.to_thread(self._end_threads)

    def _end_threads(self) -> None:
        for pool in (self._pool, self._looking):
            pool.shutdown(cancel_futures=True)
        self._files.close()

    # The slots.

    def _want(self, name: str, intent: CopyIntent | None) -> None:
        slot = self.slots.get(name) or Slot(name=name)
        wanted = slots.want(slot, intent, self._clock())
        another = intent is None or slot.intent is None or intent.copy_id != slot.intent.copy_id
        if slot.doing is Doing.PULLING and another:
            self._cancels[name].set()
        if slot.doing is Doing.LOOKING and (another or slot.intent != intent) and name in self._tasks:
            # The answer is no longer asked for; the thread that may hang in it is left to its time limit.
            self._tasks[name].cancel()
            wanted = slots.end(wanted)
        self._put(wanted)

    def _put(self, slot: Slot) -> None:
        old = self.slots.get(slot.name)
        self.slots[slot.name] = slot
        if old is not None and old is not slot:
            kept = {copy.folder for copy in slot.copies()}
            for copy in old.copies():
                if copy.folder not in kept:
                    kept.add(copy.folder)
                    self._discard(copy)
        self._tell(self._observed.put(slots.report(slot)))
        self._poke(slot.name)

    def _tell(self, news: News) -> None:
        if news is not News.NONE:
            self._changed(news)

    def _discard(self, copy: Staged) -> None:
        self._chore(self._files.delete(copy))

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: "asyncio.Task[None]") -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logs.warning("cannot delete files", error=str(error))

    def _poke(self, name: str) -> None:
        """Find the slot's next step, and see that it gets done."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        slot = self.slots.get(name)
        if slot is None or self._closed:
            return
        match sync.next_step(slot, self._server_ready, self._clock()):
            case sync.Rest():
                self._lanes.leave(name)
            case sync.WaitUntil(moment):
                self._lanes.leave(name)
                delay = max(0.0, moment - self._clock()) + 0.01
                self._timers[name] = asyncio.get_running_loop().call_later(delay, self._poke, name)
            case sync.LookAgain():
                self._put(slots.condemn_again(slot, self._clock(), self._backoff, self._chance()))
            case sync.Forget():
                self._lanes.leave(name)
                del self.slots[name]
                self._touched.pop(name, None)
                self._tell(self._observed.drop(name))
            case step:
                if (lane := _lane(step)) is not None:
                    self._lanes.put(name, lane)
                    self._pump()

    def _pump(self) -> None:
        while not self._closed and (taken := self._lanes.take()) is not None:
            name, lane = taken
            slot = self.slots.get(name)
            step = sync.next_step(slot, self._server_ready, self._clock()) if slot is not None else sync.REST
            # Between waiting and its turn the step may have become another; then it waits where it belongs.
            if name in self._tasks or _lane(step) is not lane or slot is None:
                self._lanes.done(lane)
                if name not in self._tasks:
                    self._poke(name)
                continue
            self._begin(slot, step)
            task = asyncio.create_task(self._run(name, lane, step))
            self._tasks[name] = task
            task.add_done_callback(functools.partial(self._finished, name, lane))

    def _begin(self, slot: Slot, step: sync.Step) -> None:
        match step:
            case sync.Look():
                self._put(slots.begin(slot, Doing.LOOKING))
            case sync.Pull():
                self._cancels[slot.name] = threading.Event()
                self._put(slots.begin(slot, Doing.PULLING))
            case sync.Load(copy):
                self._put(slots.begin(slot, Doing.LOADING, copy))
            case sync.Unload():
                self._put(slots.begin(slot, Doing.UNLOADING))
            case _:
                self._put(slots.begin(slot, Doing.REMOVING))

    async def _run(self, name: str, lane: Lane, step: sync.Step) -> None:
        try:
            match step:
                case sync.Look(intent):
                    await self._look(intent)
                case sync.Pull(intent):
                    await self._pull(intent)
                case sync.Load(copy, trial):
                    await self._load(name, copy, trial)
                case sync.Unload():
                    await self._unload(name)
                case _:
                    await self._remove(name)
        except Exception as error:
            logs.exception("step failed", model=name, lane=lane)
            self._fail(name, FailureStage.LOAD, AGENT_ERROR, f"The agent failed: {type(error).__name__}: {error}")

    def _finished(self, name: str, lane: Lane, _: "asyncio.Task[None]") -> None:
        # A callback, because a task that is cancelled before its first step runs none of its own code.
        self._tasks.pop(name, None)
        self._cancels.pop(name, None)
        self._lanes.done(lane)
        if lane not in (Lane.PULL, Lane.STAT):
            self._operations += 1
            self._touched[name] = self._operations
        self._poke(name)
        self._pump()

    def _fail(self, name: str, stage: FailureStage, reason: str, message: str) -> None:
        slot = slots.failed(
            self.slots[name],
            stage,
            reason,
            message,
            now=self._clock(),
            backoff=self._backoff,
            chance=self._chance(),
        )
        logs.warning("model failed", model=name, stage=stage, reason=reason, message=message)
        self._metrics.failures.labels(stage, reason).inc()
        self._put(slot)

    # The steps. Each ends by putting the slot into its next state.

    async def _look(self, intent: CopyIntent) -> None:
        try:
            size = await asyncio.get_running_loop().run_in_executor(self._looking, self._files.look, intent)
        except (StorageError, StorageUriError) as error:
            self._metrics.stats.labels("failed").inc()
            self._fail(intent.name, FailureStage.STORAGE, error.reason, error.message)
            return
        self._metrics.stats.labels("found").inc()
        self._put(slots.found(self.slots[intent.name], size))

    async def _pull(self, intent: CopyIntent) -> None:
        name = intent.name
        cancelled = self._cancels[name]
        held = self.slots[name].upcoming
        started = time.monotonic()
        try:
            copy, fetched = await asyncio.get_running_loop().run_in_executor(
                self._pool, self._files.pull, intent, held, cancelled
            )
        except Cancelled:
            self._put(slots.end(self.slots[name]))
            return
        except (StorageError, StorageUriError) as error:
            if cancelled.is_set():
                self._put(slots.end(self.slots[name]))
            else:
                self._fail(name, FailureStage.STORAGE, error.reason, error.message)
            return
        if cancelled.is_set():
            if copy is not held:
                self._discard(copy)
            self._put(slots.end(self.slots[name]))
            return
        self._metrics.pulled_bytes.inc(fetched)
        self._metrics.pull_seconds.observe(time.monotonic() - started)
        logs.info("model pulled", model=name, copy=copy.copy_id, bytes=copy.size, fetched=fetched)
        slot = slots.pulled(self.slots[name], copy, self._clock())
        if slot.upcoming is not copy and copy is not held:
            self._discard(copy)
        self._put(slot)

    async def _load(self, name: str, copy: Staged, trial: bool) -> None:
        started = time.monotonic()
        await asyncio.to_thread(self._files.staging.begin_loading, name, copy, self.slots[name].crashes)
        reason, message = MODEL_LOAD_FAILED, "The model server took the load and does not list the model as ready."
        done = False
        try:
            await self._server.load(name)
        except ServerError as error:
            reason, message = error.reason, error.message
        except ServerGone as error:
            # If the process ended, the watch cancels this task and judges; otherwise the list tells.
            message = f"The connection to the model server broke during the load: {error}"
            await asyncio.sleep(SETTLE_SECONDS)
        try:
            found = await self._server.find(name)
            done = found is not None and found.ready and found.copy == copy.folder
        except (ServerError, ServerGone) as error:
            message = f"{message} Afterwards: {error}"
        if done:
            await asyncio.to_thread(self._files.staging.loaded, copy)
            self._metrics.load_seconds.observe(time.monotonic() - started)
            logs.info("model loaded", model=name, copy=copy.copy_id, trial=trial)
            self._put(slots.loaded(self.slots[name], copy))
            return
        current = self.slots[name].current
        await asyncio.to_thread(self._files.staging.load_failed, name, copy, current)
        self._fail(name, FailureStage.LOAD, reason, message)

    async def _unload(self, name: str) -> None:
        started = time.monotonic()
        if not await self._quiet(name):
            self._put(slots.end(self.slots[name]))  # it is wanted again, and still there
            return
        reason, message = MODEL_UNLOAD_FAILED, "The model server still lists the model after its unload."
        try:
            async with self._unloading:
                await self._server.unload(name)
        except ServerError as error:
            reason, message = error.reason, error.message
        except ServerGone as error:
            message = f"The connection to the model server broke during the unload: {error}"
            await asyncio.sleep(SETTLE_SECONDS)
        try:
            gone = await self._server.find(name) is None
        except (ServerError, ServerGone) as error:
            gone, message = False, f"{message} Afterwards: {error}"
        if gone:
            self._metrics.unload_seconds.observe(time.monotonic() - started)
            logs.info("model unloaded", model=name)
            self._put(slots.unloaded(self.slots[name]))
        else:
            self._fail(name, FailureStage.LOAD, reason, message)

    async def _quiet(self, name: str) -> bool:
        """Wait until no request of the model is in flight, or the time for that is over. False: it is wanted again."""
        end = time.monotonic() + self._unload_wait
        while (count := await asyncio.to_thread(self._in_flight, name)) > 0:
            if self.slots[name].intent is not None:
                return False
            if time.monotonic() > end:
                logs.warning("unloading while requests are in flight", model=name, requests=count)
                break
            await asyncio.sleep(IN_FLIGHT_SECONDS)
        return self.slots[name].intent is None

    async def _remove(self, name: str) -> None:
        copies = self.slots[name].copies()
        await asyncio.to_thread(self._files.staging.point, name, None)
        for copy in copies:
            await self._files.delete(copy)
        # Not through `_put`'s comparison: these files are gone already.
        self.slots[name] = slots.removed(self.slots[name])
        logs.info("model removed", model=name)
        self._put(self.slots[name])


def _lane(step: sync.Step) -> Lane | None:
    match step:
        case sync.Look():
            return Lane.STAT
        case sync.Pull():
            return Lane.PULL
        case sync.Load(_, trial):
            return Lane.TRIAL if trial else Lane.LOAD
        case sync.Unload():
            return Lane.UNLOAD
        case sync.Remove():
            return Lane.CLEAN
        case _:
            return None

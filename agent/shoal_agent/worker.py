"""Owns the slots: finds each one's next step, runs steps within bounds (``steps`` has them), tells of every change.

All state is touched on the event loop only; what blocks runs in threads. One model's change costs work for that model.
"""

import asyncio
import functools
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final

from shoal_api.grammar import MODEL_NAME
from shoal_api.messages import Action, CopyIntent, FailureStage

from . import logs, slots, sync
from .exchange import Accepted, News, Observed
from .files import Files, take_up
from .lanes import Lane, Lanes
from .metrics import Metrics
from .model_server import ModelServer, ServerState
from .retries import Backoff
from .slots import Doing, Slot, Staged
from .staging import Found
from .steps import ROUTES_SECONDS, Steps

AGENT_ERROR: Final = "AgentError"
CONCURRENT_CLEANING: Final = 4
MAX_UNLOADING: Final = 256
"""With those that wait for their last requests, which cost little."""


class Worker:
    """``changed`` is called when there is something new to tell the operator, with how soon; ``answers`` with name and
    copy id of what the server answers with from now on. ``unload_wait`` and
    ``routes_seconds`` are for ``Steps``."""

    def __init__(
        self,
        *,
        files: Files,
        server: ModelServer,
        observed: Observed,
        metrics: Metrics,
        changed: Callable[[News], None],
        answers: Callable[[str, str], None] = lambda name, copy_id: None,
        backoff: Backoff,
        concurrent_pulls: int,
        concurrent_loads: int,
        concurrent_stats: int,
        unload_wait: float,
        routes_seconds: float = ROUTES_SECONDS,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.slots: dict[str, Slot] = {}
        self._files = files
        self._observed, self._metrics, self._changed, self._answers = observed, metrics, changed, answers
        self._backoff, self._clock, self._chance = backoff, clock, chance
        self._steps = Steps(
            self,
            files=files,
            server=server,
            metrics=metrics,
            clock=clock,
            unload_wait=unload_wait,
            routes_seconds=routes_seconds,
        )
        most = server.traits.concurrent_loads
        self._lanes = Lanes(
            {
                Lane.PULL: concurrent_pulls,
                Lane.LOAD: concurrent_loads if most is None else min(concurrent_loads, most),
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
            self.put(slot)

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
                self.put(changed)
        self._metrics.server_crashes.inc()

    def server_state(self, state: ServerState, mark: int) -> None:
        """Believe the server's own list, but for slots that something is, or was since, under way for."""
        # What the operator could not have named is none of its slots: a model that came with the image.
        listed = {model.name: model.copy for model in state.models if model.ready and MODEL_NAME.matches(model.name)}
        for name, copy in listed.items():
            slot = self.slots.get(name)
            if slot is None:
                if self._told:  # before that, it could be a model that the operator is about to name
                    self.put(Slot(name=name, foreign=copy))
            elif self._at_rest(slot, mark):
                self.put(slots.seen(slot, copy))
        for name, slot in list(self.slots.items()):
            if name not in listed and (slot.live or slot.foreign) and self._at_rest(slot, mark):
                self.put(replace(slot, live=False, foreign=""))

    def _at_rest(self, slot: Slot, mark: int) -> bool:
        # Neither looking nor pulling changes anything about the server. A step that has said its last word, but whose
        # task is not yet seen to have ended, is not counted yet: the list may be from before it.
        if slot.doing is Doing.NOTHING and slot.name in self._tasks:
            return False
        return slot.doing in (Doing.NOTHING, Doing.LOOKING, Doing.PULLING) and self._touched.get(slot.name, 0) <= mark

    def retry_storage(self) -> None:
        """The storage Secrets changed: what failed for want of them is tried at once."""
        for slot in list(self.slots.values()):
            if slot.failure is not None and slot.failure.stage is FailureStage.STORAGE and not slot.settled:
                self.put(replace(slot, not_before=0.0))

    def loading(self) -> bool:
        return self._lanes.running(Lane.LOAD) + self._lanes.running(Lane.TRIAL) > 0

    async def close(self) -> None:
        """End what is under way. What was half done is found out at the next start."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        running = [*self._tasks.values(), *self._chores]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.to_thread(self._steps.close)

    # The slots. Steps use the first four.

    def slot(self, name: str) -> Slot:
        return self.slots[name]

    def _want(self, name: str, intent: CopyIntent | None) -> None:
        slot = self.slots.get(name) or Slot(name=name)
        wanted = slots.want(slot, intent, self._clock())
        another = intent is None or slot.intent is None or intent.copy_id != slot.intent.copy_id
        if slot.doing is Doing.PULLING and another:
            self._steps.cancel_pull(name)
        more = intent is None or intent.action is not Action.STAT
        if slot.doing is Doing.LOOKING and name in self._tasks and (another or more):
            # Its answer is no longer asked for.
            self._tasks[name].cancel()
            wanted = slots.end(wanted)
        self.put(wanted)

    def put(self, slot: Slot) -> None:
        old = self.slots.get(slot.name)
        self.slots[slot.name] = slot
        if old is not None and old is not slot:
            kept = {copy.folder for copy in slot.copies()}
            for copy in old.copies():
                if copy.folder not in kept:
                    kept.add(copy.folder)
                    self.discard(copy)
        if slot.live and slot.current is not None and (old is None or not old.live or old.current != slot.current):
            self._answers(slot.name, slot.current.copy_id)
        self._tell(self._observed.put(slots.report(slot)))
        self._poke(slot.name)

    def _tell(self, news: News) -> None:
        if news is not News.NONE:
            self._changed(news)

    def discard(self, copy: Staged) -> None:
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
                self.put(slots.condemn_again(slot, self._clock(), self._backoff, self._chance()))
            case sync.Forget():
                self._lanes.leave(name)
                del self.slots[name]
                self._touched.pop(name, None)
                self._tell(self._observed.drop(name))
            case step:
                if (lane := _lane(step)) is not None:
                    urgent = slot.intent is not None and slot.intent.urgent
                    self._lanes.put(name, lane, urgent=urgent)
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
            case sync.Look() | sync.Check():
                self.put(slots.begin(slot, Doing.LOOKING))
            case sync.Pull():
                self.put(slots.begin(slot, Doing.PULLING))
            case sync.Load(copy):
                self.put(slots.begin(slot, Doing.LOADING, copy))
            case sync.Unload():
                self.put(slots.begin(slot, Doing.UNLOADING))
            case _:
                self.put(slots.begin(slot, Doing.REMOVING))

    async def _run(self, name: str, lane: Lane, step: sync.Step) -> None:
        try:
            await self._steps.run(name, step)
        except Exception as error:
            logs.exception("step failed", model=name, lane=lane)
            self.fail(name, FailureStage.LOAD, AGENT_ERROR, f"The agent failed: {type(error).__name__}: {error}")

    def _finished(self, name: str, lane: Lane, _: "asyncio.Task[None]") -> None:
        # A callback, because a task that is cancelled before its first step runs none of its own code.
        self._tasks.pop(name, None)
        self._steps.ended(name)
        self._lanes.done(lane)
        if lane not in (Lane.PULL, Lane.STAT):
            self._operations += 1
            self._touched[name] = self._operations
        self._poke(name)
        self._pump()

    def fail(self, name: str, stage: FailureStage, reason: str, message: str) -> None:
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
        self.put(slot)


def _lane(step: sync.Step) -> Lane | None:
    match step:
        case sync.Look() | sync.Check():
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

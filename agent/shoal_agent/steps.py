"""One step of one slot, carried out: what talks to the storage, the disk and the model server.

Each ends by putting the slot into its next state. Which step is next, and when, is the worker's to say.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from shoal_api.messages import Action, CopyIntent, FailureStage
from shoal_api.storage_uri import StorageUriError

from . import logs, slots, sync
from .files import Files
from .metrics import Metrics
from .model_server import (
    MODEL_LOAD_FAILED,
    MODEL_UNLOAD_FAILED,
    ModelCopy,
    ModelServer,
    ServerError,
    ServerGone,
)
from .slots import Slot, Staged
from .storage import StorageError

SETTLE_SECONDS: Final = 10.0
"""After a load's connection broke: how long to wait for the watch to say whether the process ended."""
CONCURRENT_UNLOADS: Final = 4
DISK_ERROR: Final = "DiskError"
IN_FLIGHT_SECONDS: Final = 0.02
IN_FLIGHT_SHARE: Final = 0.1
"""How soon the requests in flight are counted again while an unload waits for them; and as a share of how long it has
waited, since counting costs more with every model, and hundreds may wait."""
ROUTES_SECONDS: Final = 1.5
"""How long after the operator was told that a model does not answer requests may still come for it: its routes follow
at once, and requests are on the wire. Where a server can hold but one copy of a name, that comes before the change."""


class Owner(Protocol):
    """Of the slots. Called on the event loop."""

    def slot(self, name: str) -> Slot: ...
    def put(self, slot: Slot) -> None: ...
    def fail(self, name: str, stage: FailureStage, reason: str, message: str) -> None: ...
    def discard(self, copy: Staged) -> None:
        """A staged copy that no slot has is of no use."""


class Steps:
    """An unload waits until none of the model's requests is in flight, at most ``unload_wait`` seconds. How many steps
    run at once is the worker's to bound."""

    def __init__(
        self,
        owner: Owner,
        *,
        files: Files,
        server: ModelServer,
        metrics: Metrics,
        clock: Callable[[], float],
        unload_wait: float,
        routes_seconds: float = ROUTES_SECONDS,
    ) -> None:
        self._owner = owner
        self._files, self._server, self._metrics, self._clock = files, server, metrics, clock
        self._unload_wait, self._routes_seconds = unload_wait, routes_seconds
        self._unloading = asyncio.Semaphore(CONCURRENT_UNLOADS)
        self._pulls: dict[str, asyncio.Task[tuple[Staged, int]]] = {}
        self._unwanted: set[str] = set()  # of those pulls

    async def run(self, name: str, step: sync.Step) -> None:
        """Carry a step out."""
        match step:
            case sync.Look(intent):
                await self._look(intent)
            case sync.Check(intent):
                await self._check(intent)
            case sync.Pull(intent):
                await self._pull(intent)
            case sync.Load(copy, trial):
                await self._load(name, copy, trial)
            case sync.Unload():
                await self._unload(name)
            case _:
                await self._remove(name)

    def cancel_pull(self, name: str) -> None:
        """End a pull that is under way, or about to be."""
        self._unwanted.add(name)
        if (pull := self._pulls.get(name)) is not None:
            pull.cancel()

    def ended(self, name: str) -> None:
        """Whatever ran for that slot has ended."""
        self._unwanted.discard(name)

    def close(self) -> None:
        """Blocks until the threads have ended."""
        self._files.close()

    async def _look(self, intent: CopyIntent) -> None:
        try:
            seen = await self._files.look(intent)
        except (StorageError, StorageUriError) as error:
            self._metrics.stats.labels("failed").inc()
            self._owner.fail(intent.name, FailureStage.STORAGE, error.reason, error.message)
            return
        self._metrics.stats.labels("found").inc()
        self._owner.put(slots.found(self._owner.slot(intent.name), seen.size, seen.revision))

    async def _check(self, intent: CopyIntent) -> None:
        """Whatever comes of it, what is loaded serves on."""
        found: str | None = None
        try:
            found = (await self._files.look(intent)).revision
            self._metrics.stats.labels("found").inc()
        except (StorageError, StorageUriError) as error:
            self._metrics.stats.labels("failed").inc()
            logs.warning("the storage was not compared with what is loaded", model=intent.name, cause=error.message)
        except Exception:  # ours: it is asked again when the operator asks, and not before
            logs.exception("the storage was not compared with what is loaded", model=intent.name)
        self._owner.put(slots.looked(self._owner.slot(intent.name), intent.check, found))

    async def _pull(self, intent: CopyIntent) -> None:
        name = intent.name
        held = self._owner.slot(name).upcoming
        started = time.monotonic()
        pull = self._pulls[name] = asyncio.create_task(self._files.pull(intent, held))
        if name in self._unwanted:
            pull.cancel()
        try:
            copy, fetched = await pull
        except (asyncio.CancelledError, StorageError, StorageUriError, OSError) as error:
            if name in self._unwanted:  # however it ended: the slot is another's by now
                self._owner.put(slots.end(self._owner.slot(name)))
            elif isinstance(error, asyncio.CancelledError):
                raise
            elif isinstance(error, StorageError | StorageUriError):
                self._owner.fail(name, FailureStage.STORAGE, error.reason, error.message)
            else:
                self._owner.fail(name, FailureStage.STORAGE, DISK_ERROR, _disk_trouble(error))
            return
        finally:
            del self._pulls[name]
        if name in self._unwanted:
            if copy is not held:
                self._owner.discard(copy)
            self._owner.put(slots.end(self._owner.slot(name)))
            return
        self._metrics.pulled_bytes.inc(fetched)
        self._metrics.pull_seconds.observe(time.monotonic() - started)
        logs.info("model pulled", model=name, copy=copy.copy_id, bytes=copy.size, fetched=fetched)
        slot = slots.pulled(self._owner.slot(name), copy, self._clock())
        if slot.upcoming is not copy and copy is not held:
            self._owner.discard(copy)
        self._owner.put(slot)

    def _for_server(self, name: str, copy: Staged) -> ModelCopy:
        """The copy as the adapter gets it, with what of its tuning it can honour."""
        tuning = copy.tuning.only(self._server.traits.tuning)
        folder = self._files.staging.folder(copy)
        return ModelCopy(name, copy.folder, folder, copy.framework, tuning, copy.memory)

    async def _load(self, name: str, copy: Staged, trial: bool) -> None:
        started = time.monotonic()
        if await self._retune(name, copy):
            return
        if not await self._make_way(name):
            return
        await asyncio.to_thread(self._files.staging.begin_loading, name, copy, self._owner.slot(name).crashes)
        reason, message = MODEL_LOAD_FAILED, "The model server took the load and does not list the model as ready."
        done = False
        try:
            await self._server.load(self._for_server(name, copy))
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
            self._owner.put(slots.loaded(self._owner.slot(name), copy))
            return
        current = self._owner.slot(name).current
        await asyncio.to_thread(self._files.staging.load_failed, name, copy, current)
        self._owner.fail(name, FailureStage.LOAD, reason, message)

    async def _retune(self, name: str, copy: Staged) -> bool:
        """Have what is loaded be this copy, where it only differs by tuning that changes while the model answers, or
        that the server does not honour at all."""
        current, traits = self._owner.slot(name).current, self._server.traits
        if current is None or not self._owner.slot(name).live or current.folder == copy.folder:
            return False
        if (current.artifact, current.framework) != (copy.artifact, copy.framework):
            return False
        fixed = traits.tuning - traits.retunes
        if current.tuning.only(fixed) != copy.tuning.only(fixed):
            return False
        intent = self._owner.slot(name).intent
        if intent is None or intent.copy_id != copy.copy_id:
            return False
        if current.tuning.only(traits.retunes) != copy.tuning.only(traits.retunes):
            try:
                await self._server.retune(self._for_server(name, replace(copy, folder=current.folder)))
            except (ServerError, ServerGone) as error:
                logs.warning("tuning is changed by another load", model=name, cause=str(error))
                return False
        taken = await asyncio.to_thread(self._files.staging.take_place, current, copy, intent)
        logs.info("model retuned", model=name, copy=copy.copy_id)
        self._owner.put(slots.retuned(self._owner.slot(name), taken))
        return True

    async def _make_way(self, name: str) -> bool:
        """Where the server holds but one copy of a name, unload what is there. False: that failed, and is told."""
        slot = self._owner.slot(name)
        if self._server.traits.replaces or not (slot.live or slot.foreign):
            return True
        self._owner.put(slots.making_way(slot))
        await asyncio.sleep(self._routes_seconds)
        await self._until_idle(name, lambda: False)
        done = await self._have_unloaded(name)
        if not done:
            self._owner.put(replace(self._owner.slot(name), live=slot.live, foreign=slot.foreign))  # it answers on
        return done

    async def _unload(self, name: str) -> None:
        started = time.monotonic()
        if not await self._until_idle(name, lambda: _stays(self._owner.slot(name))):
            self._owner.put(slots.end(self._owner.slot(name)))  # it is wanted again, and still there
            return
        if await self._have_unloaded(name):
            self._metrics.unload_seconds.observe(time.monotonic() - started)
            logs.info("model unloaded", model=name)
            self._owner.put(slots.unloaded(self._owner.slot(name)))

    async def _have_unloaded(self, name: str) -> bool:
        """False: it failed, and is told."""
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
        if not gone:
            self._owner.fail(name, FailureStage.LOAD, reason, message)
        return gone

    async def _until_idle(self, name: str, stays: Callable[[], bool]) -> bool:
        """Wait until no request of the model is in flight, or the time for that is over. False: it is to stay."""
        start = time.monotonic()
        while (count := await self._server.usage.in_flight(name)) > 0:
            if stays():
                return False
            waited = time.monotonic() - start
            if waited > self._unload_wait:
                logs.warning("unloading while requests are in flight", model=name, requests=count)
                break
            await asyncio.sleep(max(IN_FLIGHT_SECONDS, IN_FLIGHT_SHARE * waited))
        return not stays()

    async def _remove(self, name: str) -> None:
        copies = self._owner.slot(name).copies()
        await asyncio.to_thread(self._files.staging.point, name, None)
        for copy in copies:
            await self._files.delete(copy)
        logs.info("model removed", model=name)
        self._owner.put(slots.removed(self._owner.slot(name)))


def _disk_trouble(error: OSError) -> str:
    return (
        f"The pod's disk for models cannot be written: {error.strerror or error}. Look at the node's disk, or have the "
        "pod made again on another node."
    )


def _stays(slot: Slot) -> bool:
    """It is to be loaded again, and still is."""
    return slot.settled and slot.intent is not None and slot.intent.action is Action.LOAD

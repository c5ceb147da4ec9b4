"""TorchServe: loads, unloads and the list by its management API, which listens on loopback only.

A copy is registered as a version of its model, beside the one that answers, and takes its place by one call; a version
that is unregistered ends its running requests, so it is waited for. Which copy a version is says its URL: the copy's
folder. Loads are asked for and then looked at: a call that waits for one holds a thread that answers clients.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shoal_api.names import SERVER_CONTAINER
from shoal_api.tuning import Knob

from shoal_agent.model_server import (
    MODEL_LOAD_FAILED,
    MODEL_LOAD_TIMEOUT,
    MODEL_TUNING_FAILED,
    LoadedModel,
    ModelCopy,
    Place,
    ServerError,
    ServerState,
    Traits,
)
from shoal_agent.model_server.connection import Process, TcpConnection
from shoal_agent.model_server.layout import SlotLinks
from shoal_agent.model_server.shared import folder_for_server
from shoal_agent.model_server.usage import Tallies, TallyReading

from . import staged, workers
from .management import Management, Version
from .model_config import KNOBS

DRAIN_SECONDS: Final = 60.0
"""How long requests of a replaced copy may still run."""
_POLL_SECONDS: Final = 0.05
_POLL_MAX_SECONDS: Final = 0.5
_BATCHED_SECONDS: Final = 0.1
"""Longer than a request is with neither the queue nor a worker, beside the wait for its batch."""
_ASKED_AT_ONCE: Final = 16
_ENDED_WORKERS: Final = 2
"""So many processes of a load may end without a word (killed for memory, or by a library) before it has failed."""
_LOOK: Final = f"The pod's log (container {SERVER_CONTAINER}) shows the traceback."


class TorchServe:
    """A load makes before it breaks."""

    # A load is a processor's time for the import of PyTorch: more at once only take longer each.
    traits = Traits(finishes=False, tuning=KNOBS, retunes=frozenset({Knob.WORKERS}), concurrent_loads=2)

    def __init__(self, place: Place) -> None:
        self._place = place
        self._management = Management(place.url("management"))
        self._process = Process(place.host, place.ports["http"])
        self._workers = place.shared_dir / workers.FOLDER
        self._answering: dict[str, str] = {}  # by model: the copy whose workers were seen ready
        self._changing: set[str] = set()
        self.layout = SlotLinks(place.models_dir)
        self.usage = Tallies(self._tallies, self._in_flight)

    def lay_out(self) -> None:
        folder_for_server(self._workers)

    def prepare(self, copy: ModelCopy) -> None:
        staged.prepare(copy, self._place.loading_timeout)

    async def load(self, copy: ModelCopy) -> None:
        with self._change(copy.name):
            await self._load(copy)

    async def unload(self, name: str) -> None:
        with self._change(name):
            self._process.unloaded(name)
            self._answering.pop(name, None)
            default = await self._management.default(name)
            for version in await self._management.versions(name):
                if default is None or version.version != default.version:
                    await self._management.unregister(name, version.version)
            if default is not None:
                await self._management.unregister(name, default.version)
            await asyncio.to_thread(workers.forget, self._workers, dict(self._answering))

    async def retune(self, copy: ModelCopy) -> None:
        version = await self._management.default(copy.name)
        if version is None or version.copy != copy.identity:
            raise ServerError(MODEL_TUNING_FAILED, "TorchServe does not have this copy of the model.")
        if Knob.WORKERS not in copy.tuning.asked():
            raise ServerError(MODEL_TUNING_FAILED, "How many workers are its default only TorchServe knows.")
        if copy.tuning.workers < version.workers:
            raise ServerError(
                MODEL_TUNING_FAILED, "TorchServe ends the running requests of a worker that it takes away."
            )
        await self._management.scale(copy.name, version.version, copy.tuning.workers)
        await self._until_ready(copy, copy.tuning.workers)

    async def state(self) -> ServerState:
        listed = await self._management.models()
        self._process.loaded(frozenset(listed))
        boot = self._process.boot
        at_once = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def model(name: str, copy: str) -> LoadedModel | None:
            if self._answering.get(name) == copy:
                return LoadedModel(name, copy, ready=True)
            async with at_once:
                await self._tidy(name)
                return await self.find(name)

        found = await asyncio.gather(*(model(name, copy) for name, copy in sorted(listed.items())))
        for name in self._answering.keys() - listed.keys() - self._changing:
            del self._answering[name]
        return ServerState(boot, tuple(each for each in found if each is not None))

    async def find(self, name: str) -> LoadedModel | None:
        version = await self._management.default(name)
        if version is None:
            return None
        ready = version.ready > 0
        if ready:
            self._answering[name] = version.copy
        return LoadedModel(name, version.copy, ready)

    async def alive(self) -> bool:
        return await self._management.answers()

    async def hold(self) -> TcpConnection:
        return await self._process.hold()

    async def close(self) -> None:
        await self._management.close()

    @contextmanager
    def _change(self, name: str) -> Iterator[None]:
        self._changing.add(name)
        try:
            yield
        finally:
            self._changing.discard(name)

    async def _load(self, copy: ModelCopy) -> None:
        name = copy.name
        await asyncio.to_thread(workers.forget_cause, self._workers, name, copy.identity)
        for version in await self._management.versions(name):
            if version.copy == copy.identity:  # left in the middle of an earlier load
                await self._management.unregister(name, version.version)
        try:
            await self._management.register(name, copy.identity)
            version = await self._until_ready(copy)
        except ServerError:
            await self._give_up(copy)
            raise
        former = [each for each in await self._management.versions(name) if each.version != version.version]
        if former:
            await self._management.set_default(name, version.version)
        self._answering[name] = copy.identity
        for each in former:
            await self._until_idle(name, each)
            await self._management.unregister(name, each.version)
        await asyncio.to_thread(workers.forget, self._workers, dict(self._answering))

    async def _until_ready(self, copy: ModelCopy, count: int = 0) -> Version:
        """Until as many of its workers answer, or as many as it is to have. Raises ServerError, ServerGone."""
        end = time.monotonic() + self._place.loading_timeout
        pause = _POLL_SECONDS
        processes: set[int] = set()
        while True:
            version = next((v for v in await self._management.versions(copy.name) if v.copy == copy.identity), None)
            if version is not None and version.ready >= max(count, version.workers, 1):
                return version
            said = await asyncio.to_thread(workers.cause, self._workers, copy.name, copy.identity)
            if said:
                raise ServerError(
                    MODEL_LOAD_FAILED, f"TorchServe could not load the model: {said.rstrip('.')}. {_LOOK}"
                )
            if version is not None:
                processes |= version.processes
                if len(processes) >= _ENDED_WORKERS + max(count, version.workers, 1):
                    raise ServerError(
                        MODEL_LOAD_FAILED,
                        "TorchServe could not load the model: its worker ended without a word, as one does that is "
                        f"killed for its memory. {_LOOK}",
                    )
            if time.monotonic() > end:
                raise ServerError(
                    MODEL_LOAD_TIMEOUT,
                    f"TorchServe did not load the model within {self._place.loading_timeout:g} s. Raise "
                    "modelLoadingTimeoutMillis of the runtime, or look at the server's log.",
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, _POLL_MAX_SECONDS)

    async def _give_up(self, copy: ModelCopy) -> None:
        """TorchServe keeps what failed, and goes on trying."""
        for version in await self._management.versions(copy.name):
            if version.copy == copy.identity:
                await self._management.unregister(copy.name, version.version)
        await asyncio.to_thread(workers.forget_cause, self._workers, copy.name, copy.identity)
        await asyncio.to_thread(workers.forget, self._workers, dict(self._answering))

    async def _tidy(self, name: str) -> None:
        """An earlier agent may have ended between giving a copy the other's place and unregistering that."""
        if name in self._changing:
            return
        default = await self._management.default(name)
        for version in await self._management.versions(name):
            if default is not None and version.version != default.version and name not in self._changing:
                await self._management.unregister(name, version.version)

    async def _until_idle(self, name: str, version: Version) -> None:
        end = time.monotonic() + DRAIN_SECONDS
        while await self._busy(name, version.version) > 0:
            if time.monotonic() > end:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _busy(self, name: str, version: str) -> int:
        """Requests of one version that wait or are computed. Asked twice where there are none: those that wait for
        their batch to fill are in neither place."""
        for last in (False, True):
            found = await self._management.version(name, version)
            if found is None:
                return 0
            count = found.waiting + await asyncio.to_thread(workers.running, self._workers, name, found.copy)
            if count or last:
                return count
            await asyncio.sleep(found.batch_delay + _BATCHED_SECONDS)
        return 0

    async def _in_flight(self, name: str) -> int:
        default = await self._management.default(name)
        return await self._busy(name, default.version) if default is not None else 0

    async def _tallies(self) -> TallyReading:
        found = await asyncio.to_thread(workers.read, self._workers)
        resident, base = workers.memory(found)
        return TallyReading(self._process.boot, workers.tallies(found, self._answering), resident, base)


def connect(place: Place) -> TorchServe:
    return TorchServe(place)

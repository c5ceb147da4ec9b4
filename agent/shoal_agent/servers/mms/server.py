"""The calls of multi-model-server.

A model is registered under the identity of its copy's folder, which the server's list gives back. A registered name is
not replaced, and an unregistration ends running requests, so the agent waits for them first.
"""

import asyncio
from typing import Final

from shoal_api.names import SERVER_CONTAINER
from shoal_api.tuning import Knob, Tuning

from shoal_agent.model_server import (
    MODEL_LOAD_FAILED,
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
from shoal_agent.model_server.models_api import ModelsApi
from shoal_agent.model_server.rest import Rest
from shoal_agent.model_server.shared import folder_for_server
from shoal_agent.model_server.usage import Tallies, TallyReading
from shoal_agent.storage import StorageError

from . import archive, use

READY: Final = "READY"
BETWEEN_SECONDS: Final = 0.05
"""Longer than a request is in none of the workers, on its way from the server's queue."""
_LOOK: Final = (
    "Look at the model's handler; what it raised stands in the pod's log (container " + SERVER_CONTAINER + ")."
)


class MultiModelServer:
    """An adapter."""

    traits = Traits(
        replaces=False,
        finishes=False,
        tuning=frozenset({Knob.WORKERS, Knob.BATCH_SIZE, Knob.BATCH_DELAY}),
        retunes=frozenset({Knob.WORKERS}),
    )

    def __init__(self, place: Place) -> None:
        self._place = place
        self._rest = Rest("The server", place.url("management"))
        self._api = ModelsApi(self._rest, _LOOK)
        self._process = Process(place.host, place.ports["http"])
        self._use = place.shared_dir / use.FOLDER
        self.layout = SlotLinks(place.models_dir)
        self.usage = Tallies(self._tallies, self._in_flight)

    def lay_out(self) -> None:
        folder_for_server(self._use)

    def prepare(self, copy: ModelCopy) -> None:
        archive.lay_out(copy.folder)

    async def load(self, copy: ModelCopy) -> None:
        try:
            handler = await asyncio.to_thread(archive.handler, copy.folder)
        except StorageError as error:  # somebody changed the folder
            raise ServerError(MODEL_LOAD_FAILED, error.message) from error
        await asyncio.to_thread(use.forget, self._use / copy.name)
        parameters: dict[str, str | int] = {"url": copy.folder.name}
        if Knob.WORKERS in copy.tuning.asked():  # else the server's default_workers_per_model
            parameters["initial_workers"] = copy.tuning.workers
        if handler:
            parameters["handler"] = handler
        await self._api.register(copy.name, self._place.loading_timeout, parameters | _batch(copy.tuning))

    async def unload(self, name: str) -> None:
        self._process.unloaded(name)
        await self._api.unregister(name)
        await asyncio.to_thread(use.forget, self._use / name)

    async def retune(self, copy: ModelCopy) -> None:
        if Knob.WORKERS not in copy.tuning.asked():
            raise ServerError(MODEL_TUNING_FAILED, "How many workers are its default only the server knows.")
        workers = copy.tuning.workers
        await self._api.scale(copy.name, {"min_worker": workers, "max_worker": workers})

    async def state(self) -> ServerState:
        listed = await self._api.listed()
        # One that could not be loaded is not listed.
        models = [LoadedModel(str(model["modelName"]), str(model["modelUrl"]), ready=True) for model in listed]
        self._process.loaded(frozenset(model.name for model in models))
        return ServerState(self._process.boot, tuple(models))

    async def find(self, name: str) -> LoadedModel | None:
        model = await self._api.described(name)
        if model is None:
            return None
        ready = any(worker["status"] == READY for worker in model["workers"])
        return LoadedModel(name, str(model["modelUrl"]), ready)

    async def alive(self) -> bool:
        return await self._rest.answers("/models?limit=1")

    async def hold(self) -> TcpConnection:
        return await self._process.hold()

    async def close(self) -> None:
        await self._rest.close()

    async def _tallies(self) -> TallyReading:
        return TallyReading(self._process.boot, await asyncio.to_thread(use.tallies, self._use))

    async def _in_flight(self, name: str) -> int:
        """The server does not tell what waits in its queue: whoever is next runs within the time that a batch waits."""
        folder = self._use / name
        before = await asyncio.to_thread(use.of_model, folder)
        if before.running:
            return before.running
        model = await self._api.described(name)
        if model is None:
            return 0
        batched = int(model["batchSize"]) > 1
        await asyncio.sleep(BETWEEN_SECONDS + (int(model["maxBatchDelay"]) / 1000 if batched else 0.0))
        after = await asyncio.to_thread(use.of_model, folder)
        return after.running or int(after != before)


def connect(place: Place) -> MultiModelServer:
    return MultiModelServer(place)


def _batch(tuning: Tuning) -> dict[str, str | int]:
    asked: dict[str, str | int] = {}
    if tuning.batch_size is not None:
        asked["batch_size"] = tuning.batch_size
    if tuning.batch_delay is not None:
        asked["max_batch_delay"] = round(tuning.batch_delay * 1000)
    return asked

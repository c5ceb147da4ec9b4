"""The calls of DJL Serving.

A model is registered under the URL of its copy's folder, which the server's list gives back: so the server itself says
which copy it has. A registered name is not replaced, and an unregistration ends running requests with 503, so the agent
waits for them first.
"""

import asyncio
import contextlib
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from shoal_api.names import SERVER_CONTAINER
from shoal_api.tuning import Knob, Tuning

from shoal_agent.model_server import LoadedModel, ModelCopy, Place, ServerState, Traits
from shoal_agent.model_server.connection import Process, TcpConnection
from shoal_agent.model_server.layout import SlotLinks
from shoal_agent.model_server.models_api import Description, ModelsApi
from shoal_agent.model_server.rest import Rest
from shoal_agent.model_server.usage import Tallies, TallyReading

from . import properties, use

READY: Final = "READY"
_LOOK: Final = (
    "Look at serving.properties and the model's code; what Python raised stands in the pod's log (container "
    f"{SERVER_CONTAINER})."
)


class Djl:
    """An adapter."""

    traits = Traits(
        replaces=False,
        finishes=False,
        tuning=frozenset({Knob.WORKERS, Knob.BATCH_SIZE, Knob.BATCH_DELAY, Knob.QUEUE_SIZE, Knob.THREADS}),
        retunes=frozenset({Knob.WORKERS}),
    )

    def __init__(self, place: Place) -> None:
        self._place = place
        self._rest = Rest("The server", place.url("management"))
        self._api = ModelsApi(self._rest, _LOOK)
        self._process = Process(place.host, place.ports["http"])
        self._running = use.Running()
        self.layout = SlotLinks(place.models_dir)
        self.usage = Tallies(self._tallies, self._in_flight)

    def lay_out(self) -> None:
        """Nothing: the server is told where each model is."""

    def prepare(self, copy: ModelCopy) -> None:
        properties.write(copy.folder, copy.framework, copy.tuning, self._place.threads)

    async def load(self, copy: ModelCopy) -> None:
        self._running.limit(copy.name, await asyncio.to_thread(properties.longest_seconds, copy.folder))
        # A folder's URL ends in a slash.
        parameters: dict[str, str | int] = {
            "url": f"{copy.folder.as_uri()}/",
            **_workers(copy.tuning),
            **_queue(copy.tuning),
        }
        await self._api.register(copy.name, self._place.loading_timeout, parameters)

    async def unload(self, name: str) -> None:
        self._process.unloaded(name)
        await self._api.unregister(name)

    async def retune(self, copy: ModelCopy) -> None:
        await self._api.scale(copy.name, _workers(copy.tuning))

    async def state(self) -> ServerState:
        models = [_loaded(each) for each in await self._api.listed()]
        self._process.loaded(frozenset(model.name for model in models))
        return ServerState(self._process.boot, tuple(models))

    async def find(self, name: str) -> LoadedModel | None:
        workflow = await self._api.described(name)
        if workflow is None:
            return None
        (model,) = workflow["models"]
        # "Healthy", as long as it has its workers: a list says READY instead.
        ready = model["status"] not in ("PENDING", "FAILED")
        return LoadedModel(name, _copy(model["modelUrl"]), ready)

    async def alive(self) -> bool:
        return await self._rest.answers("/models?limit=1")

    async def hold(self) -> TcpConnection:
        return await self._process.hold()

    async def close(self) -> None:
        await self._rest.close()

    async def _tallies(self) -> TallyReading:
        status, text = await self._rest.text(use.METRICS)
        found = use.counted(text if status == 200 else "")
        return TallyReading(self._process.boot, self._running.tallies(found))

    async def _in_flight(self, name: str) -> int:
        workflow = await self._api.described(name)
        queued = sum(int(model["requestInQueue"]) for model in workflow["models"]) if workflow is not None else 0
        if queued:
            return queued
        tally = (await self._tallies()).tallies.get(name)
        return tally.in_flight if tally is not None else 0


def connect(place: Place) -> Djl:
    return Djl(place)


def _workers(tuning: Tuning) -> dict[str, str | int]:
    """The server's own choice is as many as there are processors: more than the memory that was counted."""
    most = tuning.workers
    return {"min_worker": min(tuning.workers_min or 1, most), "max_worker": most}


def _queue(tuning: Tuning) -> dict[str, str | int]:
    """The server takes 0 for its own choice."""
    asked = {
        "batch_size": tuning.batch_size,
        "max_batch_delay": None if tuning.batch_delay is None else max(1, round(tuning.batch_delay * 1000)),
        "job_queue_size": None if tuning.queue_size is None else max(1, tuning.queue_size),
    }
    return {name: value for name, value in asked.items() if value is not None}


def _loaded(model: Description) -> LoadedModel:
    return LoadedModel(str(model["modelName"]), _copy(model["modelUrl"]), model["status"] == READY)


def _copy(url: object) -> str:
    with contextlib.suppress(ValueError):
        return PurePosixPath(urlsplit(str(url)).path).name
    return ""

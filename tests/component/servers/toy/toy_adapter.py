"""The agent's side of the toy server."""

import os
from typing import Any

from shoal_agent.model_server import (
    MODEL_LOAD_FAILED,
    LoadedModel,
    ModelCopy,
    Place,
    ServerError,
    ServerGone,
    ServerState,
    Traits,
)
from shoal_agent.model_server.connection import Process, TcpConnection
from shoal_agent.model_server.layout import SlotLinks
from shoal_agent.model_server.rest import Rest, cause
from shoal_agent.model_server.usage import Tallies, Tally, TallyReading
from shoal_api.tuning import Knob


class Toy:
    traits = Traits(replaces=False, finishes=False, tuning=frozenset({Knob.WORKERS}), retunes=frozenset({Knob.WORKERS}))

    def __init__(self, place: Place) -> None:
        self._place, self._rest = place, Rest("Toy", place.url())
        self._process = Process(place.host, place.ports["http"])
        self.layout = SlotLinks(place.models_dir)
        self.usage = Tallies(self._tallies, self._in_flight)

    def lay_out(self) -> None: ...

    def prepare(self, copy: ModelCopy) -> None: ...

    async def load(self, copy: ModelCopy) -> None:
        path = f"/load/{copy.name}?folder={copy.folder}&workers={copy.tuning.workers}"
        status, body = await self._rest.call("POST", path, self._place.loading_timeout)
        if status >= 300:
            said = f"The toy server could not load the model: {cause(body, status)}. Correct model.json."
            raise ServerError(MODEL_LOAD_FAILED, said)

    async def unload(self, name: str) -> None:
        self._process.unloaded(name)
        await self._rest.call("POST", f"/unload/{name}", 10.0)

    async def retune(self, copy: ModelCopy) -> None:
        await self._rest.call("POST", f"/scale/{copy.name}?workers={copy.tuning.workers}", 10.0)

    async def state(self) -> ServerState:
        models = await self._list()
        self._process.loaded(frozenset(models))
        return ServerState(self._process.boot, tuple(_loaded(name, model) for name, model in models.items()))

    async def find(self, name: str) -> LoadedModel | None:
        model = (await self._list()).get(name)
        return None if model is None else _loaded(name, model)

    async def alive(self) -> bool:
        return await self._rest.answers("/alive")

    async def hold(self) -> TcpConnection:
        return await self._process.hold()

    async def close(self) -> None:
        await self._rest.close()

    async def _list(self) -> dict[str, Any]:
        status, models = await self._rest.json("/list")
        if status != 200:
            raise ServerGone(f"the toy server answered {status}")
        found: dict[str, Any] = models
        return found

    async def _tallies(self) -> TallyReading:
        tallies = {name: Tally(m["done"], in_flight=m["running"]) for name, m in (await self._list()).items()}
        return TallyReading(self._process.boot, tallies)

    async def _in_flight(self, name: str) -> int:
        return int((await self._list())[name]["running"])


def connect(place: Place) -> Toy:
    return Toy(place)


def _loaded(name: str, model: dict[str, Any]) -> LoadedModel:
    return LoadedModel(name, os.path.basename(model["folder"]), ready=True)

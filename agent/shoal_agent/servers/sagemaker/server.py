"""The calls of SageMaker's contract for containers of many models, and no other.

A model is registered under the path of its copy's folder, which the container's list gives back. Of running requests,
of use and of tuning the contract says nothing.
"""

from pathlib import PurePosixPath
from typing import Final

from shoal_api.names import SERVER_CONTAINER

from shoal_agent.model_server import (
    MODEL_TUNING_FAILED,
    LoadedModel,
    ModelCopy,
    NoUsage,
    Place,
    ServerError,
    ServerState,
    Traits,
)
from shoal_agent.model_server.connection import Process, TcpConnection
from shoal_agent.model_server.layout import SlotLinks
from shoal_agent.model_server.models_api import Description, ModelsApi
from shoal_agent.model_server.rest import Rest

_LOOK: Final = (
    "It was asked by POST /models with the folder's path as its url; the pod's log (container "
    f"{SERVER_CONTAINER}) says more."
)


class SageMaker:
    """An adapter."""

    traits = Traits(replaces=False, finishes=False)

    def __init__(self, place: Place) -> None:
        self._place = place
        self._rest = Rest("The container", place.url())
        self._api = ModelsApi(self._rest, _LOOK)
        self._process = Process(place.host, place.ports["http"])
        self.layout = SlotLinks(place.models_dir)
        self.usage = NoUsage()

    def lay_out(self) -> None:
        """Nothing: the container is told where each model is."""

    def prepare(self, copy: ModelCopy) -> None:
        """Nothing: the files are what the user's container expects."""

    async def load(self, copy: ModelCopy) -> None:
        await self._api.register_by_contract(copy.name, self._place.loading_timeout, str(copy.folder))

    async def unload(self, name: str) -> None:
        self._process.unloaded(name)
        await self._api.unregister(name)

    async def retune(self, copy: ModelCopy) -> None:
        raise ServerError(MODEL_TUNING_FAILED, "SageMaker's contract has no tuning of one model.")

    async def state(self) -> ServerState:
        models = [_loaded(each) for each in await self._api.listed_by_contract()]
        self._process.loaded(frozenset(model.name for model in models))
        return ServerState(self._process.boot, tuple(models))

    async def find(self, name: str) -> LoadedModel | None:
        model = await self._api.described(name)
        return None if model is None else _loaded({"modelName": name, **model})

    async def alive(self) -> bool:
        return await self._rest.answers("/ping")

    async def hold(self) -> TcpConnection:
        return await self._process.hold()

    async def close(self) -> None:
        await self._rest.close()


def connect(place: Place) -> SageMaker:
    return SageMaker(place)


def _loaded(model: Description) -> LoadedModel:
    """By the contract what is listed is loaded."""
    return LoadedModel(str(model["modelName"]), PurePosixPath(str(model["modelUrl"])).name, ready=True)

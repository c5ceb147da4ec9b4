"""MLServer's calls.

Loads and unloads go through the Open Inference Protocol's repository API (``POST /v2/repository/models/{m}/load``);
what is loaded is read from the plug-in's ``GET /shoal/v1/state``, which is the server's own registry with the copy each
model was loaded from.
"""

from typing import Any, Final
from urllib.parse import quote

from shoal_api.names import SERVER_CONTAINER

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
from shoal_agent.model_server.connection import TcpConnection
from shoal_agent.model_server.layout import SlotLinks
from shoal_agent.model_server.repository_api import RepositoryApi
from shoal_agent.model_server.rest import Rest
from shoal_agent.model_server.shared import folder_for_server

from .counters import COUNTERS_FILE, Counters
from .settings_file import KNOBS, OPENVINO_KNOBS, write_settings

_LOOK: Final = (
    "Check that the framework is right, that the file is whole, and that it was saved with package versions which the "
    f"server has; the pod's log (container {SERVER_CONTAINER}) shows the traceback."
)


class MLServer:
    """A load makes before it breaks, and an unload waits for running requests."""

    traits = Traits(tuning=KNOBS | OPENVINO_KNOBS, describes=True)

    def __init__(self, place: Place) -> None:
        self._place = place
        self._rest = Rest("MLServer", place.url())
        self._repository = RepositoryApi(self._rest, "MLServer", _LOOK)
        # A thread of the plug-in's own: the event loop may be held up by a model.
        self._health = Rest("MLServer", place.url("health"))
        self.layout = SlotLinks(place.models_dir)
        self.usage = Counters(place.shared_dir / COUNTERS_FILE)

    def lay_out(self) -> None:
        folder_for_server((self._place.shared_dir / COUNTERS_FILE).parent)

    def prepare(self, copy: ModelCopy) -> None:
        write_settings(copy.folder, copy.name, copy.framework, copy.tuning)

    async def load(self, copy: ModelCopy) -> None:
        not_found = f"MLServer answered 404: no model {copy.name!r} is staged for it."
        await self._repository.load(copy.name, self._place.loading_timeout, not_found)

    async def unload(self, name: str) -> None:
        await self._repository.unload(name)

    async def retune(self, copy: ModelCopy) -> None:
        raise ServerError(MODEL_LOAD_FAILED, "MLServer reads a model's settings only when it loads it.")

    async def state(self) -> ServerState:
        answer = await self._get("/shoal/v1/state")
        return ServerState(str(answer["boot"]), tuple(_model(item) for item in answer["models"]))

    async def find(self, name: str) -> LoadedModel | None:
        item = (await self._get(f"/shoal/v1/state/{quote(name)}"))["model"]
        return None if item is None else _model(item)

    async def alive(self) -> bool:
        return await self._health.answers("/")

    async def hold(self) -> TcpConnection:
        return await TcpConnection.connect(self._place.host, self._place.ports["http"])

    async def close(self) -> None:
        await self._rest.close()
        await self._health.close()

    async def _get(self, path: str) -> dict[str, Any]:
        status, content = await self._rest.json(path)
        if status == 404:
            raise ServerError(
                MODEL_LOAD_FAILED,
                "The model server runs without Shoal's plug-in: check that its container has PYTHONPATH and "
                "MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION as rendered, and MLServer 1.7.",
            )
        if status != 200 or not isinstance(content, dict):
            raise ServerGone(f"MLServer answered {status} to {path}")
        return content


def connect(place: Place) -> MLServer:
    return MLServer(place)


def _model(item: dict[str, Any]) -> LoadedModel:
    return LoadedModel(str(item["name"]), str(item["copy"]), bool(item["ready"]))

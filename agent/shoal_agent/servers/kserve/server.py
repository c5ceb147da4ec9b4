"""The calls of KServe's Python server.

It loads ``<model_dir>/<name>`` by POST /v2/repository/models/{m}/load, and lists loaded names. It does not say which
copy one was loaded from: the agent remembers it, and the next agent reads it from the links that this one left.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from shoal_api.names import SERVER_CONTAINER

from shoal_agent.model_server import (
    MODEL_LOAD_FAILED,
    Identities,
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
from shoal_agent.model_server.repository_api import RepositoryApi
from shoal_agent.model_server.rest import Rest
from shoal_agent.model_server.usage import Tallies, Tally, TallyReading

_UNKNOWN: Final = ""
_LOOK: Final = (
    "Check that its ModelRepository's load() takes the folder of that name below model_dir and calls update(); the "
    f"pod's log (container {SERVER_CONTAINER}) says more."
)
_SAMPLE: Final = re.compile(
    r"^(?P<name>request_predict_seconds_(?:count|sum)|process_resident_memory_bytes)"
    r'(?:\{[^}]*model_name="(?P<model>[^"]*)"[^}]*\})? (?P<value>\S+)$',
    re.M,
)


class Links(SlotLinks):
    """What an earlier agent of this pod left: what it shows was loaded, where it is not in the middle of that."""

    def __init__(self, models_dir: Path, identities: Identities) -> None:
        super().__init__(models_dir)
        self._copies, self._identities = models_dir / "copies", identities

    def open(self) -> Mapping[str, str]:
        shown = super().open()
        for name, identity in shown.items():
            if not (self._copies / f"{identity}.loading").exists():
                self._identities.loaded(name, identity)
        return shown


class KServe:
    """The repository is the user's code: KServe's own pattern loads beside the old model, then takes its place."""

    traits = Traits(describes=True)

    def __init__(self, place: Place) -> None:
        self._place = place
        self._rest = Rest("The server", place.url())
        self._repository = RepositoryApi(self._rest, "The server", _LOOK)
        self._process = Process(place.host, place.ports["http"])
        self._identities = Identities()
        self.layout = Links(place.models_dir, self._identities)
        self.usage = Tallies(self._tallies, _in_flight)

    def lay_out(self) -> None:
        """Nothing: the server writes nothing that is shared."""

    def prepare(self, copy: ModelCopy) -> None:
        """Nothing: the files are what the user's code expects."""

    async def load(self, copy: ModelCopy) -> None:
        former = self._identities.of(copy.name)
        self._identities.loaded(copy.name, _UNKNOWN)
        try:
            await self._repository.load(copy.name, self._place.loading_timeout)
        except ServerError as error:
            if error.reason == MODEL_LOAD_FAILED:
                self._identities.loaded(copy.name, former)  # what was there answers on
            raise
        self._identities.loaded(copy.name, copy.identity)

    async def unload(self, name: str) -> None:
        self._process.unloaded(name)
        await self._repository.unload(name)

    async def retune(self, copy: ModelCopy) -> None:
        raise ServerError(MODEL_LOAD_FAILED, "KServe's Python server has no tuning of one model.")

    async def state(self) -> ServerState:
        status, content = await self._rest.json("/v2/models")
        if status != 200 or not isinstance(content, dict) or not isinstance(content.get("models"), list):
            raise ServerGone(f"the server answered {status} to /v2/models")
        names = sorted(str(name) for name in content["models"])
        self._process.loaded(frozenset(names))
        models = (LoadedModel(name, self._identities.of(name), ready=True) for name in names)
        return ServerState(self._process.boot, tuple(models))

    async def find(self, name: str) -> LoadedModel | None:
        path = f"/v2/models/{quote(name)}/ready"
        status, content = await self._rest.json(path)
        if status == 404:
            return None
        if status not in (200, 503) or not isinstance(content, dict):
            raise ServerGone(f"the server answered {status} to {path}")
        return LoadedModel(name, self._identities.of(name), ready=content.get("ready") is True)

    async def alive(self) -> bool:
        return await self._rest.answers("/v2/health/live")

    async def hold(self) -> TcpConnection:
        return await self._process.hold()

    async def close(self) -> None:
        await self._rest.close()

    async def _tallies(self) -> TallyReading:
        status, text = await self._rest.text("/metrics")
        found, resident = tallies(text if status == 200 else "")
        return TallyReading(self._process.boot, found, resident)


def connect(place: Place) -> KServe:
    return KServe(place)


def tallies(metrics: str) -> tuple[dict[str, Tally], int | None]:
    """By model, and the process's resident bytes, from Prometheus' text. Failures are counted with the rest. Pure."""
    counts: dict[str, int] = {}
    seconds: dict[str, float] = {}
    resident = None
    for sample in _SAMPLE.finditer(metrics):
        value = float(sample["value"])
        if sample["model"] is None:
            resident = int(value) if sample["name"].startswith("process") else resident
        elif sample["name"].endswith("_count"):
            counts[sample["model"]] = int(value)
        else:
            seconds[sample["model"]] = value
    return {
        name: Tally(succeeded=count, busy_seconds=seconds.get(name, 0.0)) for name, count in counts.items()
    }, resident


async def _in_flight(_: str) -> int:
    return 0  # an unload takes the name away, and lets what runs finish

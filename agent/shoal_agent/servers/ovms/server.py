"""The calls of OpenVINO Model Server. It has one: read config.json again, all of it, and make what is served like that.

How that went is read from its list of models, never from the call's status, which is an error as soon as any model of
the file is. Reloads run one after another in the server, and each waits for what it retires to finish its requests.
"""

import asyncio
import json
import os
import time
import uuid
from pathlib import Path, PurePosixPath
from typing import Any, Final

from shoal_api.names import SERVER_CONTAINER

from shoal_agent.model_server import (
    MODEL_LOAD_FAILED,
    MODEL_LOAD_TIMEOUT,
    MODEL_UNLOAD_FAILED,
    LoadedModel,
    ModelCopy,
    Place,
    ServerError,
    ServerGone,
    ServerState,
    Traits,
)
from shoal_agent.model_server.connection import Process, TcpConnection
from shoal_agent.model_server.rest import Rest, cause
from shoal_agent.model_server.usage import Tallies, Tally, TallyReading

from .artifact import version
from .model_config import DEFAULTS_FILE, KNOBS, entry
from .reloads import Reload, Reloads
from .repository import ENTRY_FILE, MODEL, Repository
from .status import Versions, since, tallies, versions

RELOAD_SECONDS: Final = 3600.0
"""A reload is not given up: the server goes on with it, and a second one would only wait for it."""
UNLOAD_SECONDS: Final = 60.0
FRESH_SECONDS: Final = 0.5
"""How old may be what is said of requests under way."""
_LIST: Final = "/v1/config"
_WHY: Final = {
    412: "it could not be compiled for the processor, or reshaped",
    400: "its files were not found",
    500: "its files could not be read",
}


class OpenVinoModelServer:
    """A load is under way beside the former copy. Where both tuning and content change and the content turns out to be
    broken, the server reloads the former copy twice, and holds its requests meanwhile."""

    traits = Traits(tuning=KNOBS, describes=True)

    def __init__(self, place: Place) -> None:
        self._place = place
        self._rest = Rest("OpenVINO Model Server", place.url())
        self._process = Process(place.host, place.ports["http"])
        self._repository = Repository(place.models_dir)
        self._reloads = Reloads(self._send)
        self._counted: dict[str, Tally] = {}
        self._counted_at = -FRESH_SECONDS
        self._before: dict[str, Tally] = {}  # of each model, what was counted when it was last unloaded
        self._before_boot = self._boot = ""
        self.layout = self._repository
        self.usage = Tallies(self._tallies, self._in_flight)

    def lay_out(self) -> None:
        self._repository.lay_out()

    def prepare(self, copy: ModelCopy) -> None:
        files = [str(PurePosixPath(file.relative_to(copy.folder))) for file in copy.folder.rglob("*") if file.is_file()]
        source = copy.folder / version(files, copy.framework)
        # By way of a name beside it: the artifact may have a file or folder of that name.
        aside = copy.folder / f".{uuid.uuid4().hex}"
        if source == copy.folder:
            aside.mkdir()
            for child in list(copy.folder.iterdir()):
                if child != aside:
                    os.rename(child, aside / child.name)
        else:
            os.rename(source, aside)
        taken = copy.folder / MODEL
        if taken.exists():
            os.rename(taken, copy.folder / f".{uuid.uuid4().hex}")
        os.rename(aside, taken)
        target = copy.folder / ENTRY_FILE
        temporary = target.with_name(f".{uuid.uuid4().hex}")
        temporary.write_text(json.dumps(entry(self._defaults(), copy.tuning)))
        os.replace(temporary, target)

    async def load(self, copy: ModelCopy) -> None:
        number = await asyncio.to_thread(self._repository.ask, copy.name, copy.identity)
        if number is None:
            raise ServerError(MODEL_LOAD_FAILED, "The copy is not laid out.")
        try:
            done = await self._reloads.run(self._place.loading_timeout)
            found = (await self._versions()).get(copy.name, Versions())
        except (ServerGone, asyncio.CancelledError):
            # The next process is not to be told of it before somebody asks again.
            self._repository.withdraw(copy.name, number)
            raise
        except TimeoutError as error:
            # Once it has read the copy after all, it is to let go of it.
            self._reloads.ask()
            raise ServerError(
                MODEL_LOAD_TIMEOUT,
                f"OpenVINO Model Server did not load the model within {self._place.loading_timeout:g} s. It loads one "
                "model after another, and none before requests of what it unloads are finished: raise "
                "modelLoadingTimeoutMillis of the runtime, or look at the server's log.",
            ) from error
        if number in found.available:
            await asyncio.to_thread(self._repository.commit, copy.name, number)
            return
        former = await asyncio.to_thread(self._repository.withdraw, copy.name, number)
        if former:
            self._reloads.ask()  # it goes back to the former's tuning, and forgets this number
        if done.error is not None:
            raise done.error
        raise ServerError(MODEL_LOAD_FAILED, _refused(done))

    async def unload(self, name: str) -> None:
        self._process.unloaded(name)
        await asyncio.to_thread(self._repository.show, name, None)
        try:
            done = await self._reloads.run(UNLOAD_SECONDS)
        except TimeoutError as error:
            raise ServerError(
                MODEL_UNLOAD_FAILED,
                f"OpenVINO Model Server still has requests under way of a model that it unloads, after "
                f"{UNLOAD_SECONDS:g} s. It loads and unloads nothing else meanwhile; a request that never ends needs "
                "its pod restarted.",
            ) from error
        if done.error is not None:
            raise done.error
        self._before[name] = self._counted.get(name, Tally())

    async def retune(self, copy: ModelCopy) -> None:
        raise ServerError(MODEL_LOAD_FAILED, "OpenVINO Model Server reads a model's tuning only when it loads it.")

    async def state(self) -> ServerState:
        found = await self._versions()
        self._repository.listed(found)
        self._process.loaded(frozenset(found))
        if self._process.boot != self._boot:
            self._boot = self._process.boot
            self._repository.only(found)
        models = [self._model(name, found[name]) for name in sorted(found)]
        return ServerState(self._process.boot, tuple(models))

    async def find(self, name: str) -> LoadedModel | None:
        found = (await self._versions()).get(name)
        return None if found is None else self._model(name, found)

    async def alive(self) -> bool:
        return await self._rest.answers("/v2/health/live")

    async def hold(self) -> TcpConnection:
        return await self._process.hold()

    async def close(self) -> None:
        await self._reloads.close()
        await self._rest.close()

    def _model(self, name: str, found: Versions) -> LoadedModel:
        serving = found.serving
        if serving is None:
            return LoadedModel(name, "unknown", ready=False)
        return LoadedModel(name, self._repository.copy(name, serving), ready=True)

    async def _send(self) -> tuple[int, str]:
        await asyncio.to_thread(self._repository.reveal)
        try:
            return await self._rest.call("POST", f"{_LIST}/reload", RELOAD_SECONDS)
        finally:
            self._repository.hide()  # at once, also where the server has just ended: it is about to start again

    async def _versions(self) -> dict[str, Versions]:
        status, content = await self._rest.json(_LIST)
        if status != 200 or not isinstance(content, dict):
            raise ServerGone(f"OpenVINO Model Server answered {status} to {_LIST}")
        try:
            return versions(content)
        except (KeyError, TypeError, ValueError) as error:
            raise ServerGone(f"OpenVINO Model Server's list of models cannot be read: {error!r}") from error

    def _defaults(self) -> dict[str, Any]:
        file: Path = self._place.shared_dir / "config" / DEFAULTS_FILE
        made: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return made

    async def _tallies(self) -> TallyReading:
        boot = self._process.boot
        if boot != self._before_boot:
            self._before_boot, self._before = boot, {}
        counted, names = await self._count(), self._repository.asked()
        loaded = {
            name: since(tally, self._before.get(name, Tally())) for name, tally in counted.items() if name in names
        }
        return TallyReading(boot, loaded)

    async def _in_flight(self, name: str) -> int:
        """An unload lets requests finish by itself, but holds up every other load meanwhile."""
        if time.monotonic() - self._counted_at > FRESH_SECONDS:
            await self._count()
        return self._counted.get(name, Tally()).in_flight

    async def _count(self) -> dict[str, Tally]:
        status, text = await self._rest.text("/metrics")
        self._counted, self._counted_at = tallies(text if status == 200 else ""), time.monotonic()
        return self._counted


def connect(place: Place) -> OpenVinoModelServer:
    return OpenVinoModelServer(place)


def _refused(done: Reload) -> str:
    why = _WHY.get(done.status, "it is not among the models that answer afterwards")
    said = cause(done.body, done.status).rstrip(".")
    return (
        f"OpenVINO Model Server could not load the model: {why} (HTTP {done.status}: {said[:200]}). The pod's log "
        f"(container {SERVER_CONTAINER}) has the cause; check that the model can be read by the image's OpenVINO."
    )

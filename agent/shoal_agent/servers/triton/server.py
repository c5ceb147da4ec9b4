"""Triton: loads over gRPC, questions over HTTP. A load makes before it breaks; an unload waits for running requests.

Which copy the server has is a parameter of the model's configuration, which it gives back; so a model keeps the version
numbers that its users know.
"""

import asyncio
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from shoal_api.names import SERVER_CONTAINER

from shoal_agent.model_server import (
    MODEL_LOAD_FAILED,
    MODEL_UNLOAD_FAILED,
    LoadedModel,
    ModelCopy,
    Place,
    ServerError,
    ServerGone,
    ServerState,
    Traits,
    written,
)
from shoal_agent.model_server.layout import SlotLinks
from shoal_agent.model_server.rest import Rest
from shoal_agent.model_server.usage import Tallies, Tally, TallyReading

from .control import Control
from .copies import Copies
from .model_config import COPY_PARAMETER, KNOBS, model_config, named_files
from .process import Held, Process
from .repository import CONFIG_FILE, Arrangement, arranged

UNLOAD_SECONDS: Final = 60.0
_ASKED_AT_ONCE: Final = 16
_POLL_SECONDS: Final = 0.02
_POLL_MAX_SECONDS: Final = 0.5
_THERE: Final = frozenset({"READY", "LOADING", "UNLOADING"})
_LOOK: Final = f"The pod's log (container {SERVER_CONTAINER}) says more."
_POLLED: Final = (
    f"Check that {CONFIG_FILE} has only fields that this Triton knows, and that the server has the model's backend."
)


class Triton:
    """Requests under way are not told by the server: ``Usage`` has none in flight."""

    traits = Traits(tuning=KNOBS, describes=True)

    def __init__(self, place: Place) -> None:
        self._place = place
        self._rest = Rest("Triton", place.url())
        self._control = Control(place.host, place.ports["grpc"])
        self._process = Process(place.host, place.ports["http"])
        self._copies = Copies()
        self.layout = SlotLinks(place.models_dir)
        self.usage = Tallies(self._tallies, _in_flight)

    def lay_out(self) -> None:
        """Nothing: Triton writes nothing that is shared."""

    def prepare(self, copy: ModelCopy) -> None:
        files = sorted(
            str(PurePosixPath(file.relative_to(copy.folder))) for file in copy.folder.rglob("*") if file.is_file()
        )
        plan = arranged(files, copy.framework)
        own = written.text(copy.folder / plan.config) if plan.config else ""
        if own:
            plan = arranged(files, copy.framework, named_files(own))
        text = model_config(own, plan.kind, copy.identity, copy.tuning, self._place.threads)
        _move(copy.folder, plan)
        target = copy.folder / CONFIG_FILE
        # The user's file is a hard link into the cache: replaced, never written into.
        temporary = copy.folder / f".{uuid.uuid4().hex}"
        temporary.write_text(text)
        os.replace(temporary, target)

    async def load(self, copy: ModelCopy) -> None:
        # Triton takes a folder for changed only where something in it is newer than at its last load; this copy may
        # have been laid out before the one that is loaded was.
        await asyncio.to_thread(os.utime, copy.folder / CONFIG_FILE)
        with self._copies.changing(copy.name):
            try:
                await self._control.load(copy.name, self._place.loading_timeout, MODEL_LOAD_FAILED)
            except ServerError as error:
                if error.reason != MODEL_LOAD_FAILED:
                    raise
                more = _POLLED if "failed to poll" in error.message else _LOOK
                raise ServerError(
                    MODEL_LOAD_FAILED, f"Triton could not load the model: {error.message}. {more}"
                ) from error

    async def unload(self, name: str) -> None:
        with self._copies.changing(name):
            await self._control.unload(name, UNLOAD_SECONDS, MODEL_UNLOAD_FAILED)
            # It has only begun: running requests are being answered, and memory is not free before that.
            try:
                async with asyncio.timeout(UNLOAD_SECONDS):
                    await self._until_gone(name)
            except TimeoutError as error:
                raise ServerError(
                    MODEL_UNLOAD_FAILED,
                    f"Triton still has requests of the model under way after {UNLOAD_SECONDS:g} s. It is waited for "
                    "again; a model that never answers needs its pod restarted.",
                ) from error

    async def retune(self, copy: ModelCopy) -> None:
        raise ServerError(MODEL_LOAD_FAILED, "Triton reads a model's configuration only when it loads it.")

    async def state(self) -> ServerState:
        names = {row.name for row in await self._control.index(ready=True) if row.state == "READY"}
        boot = self._process.boot
        self._copies.of_process(boot, names)
        at_once = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def model(name: str) -> LoadedModel | None:
            known = self._copies.of(name)
            if known is not None:
                return LoadedModel(name, known, ready=True)
            async with at_once:
                return await self.find(name)

        found = await asyncio.gather(*map(model, sorted(names)))
        return ServerState(boot, tuple(each for each in found if each is not None))

    async def find(self, name: str) -> LoadedModel | None:
        mark = self._copies.mark()
        path = f"/v2/models/{quote(name)}/config"
        status, content = await self._rest.json(path)
        if status in (400, 404):  # by version of the server
            return None
        if status != 200 or not isinstance(content, dict):
            raise ServerGone(f"Triton answered {status} to {path}")
        parameter = (content.get("parameters") or {}).get(COPY_PARAMETER) or {}
        identity = str(parameter.get("string_value") or "unknown")
        self._copies.note(name, identity, mark)
        return LoadedModel(name, identity, ready=True)

    async def alive(self) -> bool:
        return await self._rest.answers("/v2/health/live")

    async def hold(self) -> Held:
        return await self._process.hold()

    async def close(self) -> None:
        await self._control.close()
        await self._rest.close()

    async def _until_gone(self, name: str) -> None:
        pause = _POLL_SECONDS
        while True:
            if not any(row.name == name and row.state in _THERE for row in await self._control.index(ready=False)):
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _POLL_MAX_SECONDS)

    async def _tallies(self) -> TallyReading:
        status, content = await self._rest.json("/v2/models/stats")
        rows = content.get("model_stats", []) if status == 200 and isinstance(content, dict) else []
        return TallyReading(self._process.boot, tallies(rows))


def connect(place: Place) -> Triton:
    return Triton(place)


def tallies(rows: Iterable[dict[str, Any]]) -> dict[str, Tally]:
    """By model, all of its versions together, from the statistics that Triton tells. Pure."""
    found: dict[str, Tally] = {}
    for row in rows:
        name, counts = str(row["name"]), row.get("inference_stats") or {}
        well, badly = counts.get("success") or {}, counts.get("fail") or {}
        last = int(row.get("last_inference") or 0) / 1000
        so_far = found.get(name, Tally())
        found[name] = Tally(
            succeeded=so_far.succeeded + int(well.get("count", 0)),
            failed=so_far.failed + int(badly.get("count", 0)),
            busy_seconds=so_far.busy_seconds + (int(well.get("ns", 0)) + int(badly.get("ns", 0))) / 1e9,
            last_used=max(last, so_far.last_used or 0.0) or None,
        )
    return found


async def _in_flight(_: str) -> int:
    return 0  # an unload waits by itself


def _move(folder: Path, plan: Arrangement) -> None:
    """By way of a folder beside them, since a file may go where another was."""
    if all(source == target for source, target in plan.moves):
        return
    aside = folder / f".{uuid.uuid4().hex}"
    for source, target in plan.moves:
        (aside / target).parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder / source, aside / target)
    for left in list(folder.iterdir()):
        if left != aside and left.is_dir():
            shutil.rmtree(left)
    for entry in list(aside.iterdir()):
        os.rename(entry, folder / entry.name)
    aside.rmdir()

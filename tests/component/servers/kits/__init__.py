"""What the conformance suite needs to know of a type of model server: a module here for each, with ``KIT``."""

import contextlib
import importlib
import json
import os
import pkgutil
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from shoal_api.names import MODELS_DIR, SHARED_DIR
from shoal_api.tuning import Tuning
from shoal_operator.server_profile import Inputs, Parts, ServerProfile
from shoal_operator.servers import profiles

from tests.component.agent.parts import HOST, Process
from tests.component.ports import free_port

GROUP = "shoal.server_kits"
"""Entry points of kits of types that come from elsewhere."""

Files = Mapping[str, bytes]
"""An artifact: contents by path below its prefix."""


@dataclass(frozen=True)
class Answer:
    """``value``: what the model was made to answer; None where it answered otherwise, or not with 200."""

    status: int
    value: float | None
    body: str


async def asked(session: aiohttp.ClientSession, url: str, content: object, value: Callable[[Any], Any]) -> Answer:
    """``value``: finds it in the JSON of a 200."""
    async with session.post(url, json=content) as response:
        body = await response.text()
        return Answer(response.status, float(value(json.loads(body))) if response.status == 200 else None, body)


async def asked_by_v2(
    session: aiohttp.ClientSession, base: str, name: str, row: Sequence[float], datatype: str = "FP32"
) -> Answer:
    """By the Open Inference Protocol, with one row; the value is the first of the first output."""
    tensor = {"name": "x", "shape": [1, len(row)], "datatype": datatype, "data": [row]}
    url = f"{base}/v2/models/{name}/infer"
    return await asked(session, url, {"inputs": [tensor]}, lambda said: said["outputs"][0]["data"][0])


class Kit(Protocol):
    """``framework``: of its artifacts. ``many``: models that the server holds in a test. ``management``: requests that
    may never reach it from outside."""

    server_type: str
    framework: str
    many: int

    @property
    def management(self) -> tuple[tuple[str, str], ...]: ...

    def start(self, ground: "Ground") -> Process:
        """The real server, as the operator has it started (``Ground.parts``); not started yet."""

    def sample(self, answer: float) -> Files:
        """A model that answers ``answer`` to everything."""

    def broken(self) -> Files:
        """An artifact that the server refuses."""

    def slow(self, answer: float, load_seconds: float = 0.0, predict_seconds: float = 0.0) -> Files | None:
        """A model that takes so long to load or to answer; None where the server can have none."""

    def crashing(self) -> Files | None:
        """A model whose load ends the server's process; None where the server's own walls prevent that."""

    async def predict(self, session: aiohttp.ClientSession, base: str, name: str) -> Answer:
        """Ask a model by the protocol that clients of this server use most, at ``base``."""

    def tuning(self) -> tuple[Tuning, Tuning]:
        """Two that differ in everything that the server honours; equal where that is nothing."""

    async def honours(self, ground: "Ground", session: aiohttp.ClientSession, name: str, tuning: Tuning) -> None:
        """Asserts, by what the server does or says of itself, that the model runs so."""


@dataclass
class Ground:
    """A pod's folders and ports, and what the operator renders for the server in there."""

    profile: ServerProfile
    folder: Path
    models: Path
    shared: Path
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {name: free_port(HOST) for name in self.profile.ports.by_name()}

    @property
    def base(self) -> str:
        return f"http://{HOST}:{self.ports['http']}"

    def parts(self, **inputs: Any) -> Parts:
        """As rendered, with this machine's folders and ports in place of the pod's."""
        made = self.profile.parts(Inputs("iris", 1 << 30, 1 << 28, 1.0, 300.0, 20, **inputs))
        return Parts(
            environment={name: self._here(value) for name, value in made.environment.items()},
            defaults={name: self._here(value) for name, value in made.defaults.items()},
            python_path=self._here(made.python_path),
            command=None if made.command is None else tuple(map(self._here, made.command)),
            args=None if made.args is None else tuple(map(self._here, made.args)),
            files={name: self._here(text) for name, text in made.files.items()},
        )

    def environment(self, parts: Parts) -> dict[str, str]:
        """The container's, in the order in which Kubernetes would have it."""
        path = {"PYTHONPATH": parts.python_path} if parts.python_path else {}
        return {"OMP_NUM_THREADS": "1", **parts.defaults, **parts.environment, **path}

    def _here(self, text: str) -> str:
        text = text.replace(MODELS_DIR, str(self.models)).replace(SHARED_DIR, str(self.shared))
        text = text.replace("0.0.0.0", HOST).replace("127.0.0.1", HOST)  # noqa: S104
        for name, port in self.profile.ports.by_name().items():
            text = text.replace(str(port), str(self.ports[name]))
        return text


def absent(kit: Kit) -> str:
    """Why the kit's real server is not to be had on this machine; empty where it is."""
    return str(getattr(kit, "absent", ""))


def kits() -> Mapping[str, Kit]:
    """All that there are, by type."""
    found: dict[str, Kit] = {}
    for module in pkgutil.iter_modules(__path__):
        kit: Kit = importlib.import_module(f"{__name__}.{module.name}").KIT
        found[kit.server_type] = kit
    for entry in entry_points(group=GROUP):
        found[entry.name] = entry.load()
    return found


class ProcessGroup(Process):
    """A server with workers of its own, which in a container would end with it. ``arguments`` as for ``Process``."""

    def __init__(self, arguments: Iterable[str], environment: dict[str, str], log: Path) -> None:
        super().__init__(["setsid", *arguments], environment, log)

    def start(self) -> None:
        self._sweep()
        super().start()

    async def end(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> None:
        await super().end(number, seconds)
        self._sweep()

    def _sweep(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


class KitServer:
    """A kit's server as a ``Pod`` starts it."""

    def __init__(self, kit: Kit, folder: Path, models: Path, shared: Path) -> None:
        self.server_type = kit.server_type
        self.ground = Ground(profiles()[kit.server_type], folder, models, shared)
        self.ports = self.ground.ports
        self.process = kit.start(self.ground)
        self.files = self.ground.parts().files

    def start(self) -> None:
        self.process.start()

    async def kill(self) -> None:
        await self.process.end(9)

"""A pod with its agent behind the gateway's Envoy, and a bare server of the same installation."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
from shoal_agent.model_server import ModelCopy, ModelServer, Place
from shoal_agent.servers import adapter
from shoal_operator.server_profile import ServerProfile
from shoal_operator.servers import profiles
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged
from shoal_operator.state.world.values import RoutePolicy

from benchmarks.common import Target
from tests.component.agent.parts import BUCKET, HOST, PLUGINS, Storage, eventually
from tests.component.gateway.world import SERVICE, Envoy, World
from tests.component.servers.kits import Ground, KitServer
from tests.component.servers.life import Life

from . import network
from .kinds import Kind, Setting
from .processes import memory

PULLS: Final = 8  # at once
SERVICE_HOST: Final = "iris.default"
START_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.002


class FieldServer(KitServer):
    """A kit's server, with settings of its own."""

    def __init__(self, kind: Kind, settings: dict[str, int], folder: Path, models: Path, shared: Path) -> None:
        profile = _with(profiles()[kind.kit.server_type], settings)
        self.server_type = kind.kit.server_type
        self.ground = Ground(profile, folder, models, shared)
        self.ports = self.ground.ports
        self.process = kind.kit.start(self.ground)
        self.files = self.ground.parts().files


class OurPod:
    """A pod as Shoal has it. ``host`` and ``base``: by the gateway."""

    def __init__(self, kind: Kind, life: Life, world: World, envoy: Envoy) -> None:
        self.kind, self.life, self._world, self._envoy = kind, life, world, envoy

    @property
    def server_pid(self) -> int:
        return self.life.server.process.pid

    @property
    def envoy_pid(self) -> int:
        return self._envoy.pid

    @property
    def agent_mib(self) -> float:
        return memory(self.life.agent.pid)

    def target(self, name: str, body: Path) -> Target:
        return Target(self._envoy.base + self.kind.path.format(name), SERVICE_HOST, body)

    def direct(self, name: str, body: Path) -> Target:
        """The server asked itself, past the gateway."""
        return Target(self.life.ground.base + self.kind.path.format(name), SERVICE_HOST, body)

    def store(self, names: Iterable[str], setting: Setting) -> None:
        for name in names:
            self.life.put_files(name, self.kind.files(setting))

    async def load(self, names: list[str], setting: Setting) -> float:
        """Have them loaded and routed; seconds until the agent had said so of all."""
        began = time.perf_counter()
        await self.life.operator.want(*(self.life.intent(name, tuning=setting.tuning) for name in names))
        left = list(names)
        while left:
            left = [name for name in left if not self._loaded(name)]
            if time.perf_counter() - began > START_SECONDS:
                raise RuntimeError(f"{left} not loaded: {self.life.story()}")
            await asyncio.sleep(_LOOK_SECONDS)
        took = time.perf_counter() - began
        sequence = 0
        for name in names:
            sequence = next(self._world.sequence)
            self._world.gateway.apply([RouteChanged(SERVICE, name, sequence, frozenset({"pod"}))])
        await self._world.applied(sequence)
        return took

    async def unload(self, names: list[str]) -> None:
        for name in names:
            sequence = next(self._world.sequence)
            self._world.gateway.apply([RouteChanged(SERVICE, name, sequence, frozenset())])
        await self.life.operator.drop(*names)
        await eventually(lambda: not set(names) & self.life.operator.slots.keys(), START_SECONDS, self.life.story)

    async def first_answer(self, name: str, setting: Setting) -> tuple[float, float]:
        """Have one loaded; milliseconds from that wish to the first answer by the gateway, and of that request."""
        began = time.perf_counter()
        await self.load([name], setting)
        return await _first_answer(self.life.session, self.kind, self.target(name, Path()), began)

    def _loaded(self, name: str) -> bool:
        report = self.life.operator.slots.get(name)
        wanted = self.life.operator.desired[name].copy_id
        return report is not None and report.phase == "Loaded" and report.serving == wanted


class BareServer:
    """The server alone, with a plain script's ways."""

    def __init__(self, kind: Kind, storage: Storage, folder: Path) -> None:
        self.kind, self._storage = kind, storage
        self._models, self._shared = folder / "models", folder / "shared"
        for made in (self._models / "copies", self._shared / "plugins", self._shared / "config"):
            made.mkdir(parents=True)
        for runtime in PLUGINS.iterdir():
            if (runtime / "plugin").is_dir():
                (self._shared / "plugins" / runtime.name).symlink_to(runtime / "plugin")
        self._server = FieldServer(kind, {}, folder, self._models, self._shared)
        for name, text in self._server.files.items():
            (self._shared / "config" / name).write_text(text)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=START_SECONDS))
        self._copies = 0
        # Lays out folders, and tells when the server is up; nothing that is timed.
        place = Place(HOST, self._server.ports, self._models, self._shared, START_SECONDS)
        self._adapter: ModelServer = adapter(kind.kit.server_type)(place)

    @property
    def server_pid(self) -> int:
        return self._server.process.pid

    async def start(self) -> None:
        self._adapter.lay_out()
        self._adapter.layout.open()
        self._server.start()
        await eventually(self._adapter.alive, START_SECONDS, self._server.process.log.read_text)

    async def stop(self) -> None:
        await self._session.close()
        await self._adapter.close()
        await self._server.process.end()

    def target(self, name: str, body: Path) -> Target:
        return Target(self._server.ground.base + self.kind.path.format(name), SERVICE_HOST, body)

    async def load(self, names: list[str], setting: Setting) -> float:
        """Pull each, lay it out and post its load; seconds until all are answered."""
        began = time.perf_counter()
        at_once = asyncio.Semaphore(self.kind.loads)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(PULLS) as pulls:

            async def one(name: str) -> None:
                copy = await loop.run_in_executor(pulls, self._pulled, name, setting)
                async with at_once:
                    await self._post(copy)

            await asyncio.gather(*map(one, names))
        return time.perf_counter() - began

    async def unload(self, names: list[str]) -> None:
        for name in names:
            await self._adapter.unload(name)
            self._adapter.layout.show(name, None)

    async def first_answer(self, name: str, setting: Setting) -> tuple[float, float]:
        """As ``OurPod.first_answer``, of the server asked itself."""
        began = time.perf_counter()
        await self.load([name], setting)
        return await _first_answer(self._session, self.kind, self.target(name, Path()), began)

    def _pulled(self, name: str, setting: Setting) -> ModelCopy:
        self._copies += 1
        identity = f"{self._copies:032x}"
        folder = self._models / "copies" / identity
        client = self._storage.client
        for entry in client.list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/").get("Contents", []):
            file = folder / entry["Key"].removeprefix(f"{name}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            with client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"] as body:
                file.write_bytes(body.read())
        tuning = setting.tuning.only(self._adapter.traits.tuning)
        copy = ModelCopy(name, identity, folder, self.kind.kit.framework, tuning, 64 << 20)
        self._adapter.prepare(copy)
        self._adapter.layout.show(name, identity)
        return copy

    async def _post(self, copy: ModelCopy) -> None:
        port, path = self.kind.load
        url = f"http://{HOST}:{self._server.ports[port]}{path(copy)}"
        async with self._session.post(url) as answer:
            if answer.status >= 300:
                raise RuntimeError(f"{url}: {answer.status} {await answer.text()}")


@asynccontextmanager
async def our_pod(kind: Kind, folder: Path, settings: dict[str, int]) -> AsyncIterator[OurPod]:
    """``folder`` is made."""
    made: Callable[[Path, Path, Path], KitServer] = partial(FieldServer, kind, settings)
    life, world = Life(folder, kind.kit, made), World()
    try:
        await life.start()
        await world.serve()
        ports, server_type = life.ground.ports, kind.kit.server_type
        place = PodEndpointChanged(
            "pod", HOST, ports["http"], ports.get("grpc", 0), service=SERVICE, server_type=server_type
        )
        world.gateway.apply([place])
        world.gateway.open()
        sequence = world.service(policy=RoutePolicy(server_type=server_type))
        envoy = await world.envoy()
        await world.applied(sequence)
        yield OurPod(kind, life, world, envoy)
    finally:
        try:
            await world.close()
        finally:
            await life.stop()


@asynccontextmanager
async def bare_server(kind: Kind, storage: Storage, folder: Path) -> AsyncIterator[BareServer]:
    made = BareServer(kind, storage, folder)
    try:
        await made.start()
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            await made.stop()


async def _first_answer(
    session: aiohttp.ClientSession, kind: Kind, target: Target, began: float
) -> tuple[float, float]:
    asked = time.perf_counter()
    async with session.post(target.url, json=kind.body(), headers={"Host": target.host}) as response:
        said = await response.text()
    now = time.perf_counter()
    if response.status != 200:
        raise RuntimeError(f"{target.url}: {response.status} {said}")
    value = kind.value(json.loads(said))
    assert abs(value - network.ANSWER) < 1e-3, f"{target.url} answered {value}, not {network.ANSWER}"
    return 1e3 * (now - began), 1e3 * (now - asked)


def _with(profile: ServerProfile, settings: dict[str, int]) -> ServerProfile:
    return replace(profile, parts=lambda inputs: profile.parts(replace(inputs, settings=settings)))

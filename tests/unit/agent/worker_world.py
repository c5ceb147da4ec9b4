"""A worker with real files and threads, beside a storage and a server by script that fail at random."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from shoal_agent.cache import Cache
from shoal_agent.exchange import Accepted, Observed
from shoal_agent.files import Files
from shoal_agent.metrics import Metrics
from shoal_agent.model_server import LoadedModel, ModelCopy, ServerError, ServerGone, ServerState, Traits
from shoal_agent.model_server.connection import TcpConnection
from shoal_agent.model_server.layout import SlotLinks
from shoal_agent.retries import Backoff
from shoal_agent.slots import Doing, Staged
from shoal_agent.staging import Staging
from shoal_agent.storage import ArtifactFile, Limits, Listing, StorageError
from shoal_agent.storage.fetching import Fetching
from shoal_agent.worker import Worker
from shoal_api.messages import Action, CopyIntent, CopyPhase, content_digest
from shoal_api.storage_uri import StorageUri
from shoal_api.tuning import UNTUNED, Tuning


class Storage:
    """Keys and contents; ``broken`` is the chance that a call fails."""

    def __init__(self, chance: random.Random) -> None:
        self.objects: dict[str, bytes] = {}
        self.broken = 0.0
        self.fetched = self.listed = 0
        self.takes = 0.0  # seconds, of a listing
        self.hangs: dict[str, asyncio.Event] = {}
        self._chance = chance

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        self.listed += 1
        await asyncio.sleep(self.takes)
        if uri.key in self.hangs:
            await self.hangs[uri.key].wait()
        if self._chance.random() < self.broken:
            raise StorageError("StorageUnreachable", "no")
        if uri.key not in self.objects:
            raise StorageError("ArtifactNotFound", "no")
        content = self.objects[uri.key]
        return Listing(uri.key, (ArtifactFile(uri.key, "model.joblib", len(content), content.decode()),))

    async def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes]:
        if self._chance.random() < self.broken:
            raise StorageError("StorageUnreachable", "no")
        self.fetched += 1
        yield self.objects[file.key][start:end]


class InFlight:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    async def read(self) -> None:
        return None

    async def in_flight(self, name: str) -> int:
        return self.counts.get(name, 0)


class Server:
    """Holds what it read from the slots; content that starts with ``bad`` does not load, ``kill`` ends it."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.traits = Traits()
        self.layout = SlotLinks(folder)
        self.usage = InFlight()
        self.retuned: dict[str, Tuning] = {}
        self.refuses_retune = self.refuses_unload = False
        self._slots = folder / "slots"
        self._chance = chance
        self.models: dict[str, tuple[str, bytes]] = {}
        self.up = True
        self.broken = 0.0
        self.boots = 1
        self.loads = 0
        self.unloads: list[str] = []
        self.most_at_once = 0
        self._now = 0

    def lay_out(self) -> None: ...

    def prepare(self, copy: ModelCopy) -> None:
        (copy.folder / "settings").write_text(copy.name)
        (copy.folder / "tuning").write_text(copy.tuning.model_dump_json())

    async def load(self, copy: ModelCopy) -> None:
        name = copy.name
        assert self.traits.replaces or name not in self.models
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            folder = (self._slots / name).resolve()
            content = (folder / "model.joblib").read_bytes()
            assert (folder / "settings").read_text() == name
            assert (folder / "tuning").read_text() == copy.tuning.model_dump_json()
            assert (folder.name, folder) == (copy.identity, copy.folder.resolve())
            await asyncio.sleep(self._chance.random() * 0.002)
            if not self.up:
                raise ServerGone("gone")
            if content.startswith(b"kill"):
                self.end()
                raise ServerGone("gone")
            if content.startswith(b"bad"):
                raise ServerError("ModelLoadFailed", "bad")
            self.loads += 1
            self.models[name] = (folder.name, content)
            if self._chance.random() < self.broken:
                raise ServerError("ModelLoadTimeout", "loaded, but said nothing")
        finally:
            self._now -= 1

    async def unload(self, name: str) -> None:
        if not self.up:
            raise ServerGone("gone")
        if self.refuses_unload:
            raise ServerError("ModelUnloadFailed", "not that one")
        self.unloads.append(name)
        if self._chance.random() < self.broken:
            raise ServerError("ModelUnloadFailed", "no")
        self.models.pop(name, None)

    async def retune(self, copy: ModelCopy) -> None:
        if self.refuses_retune:
            raise ServerError("ModelTuningFailed", "not that")
        assert self.models[copy.name][0] == copy.identity
        self.retuned[copy.name] = copy.tuning

    async def state(self) -> ServerState:
        models = tuple(LoadedModel(name, copy, True) for name, (copy, _) in self.models.items())
        return ServerState(str(self.boots), models)

    async def find(self, name: str) -> LoadedModel | None:
        if not self.up:
            raise ServerGone("gone")
        held = self.models.get(name)
        return LoadedModel(name, held[0], True) if held else None

    async def alive(self) -> bool:
        return self.up

    async def hold(self) -> TcpConnection:
        raise ServerGone("nobody holds")

    async def close(self) -> None:
        pass

    def end(self) -> None:
        self.models, self.up = {}, False
        self.boots += 1


class World:
    def __init__(self, folder: Path, seed: int, traits: Traits = Traits()) -> None:  # noqa: B008  # frozen
        self.chance = random.Random(seed)
        self.folder = folder
        self.storage = Storage(self.chance)
        self.server = Server(folder, self.chance)
        self.server.traits = traits
        self.staging = Staging(folder, self.server.layout)
        self.wanted: dict[str, CopyIntent] = {}
        self.worker = self.new_worker()

    def new_worker(self) -> Worker:
        self.cache = Cache(
            self.folder / "cache",
            {"s3": self.storage},
            Limits(1000, 10),
            connections=4,
            max_bytes=10**6,
            fetching=lambda budget: Fetching(budget, again=Backoff(initial=0.0, maximum=0.0)),
        )
        self.observed = Observed()
        worker = Worker(
            files=Files(self.cache, self.staging, self.prepare),
            server=self.server,
            observed=self.observed,
            metrics=Metrics(),
            changed=lambda _: None,
            backoff=Backoff(initial=0.005, maximum=0.02),
            concurrent_pulls=3,
            concurrent_loads=2,
            concurrent_stats=2,
            unload_wait=1.0,
            routes_seconds=0.02,
            chance=self.chance.random,
        )
        self.cache.open()
        worker.start(self.staging.open())
        return worker

    def prepare(self, name: str, copy: Staged, folder: Path) -> None:
        tuning = copy.tuning.only(self.server.traits.tuning)
        self.server.prepare(ModelCopy(name, copy.folder, folder, copy.framework, tuning))

    async def restart_agent(self) -> None:
        await self.worker.close()
        self.worker = self.new_worker()
        await self.look()
        self.tell()

    async def look(self) -> None:
        if self.server.up:
            mark = self.worker.mark()
            self.worker.server_up(await self.server.state(), mark)

    def want(self, name: str, key: str, uid: str, action: Action = Action.LOAD, tuning: Tuning = UNTUNED) -> None:
        self.wanted[name] = CopyIntent(
            name=name,
            copy_id=f"{uid}.{content_digest(key, 'sklearn', tuning)}",
            storage_uri=f"s3://bucket/{key}",
            framework="sklearn",
            memory_bytes=1,
            action=action,
            tuning=tuning,
        )

    def tell(self) -> None:
        self.worker.accept(Accepted(wanted=tuple(self.wanted.values()), whole=True))

    async def restart_server(self) -> None:
        self.worker.server_down()
        self.server.up = True
        await self.look()

    async def settle(self, seconds: float = 10) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.settled():
                    if not self.server.up:
                        await self.restart_server()
                    await asyncio.sleep(0.005)
        assert self.settled(), [slot for slot in self.worker.slots.values() if not slot.settled]

    def settled(self) -> bool:
        slots = self.worker.slots
        return set(slots) == set(self.wanted) and all(
            slot.settled and slot.doing is Doing.NOTHING for slot in slots.values()
        )


async def until(check: Callable[[], bool], seconds: float = 5) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not check():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.002)


def seen(world: World) -> int:
    return sum(report.phase is CopyPhase.SEEN for report in world.observed.everything())


def phase(world: World, name: str) -> CopyPhase | None:
    told = {report.name: report for report in world.observed.everything()}
    return told[name].phase if name in told else None


async def nothing_left_over(world: World) -> None:
    count = len(world.wanted)
    keys = {copy.artifact for slot in world.worker.slots.values() for copy in slot.copies()}
    async with asyncio.timeout(5):
        while True:
            copies = [path for path in (world.folder / "copies").iterdir() if path.is_dir()]
            cached = {path.name for path in (world.folder / "cache").iterdir()}
            # What no copy holds any more is kept; nothing is there half done.
            if len(copies) == count and cached >= keys and cached == world.cache.keys():
                break
            await asyncio.sleep(0.01)
    assert len(list((world.folder / "slots").iterdir())) == count

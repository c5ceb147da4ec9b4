"""The worker with real files and threads, beside a storage and a server by script that fail at random."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
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
from shoal_agent.worker import Worker
from shoal_api.messages import Action, CopyIntent, CopyPhase, content_digest
from shoal_api.storage_uri import StorageUri
from shoal_api.tuning import UNTUNED, Knob, Tuning


class Storage:
    """Keys and contents; ``broken`` is the chance that a call fails."""

    def __init__(self, chance: random.Random) -> None:
        self.objects: dict[str, bytes] = {}
        self.broken = 0.0
        self.fetched = self.listed = 0
        self.hangs: dict[str, threading.Event] = {}
        self._chance = chance

    def find(self, uri: StorageUri, limits: Limits) -> Listing:
        self.listed += 1
        if uri.key in self.hangs:
            self.hangs[uri.key].wait(10)
        if self._chance.random() < self.broken:
            raise StorageError("StorageUnreachable", "no")
        if uri.key not in self.objects:
            raise StorageError("ArtifactNotFound", "no")
        content = self.objects[uri.key]
        return Listing(uri.key, (ArtifactFile(uri.key, "model.joblib", len(content), content.decode()),))

    def fetch(self, uri: StorageUri, file: ArtifactFile, target: Path, cancelled: threading.Event) -> None:
        if self._chance.random() < self.broken:
            raise StorageError("StorageUnreachable", "no")
        target.write_bytes(self.objects[uri.key])
        self.fetched += 1


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
        self.cache = Cache(self.folder / "cache", {"s3": self.storage}, Limits(1000, 10), max_bytes=10**6)
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


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_the_pod_ends_up_as_wanted(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    chance = world.chance
    for number in range(8):
        world.storage.objects[f"k{number}"] = f"good {number}".encode()
    world.storage.objects["bad"], world.storage.objects["kill"] = b"bad", b"kill"
    await world.look()
    world.storage.broken, world.server.broken = 0.2, 0.2
    for turn in range(60):
        match chance.randrange(10):
            case 0 if turn % 3 == 0:
                await world.restart_agent()
            case 1:
                world.server.end()
                await asyncio.sleep(chance.random() * 0.01)
                await world.restart_server()
            case 2 | 3:
                world.wanted.pop(f"m{chance.randrange(6)}", None)
            case _:
                key = chance.choice([*(f"k{number}" for number in range(8)), "bad", "missing", "kill"])
                action = chance.choice(list(Action))
                world.want(f"m{chance.randrange(6)}", key, f"u{chance.randrange(3)}", action)
        if not world.server.up:
            await world.restart_server()
        world.tell()
        await asyncio.sleep(chance.random() * 0.01)
    world.storage.broken = world.server.broken = 0.0
    for name, intent in list(world.wanted.items()):
        # An innocent copy that was loading alone at three ends of the server is given up as well.
        given_up = name in world.worker.slots and world.worker.slots[name].crashes > 0
        if given_up or intent.storage_uri.rpartition("/")[2] in ("bad", "missing", "kill"):
            world.want(name, f"k{chance.randrange(8)}", "last")
        else:
            world.wanted[name] = intent.model_copy(update={"action": Action.LOAD})
    world.tell()
    await world.settle()
    for name, intent in world.wanted.items():
        assert intent.action is Action.LOAD
        key = intent.storage_uri.rpartition("/")[2]
        assert world.server.models[name][1] == world.storage.objects[key]
    assert set(world.server.models) == set(world.wanted)
    assert {slot.name: slot.serving for slot in world.observed.everything()} == {
        name: intent.copy_id for name, intent in world.wanted.items()
    }
    assert world.server.most_at_once <= 2
    await _nothing_left_over(world)
    # Quiet: nothing is done any more, and a restarted agent does nothing either.
    loads, fetched = world.server.loads, world.storage.fetched
    await world.restart_agent()
    await world.settle()
    assert (world.server.loads, world.storage.fetched) == (loads, fetched)
    await world.worker.close()


async def _nothing_left_over(world: World) -> None:
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


async def test_a_thousand_at_once_are_loaded_within_bounds(tmp_path: Path) -> None:
    world = World(tmp_path, 1)
    for number in range(1000):
        world.storage.objects[f"k{number}"] = b"good"
        world.want(f"m{number}", f"k{number}", "u")
    await world.look()
    world.tell()
    await world.settle(60)
    assert world.server.most_at_once <= 2
    await world.worker.close()
    # A thousand present at start.
    world.server.end()
    world.server.up = True
    world.worker = world.new_worker()
    await world.look()
    world.tell()
    await world.settle(60)
    assert world.storage.fetched == 1000
    await world.worker.close()


async def test_a_copy_that_kills_is_given_up_and_the_others_stay(tmp_path: Path) -> None:
    world = World(tmp_path, 2)
    for number in range(5):
        world.storage.objects[f"k{number}"] = b"good"
        world.want(f"m{number}", f"k{number}", "u")
    world.storage.objects["kill"] = b"kill"
    world.want("killer", "kill", "u")
    await world.look()
    world.tell()
    async with asyncio.timeout(10):
        while (slot := world.worker.slots["killer"]).failure is None or slot.failure.retry_at is not None:
            if not world.server.up:
                await world.restart_server()
            await asyncio.sleep(0.002)
    boots = world.server.boots
    await asyncio.sleep(0.3)
    assert world.server.boots == boots <= 6
    assert set(world.server.models) == {f"m{number}" for number in range(5)}
    world.storage.objects["kill"] = b"good now"
    await world.settle()
    await world.worker.close()


async def test_a_list_that_was_asked_for_before_a_load_ended_takes_nothing_away(tmp_path: Path) -> None:
    world = World(tmp_path, 3)
    world.storage.objects["k"] = b"good"
    await world.look()
    mark, before = world.worker.mark(), await world.server.state()
    world.want("m", "k", "u")
    world.tell()
    # Also in the turn in which the slot is at rest and the task of its load is not yet seen to have ended.
    while not world.settled():  # noqa: ASYNC110  # each turn of the loop is looked at
        await asyncio.sleep(0)
    world.worker.server_state(before, mark)
    assert world.worker.slots["m"].live
    await asyncio.sleep(0.05)
    world.worker.server_state(before, mark)
    assert world.worker.slots["m"].live
    # One that was asked for afterwards does: somebody else unloaded the model, and it is loaded again.
    world.server.models.clear()
    await world.look()
    assert not world.worker.slots["m"].live
    await world.settle()
    assert world.server.loads == 2
    await world.worker.close()


async def test_copies_of_the_same_content_share_it_and_it_outlives_them(tmp_path: Path) -> None:
    world = World(tmp_path, 4)
    world.storage.objects["k"] = b"good"
    for name in ("a", "b"):
        world.want(name, "k", "u")
    await world.look()
    world.tell()
    await world.settle()
    assert world.storage.fetched == 1
    (copy,) = world.worker.slots["a"].copies()
    files = Files(world.cache, world.staging, world.prepare)
    await files.delete(copy)  # not this one's to delete
    del world.wanted["a"]
    world.tell()
    await world.settle()
    assert len(world.cache.keys()) == 1
    del world.wanted["b"]
    world.tell()
    await world.settle()
    assert (world.cache.counts.kept, world.storage.fetched) == (1, 1)
    world.want("c", "k", "u")
    world.tell()
    await world.settle()
    assert (world.cache.counts.kept, world.storage.fetched) == (0, 1)
    await world.worker.close()


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


async def test_thousands_that_are_only_looked_up_delay_no_load_and_touch_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, 5)
    for number in range(2000):
        world.storage.objects[f"k{number}"] = b"good"
        world.want(f"m{number}", f"k{number}", "u", Action.STAT)
    await world.look()
    world.tell()
    world.want("m1999", "k1999", "u")
    asked = asyncio.get_running_loop().time()
    world.tell()
    await until(lambda: phase(world, "m1999") is CopyPhase.LOADED)
    took = asyncio.get_running_loop().time() - asked
    assert seen(world) < 1000, f"the load waited for {seen(world)} others, {took:.2f} s"
    await until(lambda: seen(world) == 1999, 20)
    assert (world.storage.fetched, world.server.loads, world.storage.listed) == (1, 1, 2000)
    assert len(list((tmp_path / "copies").glob("*.json"))) == 1
    await world.worker.close()


async def test_a_load_does_not_wait_for_a_look_that_hangs(tmp_path: Path) -> None:
    world = World(tmp_path, 6)
    for number in range(4):  # more than may be looked up at once
        world.storage.objects[f"k{number}"] = b"good"
        world.storage.hangs[f"k{number}"] = threading.Event()
        world.want(f"m{number}", f"k{number}", "u", Action.STAT)
    await world.look()
    world.tell()
    await until(lambda: world.storage.listed == 2)
    hung = world.storage.hangs.pop("k0")
    world.want("m0", "k0", "u")
    world.tell()
    await until(lambda: phase(world, "m0") is CopyPhase.LOADED, 2)
    for event in [hung, *world.storage.hangs.values()]:
        event.set()
    await until(lambda: seen(world) == 3)
    await world.worker.close()


async def test_pull_then_load_costs_one_listing_and_one_fetch(tmp_path: Path) -> None:
    world = World(tmp_path, 7)
    world.storage.objects["k"] = b"good"
    await world.look()
    phases = []
    for action in (Action.STAT, Action.PULL, Action.LOAD, Action.PULL):
        world.want("m", "k", "u", action)
        world.tell()
        await until(lambda: phase(world, "m") in (CopyPhase.SEEN, CopyPhase.PULLED, CopyPhase.LOADED))
        phases.append(phase(world, "m"))
    await asyncio.sleep(0.05)
    assert phases == [CopyPhase.SEEN, CopyPhase.PULLED, CopyPhase.LOADED, CopyPhase.LOADED]
    assert (world.storage.listed, world.storage.fetched, world.server.loads) == (2, 1, 1)
    assert "m" in world.server.models
    # What was pulled only is not loaded by an agent that comes back; what was loaded since is.
    world.want("p", "k", "u", Action.PULL)
    world.tell()
    await until(lambda: phase(world, "p") is CopyPhase.PULLED)
    world.server.end()
    await world.worker.close()
    world.server.up = True
    world.worker = world.new_worker()
    await world.look()
    await until(lambda: phase(world, "m") is CopyPhase.LOADED)
    await until(lambda: phase(world, "p") is CopyPhase.PULLED)
    await world.worker.close()


async def test_an_unload_waits_for_the_requests_in_flight(tmp_path: Path) -> None:
    world = World(tmp_path, 8)
    world.storage.objects["k"] = b"good"
    for name in ("busy", "idle", "stuck"):
        world.want(name, "k", "u")
    await world.look()
    world.tell()
    await world.settle()
    world.server.usage.counts.update(busy=2, stuck=1)
    world.wanted.clear()
    world.tell()
    await until(lambda: "idle" not in world.server.models, 0.5)
    await asyncio.sleep(0.1)
    assert set(world.server.models) == {"busy", "stuck"}
    # Wanted again meanwhile: it stays, and was never away.
    world.want("busy", "k", "u")
    world.tell()
    await until(lambda: phase(world, "busy") is CopyPhase.LOADED)
    assert world.server.loads == 3
    del world.wanted["busy"]
    world.tell()
    await asyncio.sleep(0.05)
    assert "busy" in world.server.models
    world.server.usage.counts["busy"] = 0
    await until(lambda: "busy" not in world.server.models, 0.5)
    await until(lambda: "stuck" not in world.server.models, 3)  # the time for that is over
    await world.settle()
    await world.worker.close()


ONE_AT_A_TIME = Traits(replaces=False, finishes=False)
TUNED = Traits(tuning=frozenset({Knob.WORKERS, Knob.BATCH_SIZE}), retunes=frozenset({Knob.WORKERS}))


async def loaded_once(world: World, tuning: Tuning = UNTUNED) -> None:
    world.storage.objects.update(k=b"good", better=b"good too", broken=b"bad")
    await world.look()
    world.want("m", "k", "u", tuning=tuning)
    world.tell()
    await world.settle()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_to_a_server_that_holds_one_copy_of_a_name(tmp_path: Path, seed: int) -> None:
    """The server itself asserts that a name is free when something is loaded under it."""
    world = World(tmp_path, seed, ONE_AT_A_TIME)
    world.storage.objects.update({f"k{number}": f"good {number}".encode() for number in range(4)}, bad=b"bad")
    await world.look()
    world.server.broken = 0.2
    for _ in range(40):
        world.want(f"m{world.chance.randrange(3)}", world.chance.choice(["k0", "k1", "k2", "k3", "bad"]), "u")
        if world.chance.randrange(8) == 0:
            world.server.end()
            await world.restart_server()
        world.tell()
        await asyncio.sleep(world.chance.random() * 0.03)
    world.server.broken = 0.0
    for name in list(world.wanted):
        world.want(name, "k0", "last")
    world.tell()
    await world.settle()
    await _nothing_left_over(world)
    await world.worker.close()


async def test_a_server_that_holds_one_copy_of_a_name_lets_go_of_the_old_one_first(tmp_path: Path) -> None:
    world = World(tmp_path, 9, ONE_AT_A_TIME)
    await loaded_once(world)
    before = world.worker.slots["m"].current
    world.server.usage.counts["m"] = 1
    world.want("m", "better", "u")
    world.tell()
    # The operator is told first, so that requests are held elsewhere; then the last one is waited for.
    await until(lambda: {report.name: report.serving for report in world.observed.everything()} == {"m": None})
    await asyncio.sleep(0.1)
    assert world.server.unloads == []
    world.server.usage.counts["m"] = 0
    await world.settle()
    assert (world.server.unloads, world.server.models["m"][1]) == (["m"], b"good too")
    # A broken one: the one before it is loaded again.
    good = world.worker.slots["m"].current
    assert good is not None
    assert good != before
    world.want("m", "broken", "u")
    world.tell()
    await until(lambda: world.worker.slots["m"].failure is not None and world.worker.slots["m"].live)
    assert world.server.models["m"][0] == good.folder
    # What cannot be unloaded answers on.
    world.server.refuses_unload = True
    world.want("m", "k", "u")
    world.tell()
    await until(lambda: getattr(world.worker.slots["m"].failure, "reason", "") == "ModelUnloadFailed")
    assert world.worker.slots["m"].live
    await world.worker.close()


async def test_a_change_of_tuning_is_the_servers_own_call_where_it_has_one(tmp_path: Path) -> None:
    world = World(tmp_path, 10, TUNED)
    await loaded_once(world, Tuning(workers_max=1, threads=8))
    folder = world.server.models["m"][0]
    world.want("m", "k", "u", tuning=Tuning(workers_max=4, threads=8))
    world.tell()
    await world.settle()
    assert world.server.retuned == {"m": Tuning(workers_max=4)}, "only what it honours reaches it"
    assert (world.server.loads, world.server.models["m"][0]) == (1, folder)
    # What it does not honour changes nothing; what it cannot change while the model answers is another load.
    world.want("m", "k", "u", tuning=Tuning(workers_max=4, threads=2))
    world.tell()
    await world.settle()
    assert world.server.loads == 1
    await _nothing_left_over(world)
    world.want("m", "k", "u", tuning=Tuning(workers_max=4, batch_size=8))
    world.tell()
    await world.settle()
    assert world.server.loads == 2
    # A server that refuses is not left with the former tuning.
    world.server.refuses_retune = True
    world.want("m", "k", "u", tuning=Tuning(workers_max=2, batch_size=8))
    world.tell()
    await world.settle()
    assert world.server.loads == 3
    await _nothing_left_over(world)
    await world.worker.close()


async def test_after_a_restart_a_model_has_the_tuning_that_it_was_given_last(tmp_path: Path) -> None:
    world = World(tmp_path, 11, TUNED)
    await loaded_once(world, Tuning(workers_max=1))
    world.want("m", "k", "u", tuning=Tuning(workers_max=4))
    world.tell()
    await world.settle()
    fetched = world.storage.fetched
    await world.restart_agent()
    world.server.end()
    await world.restart_server()
    await world.settle()
    # The server compares what it is told with what was prepared.
    assert (world.server.loads, world.storage.fetched) == (2, fetched)
    await world.worker.close()

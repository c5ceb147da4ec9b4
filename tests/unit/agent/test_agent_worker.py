"""Whatever storage and server do, the worker ends where the operator wants it, within its bounds."""

import asyncio
from pathlib import Path

import pytest
from shoal_agent.files import Files
from shoal_agent.slots import Staged
from shoal_agent.storage import StorageError
from shoal_api.messages import Action, CopyIntent, CopyPhase

from .worker_world import World, nothing_left_over, phase, seen, until


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
    await nothing_left_over(world)
    # Quiet: nothing is done any more, and a restarted agent does nothing either.
    loads, fetched = world.server.loads, world.storage.fetched
    await world.restart_agent()
    await world.settle()
    assert (world.server.loads, world.storage.fetched) == (loads, fetched)
    await world.worker.close()


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


async def test_thousands_that_are_only_looked_up_delay_no_load_and_touch_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, 5)
    world.storage.takes = 0.002
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
        world.storage.hangs[f"k{number}"] = asyncio.Event()
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


async def test_a_pull_that_fails_when_it_is_not_wanted_any_more_fails_nobody(tmp_path: Path) -> None:
    world = World(tmp_path, 8)
    world.storage.objects["b"] = b"good"
    pulled, pulls = world.worker._steps._files.pull, 0

    async def pull(intent: CopyIntent, held: Staged | None) -> tuple[Staged, int]:
        nonlocal pulls
        pulls += 1
        if pulls > 1:
            return await pulled(intent, held)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise StorageError("StorageUnreachable", "it broke off") from error
        raise AssertionError("never")

    world.worker._steps._files.pull = pull  # type: ignore[method-assign]
    await world.look()
    world.want("m", "a", "u")
    world.tell()
    await until(lambda: pulls == 1)
    world.want("m", "b", "u")
    world.tell()
    failures = []
    async with asyncio.timeout(5):
        while phase(world, "m") is not CopyPhase.LOADED:
            failures += [slot.failure for slot in world.worker.slots.values() if slot.failure is not None]
            await asyncio.sleep(0)
    assert not failures
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

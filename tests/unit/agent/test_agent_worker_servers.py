"""The worker beside servers that hold one copy of a name, and those that tune a loaded model by a call."""

import asyncio
from pathlib import Path

import pytest
from shoal_agent.model_server import Traits
from shoal_api.tuning import UNTUNED, Knob, Tuning

from .worker_world import World, nothing_left_over, until

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
    await nothing_left_over(world)
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
    await nothing_left_over(world)
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
    await nothing_left_over(world)
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

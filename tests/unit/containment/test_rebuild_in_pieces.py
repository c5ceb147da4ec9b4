"""A large InferenceService is put back in pieces, and what is said of it between two of them counts."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from shoal_operator import engine
from shoal_operator.placement import planner
from shoal_operator.state import machine, rebuild
from shoal_operator.state.rebuild import Rebuild
from shoal_operator.state.world import events, parts
from shoal_operator.state.world.effects import RouteChanged
from shoal_operator.state.world.remains import Remains
from shoal_operator.state.world.values import ModelKey, Problem

from tests.unit.state.world_in_hand import MI, model_spec, service_spec

from .plant import Plant, play
from .test_containment import A, concerns_a, raising, running

MANY = 300
PART = 20


def fail_once(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """One exception in the next plan for service a."""
    monkeypatch.setattr(engine, "plan", raising(planner.plan, 1, concerns_a))
    plant.model("a3", "a", memory_bytes=1)


async def fail_while_the_gateway_is_told(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in A, and two more in the gateway when it hears that A is out: with others at once, and then alone."""
    left = 2

    def hurt(effect: Any) -> None:
        nonlocal left
        if left and isinstance(effect, RouteChanged) and effect.service == A and A not in plant.core.world.services:
            left -= 1
            raise RuntimeError("in the gateway")

    plant.hurt = hurt
    fail_once(plant, monkeypatch)
    await asyncio.sleep(10)
    assert not left


def test_no_turn_does_more_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        plant = await running()
        for number in range(10, MANY):
            plant.model(f"a{number}", "a", memory_bytes=1)
        await asyncio.sleep(20)
        for name in ("MODELS_AT_ONCE", "EFFECTS_AT_ONCE"):
            monkeypatch.setattr(rebuild, name, PART)
        steps, turns, others = 0, list[tuple[int, int]](), 0
        real_step, real_advance = machine.step, Rebuild.advance

        def step(*given: Any) -> Any:
            nonlocal steps
            steps += 1
            return real_step(*given)

        def advance(back: Rebuild, now: float) -> Any:
            nonlocal steps
            steps, found = 0, real_advance(back, now)
            turns.append((steps, len(found)))
            plant.loop.call_soon(other)
            return found

        def other() -> None:
            nonlocal others
            others += 1
            plant.model(f"bb{others % 5}", "b", memory_bytes=1)

        monkeypatch.setattr(rebuild, "step", step)
        monkeypatch.setattr(Rebuild, "advance", advance)
        fail_once(plant, monkeypatch)
        await asyncio.sleep(20)
        assert plant.serves("a", "a3")
        assert all(plant.serves("a", f"a{number}") for number in range(10, MANY))
        assert len(turns) > 2 * MANY / PART
        assert max(done for done, _ in turns) <= PART
        assert max(told for _, told in turns) <= PART + 10, "pods, and the service itself"
        assert others == len(turns), "somebody else's turn between each two"
        assert not plant.fatal

    play(story)


def test_what_was_taken_out_is_let_go_of_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freed in one go, a hundred thousand models hold everybody up for a tenth of a second."""

    async def story() -> None:
        plant = await running()
        for number in range(10, MANY):
            plant.model(f"a{number}", "a", memory_bytes=1)
        await asyncio.sleep(20)
        plant.core.world.pieces.size = PART
        left: list[int] = []
        real_advance, real_take = Rebuild.advance, Remains.take
        taken_out = 0

        def advance(back: Rebuild, now: float) -> Any:
            nonlocal taken_out
            taken_out = taken_out or len(back._known.lifted)
            return real_advance(back, now)

        def take(remains: Remains, count: int) -> list[Any]:
            found = real_take(remains, count)
            left.append(len(found))
            return found

        monkeypatch.setattr(Rebuild, "advance", advance)
        monkeypatch.setattr(Remains, "take", take)
        fail_once(plant, monkeypatch)
        await asyncio.sleep(20)
        assert taken_out >= MANY - 10
        assert sum(left) == taken_out + 2 + 2, "and two pods, and their reports"
        assert max(left) <= PART
        assert plant.serves("a", "a3")
        world = plant.core.world
        assert all(pod.ledger.accounts.keys() == pod.copies.keys() for pod in world.pods.values()), "others' remains"

    play(story)


@pytest.mark.parametrize("told", [False, True], ids=["before it is put back", "while the gateway is told"])
def test_nothing_is_left_of_a_model_that_goes_meanwhile(told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        plant = await running()
        world = plant.core.world
        monkeypatch.setattr(rebuild, "EFFECTS_AT_ONCE", 1)
        real_advance, said = Rebuild.advance, False

        def go() -> None:
            nonlocal said
            if not said:
                said = True
                assert A not in world.services
                plant.core.handle(events.ModelGone(ModelKey("ns", "a0"), "uid-a0"))

        def advance(back: Rebuild, now: float) -> Any:
            found = real_advance(back, now)
            if found and not back.done:
                go()
            return found

        monkeypatch.setattr(Rebuild, "advance", advance)
        fail_once(plant, monkeypatch)
        if not told:
            await asyncio.sleep(0.05)  # it is out, for a quarter of a second at least
            go()
        await asyncio.sleep(10)
        assert said
        assert plant.serves("a", "a1")
        assert not plant.routes["a", "a0"].pods
        assert world.models._home.keys() == set(world.models)

    play(story)


def test_what_could_not_be_put_back_is_let_go_of_in_pieces_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        plant = await running()
        monkeypatch.setattr(rebuild, "EFFECTS_AT_ONCE", 1)  # else all is told with the merge
        freed = 0
        real_take = Remains.take

        def take(remains: Remains, count: int) -> list[Any]:
            nonlocal freed
            found = real_take(remains, count)
            freed += sum(isinstance(each, tuple) and each[0] == "a3" for each in found)
            return found

        monkeypatch.setattr(Remains, "take", take)
        await fail_while_the_gateway_is_told(plant, monkeypatch)
        assert freed == 2, "what was built in vain, and what had been taken out"
        assert plant.serves("a", "a3")

    play(story)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_said_between_two_pieces_counts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)

    async def story() -> None:
        plant = await running()
        for number in range(4, 9):
            plant.model(f"a{number}", "a")
        await asyncio.sleep(5)
        loads = sum(pod.loads for pod in plant.pods.values())

        def pod_gone() -> None:
            del plant.pods["a-2"]
            plant.core.handle(events.PodGone("a-2"))

        def replaced() -> None:
            plant.core.handle(events.ModelGone(ModelKey("ns", "a6"), "uid-a6"))
            plant.core.handle(events.ModelSeen(model_spec("a6", service="a", uid="uid-second")))

        said: list[Callable[[], Any]] = [
            lambda: plant.core.handle(events.ModelGone(ModelKey("ns", "a0"), "uid-a0")),
            lambda: plant.model("a1", "a", storage_uri="s3://other/place"),
            lambda: plant.model("a2", "b"),
            lambda: plant.model("a4", "a", problem=Problem("Wrong", "mend it"), generation=2),
            replaced,
            lambda: plant.model("a9", "a"),
            pod_gone,
            lambda: plant.pod("a", "a-3"),
            lambda: plant.core.lost("a-1", plant.pods["a-1"].session),
        ]
        rng.shuffle(said)
        for name in ("MODELS_AT_ONCE", "EFFECTS_AT_ONCE", "EVENTS_AT_ONCE"):
            monkeypatch.setattr(rebuild, name, 1)
        real_advance, between = Rebuild.advance, 0

        def advance(back: Rebuild, now: float) -> Any:
            nonlocal between
            found = real_advance(back, now)
            if said and not back.done and rng.random() < 0.3:
                between += 1
                plant.loop.call_soon(said.pop())
            return found

        monkeypatch.setattr(Rebuild, "advance", advance)
        fail_once(plant, monkeypatch)
        await asyncio.sleep(10)
        assert between >= 5
        while said:
            said.pop()()
        await asyncio.sleep(60)
        _check(plant)
        assert sum(pod.loads for pod in plant.pods.values()) <= loads + 8, "nothing is loaded again that was there"

    play(story)


def _check(plant: Plant) -> None:
    world = plant.core.world
    assert not plant.fatal
    assert not plant.trouble("a")
    assert world.pods.keys() == {"a-1", "a-3", "b-1"}
    mine = {f"a{number}" for number in (1, 3, *range(4, 10))}
    assert {key.name for key in world.models.of(A)} == mine
    assert all(plant.serves("a", name) for name in mine)
    assert plant.serves("b", "a2")
    assert world.models._home.keys() == set(world.models), "nothing is left of those that went meanwhile"
    for name in ("a0", "a2"):
        assert not plant.routes["a", name].pods, "gone from there"
        assert plant.routes["a", name].unavailable is None
    assert plant.pods["a-1"].loaded.keys() | plant.pods["a-3"].loaded.keys() == mine
    service = world.services[A]
    assert (service.loaded_count, service.ready_count, service.failed_count) == (len(mine), len(mine), 0)
    for pod in world.pods.values():
        assert pod.committed == sum(copy.charged for copy in pod.copies.values())
    assert len({effect.sequence for effect in plant.routes.values()}) == len(plant.routes)


def test_the_gateway_fails_while_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put off, and put back all the same."""

    async def story() -> None:
        plant = await running()
        monkeypatch.setattr(rebuild, "EFFECTS_AT_ONCE", 1)  # else it is all told with the merge
        await fail_while_the_gateway_is_told(plant, monkeypatch)
        assert all(plant.serves("a", name) for name in ("a0", "a1", "a2", "a3"))
        errors = {"namespace": "ns", "inference_service": "a", "doing": "RouteChanged"}
        assert plant.registry.get_sample_value("shoal_internal_errors_total", errors) == 1
        assert not plant.fatal

    play(story)


def test_a_failure_in_the_middle_of_the_merge_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        plant = await running()
        monkeypatch.setattr(parts, "put_in", raising(parts.put_in, 1))
        fail_once(plant, monkeypatch)
        await asyncio.sleep(10)
        assert plant.fatal

    play(story)


def test_a_change_of_a_service_is_a_piece_of_its_models_at_a_time() -> None:
    async def story() -> None:
        plant = await running()
        for number in range(10, MANY):
            plant.model(f"a{number}", "a", memory_bytes=1)
        await asyncio.sleep(20)
        world = plant.core.world
        world.pieces.size = PART
        service = world.services[A]
        assert not service.dirty
        plant.core.handle(events.ServiceSeen(_changed(plant)))
        assert 0 < len(service.dirty) <= PART
        plant.core.handle(events.ServiceGone(A, "u-a"))
        plant.core.handle(events.ServiceSeen(_changed(plant)))
        assert len(world.services[A].dirty) <= PART
        await asyncio.sleep(20)
        assert world.services[A].loaded_count == world.services[A].ready_count == MANY - 7, "in whatever order"
        plant.core.handle(events.ServiceGone(A, "u-a"))
        await asyncio.sleep(5)
        assert not any(world.models[key].ready for key in world.models.of(A))

    play(story)


def _changed(plant: Plant) -> Any:
    spec = service_spec(name="a", uid="u-a", min_replicas=2, strict=False)
    return replace(spec, capacity_bytes=90 * MI, generation=plant.core.world.sequence)


def test_a_change_of_the_service_meanwhile_is_worked_off_before_it_is_there_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It means work for all of its models, of which one turn does a part."""

    async def story() -> None:
        plant = await running()
        for number in range(10, MANY):
            plant.model(f"a{number}", "a", memory_bytes=1)
        await asyncio.sleep(20)
        real_step, told = machine.step, False

        def step(world: Any, event: events.Event, now: float) -> Any:
            nonlocal told
            if isinstance(event, events.Listed) and not told:
                told = True
                plant.core.handle(events.ServiceSeen(_changed(plant)))
            return real_step(world, event, now)

        monkeypatch.setattr(rebuild, "step", step)
        fail_once(plant, monkeypatch)
        await asyncio.sleep(20)
        assert told
        assert plant.core.world.services[A].spec.capacity_bytes == 90 * MI
        assert all(plant.serves("a", f"a{number}") for number in range(10, MANY))

    play(story)

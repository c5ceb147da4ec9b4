"""An exception anywhere reaches one InferenceService, and that one comes back."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields, replace
from typing import Any

import pytest
from shoal_operator import engine
from shoal_operator.agents.border import facts
from shoal_operator.placement import planner
from shoal_operator.state import aside, machine, rebuild
from shoal_operator.state.demand import use
from shoal_operator.state.owners import models
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import DesiredChanged, Effect, RouteChanged
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.values import ModelKey, ServiceKey

from tests.unit.state.world_in_hand import model_spec

from .bugs import Bug
from .plant import Plant, play

A, B = ServiceKey("ns", "a"), ServiceKey("ns", "b")


def raising(real: Callable[..., Any], times: int, when: Callable[..., bool] = lambda *_, **__: True) -> Any:
    """``real``, that raises so often where ``when`` says."""
    left = times

    def call(*arguments: Any, **more: Any) -> Any:
        nonlocal left
        if left and when(*arguments, **more):
            left -= 1
            raise Bug("a latent bug")
        return real(*arguments, **more)

    return call


async def running() -> Plant:
    """Two InferenceServices whose models are loaded."""
    plant = Plant()
    plant.start()
    for name, pods in (("a", 2), ("b", 1)):
        plant.service(name, pods, strict=False)
        for number in range(3):
            plant.model(f"{name}{number}", name)
    await asyncio.sleep(10)
    assert all(plant.serves(name, f"{name}{number}") for name in "ab" for number in range(3))
    return plant


def concerns_a(given: Any, *_: Any) -> bool:
    return bool(given.service == A)


def test_one_exception_in_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding e6: plan_requested stayed, and nothing was planned any more with a green /readyz."""

    async def story() -> None:
        plant = await running()
        monkeypatch.setattr(engine, "plan", raising(planner.plan, 1, concerns_a))
        plant.model("a9", "a")
        plant.model("b9", "b")
        await asyncio.sleep(0.1)
        assert plant.trouble("a") == "InternalError"
        assert all(plant.serves("a", f"a{number}") for number in range(3)), "what is loaded goes on being served"
        await asyncio.sleep(10)
        assert plant.serves("a", "a9")
        assert plant.serves("b", "b9")
        assert plant.core.world.pods["a-1"].committed + plant.core.world.pods["a-2"].committed == 4 * 10 * 2**20
        assert not plant.fatal
        assert sum(pod.loads for pod in plant.pods.values()) == 8, "nothing is loaded again"
        count = plant.registry.get_sample_value(
            "shoal_internal_errors_total", {"namespace": "ns", "inference_service": "a", "doing": "plan"}
        )
        assert count == 1
        await asyncio.sleep(60)
        assert plant.trouble("a") == "", "it has been well for a while"

    play(story)


def test_a_service_that_always_fails_keeps_nobody_else_from_working(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        plant = await running()
        monkeypatch.setattr(engine, "plan", raising(planner.plan, -1, concerns_a))
        plant.model("a9", "a")
        for number in range(30):
            plant.model(f"bb{number}", "b", memory_bytes=1)
            await asyncio.sleep(20)
            assert plant.serves("b", f"bb{number}")
            assert all(plant.serves("a", f"a{number}") for number in range(3))
            assert plant.trouble("a") == "InternalError"
        assert not plant.fatal
        key = {"namespace": "ns", "inference_service": "a", "doing": "plan"}
        errors = plant.registry.get_sample_value("shoal_internal_errors_total", key)
        assert errors is not None
        assert errors < 15, "with growing pauses"

    play(story)


def test_everybody_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is not theirs: the process ends."""

    async def story() -> None:
        plant = await running()
        monkeypatch.setattr(engine, "plan", raising(planner.plan, -1))
        plant.model("a9", "a")
        plant.model("b9", "b")
        await asyncio.sleep(60)
        assert plant.fatal

    play(story)


def test_nobody_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        plant = await running()
        monkeypatch.setattr("shoal_operator.state.machine._next_wake", raising(lambda world, now: None, 1))
        plant.core.handle(events.Tick())
        assert plant.fatal

    play(story)


def test_routes_that_fail_together_and_not_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    """All are carried out, nobody is rebuilt; that the tables could not take them at once is said, once a minute."""

    async def story() -> None:
        plant = await running()
        whole = plant.core._outlets.gateway

        def not_together(effects: Sequence[Effect]) -> None:
            if len(effects) > 1:
                raise RuntimeError("not together")
            whole(effects)

        plant.core._outlets = replace(plant.core._outlets, gateway=not_together)
        plant.core.handle(events.PodGone("a-1"))
        await asyncio.sleep(10)
        assert not plant.fatal
        assert not plant.trouble("a")
        key = {"namespace": "", "inference_service": "", "doing": "routes at once"}
        assert plant.registry.get_sample_value("shoal_internal_errors_total", key) == 1
        assert [record.exc_info for record in caplog.records if record.levelname == "ERROR"] != []
        assert all("a-1" not in route.pods for route in plant.routes.values())
        assert plant.serves("a", "a0")

    play(story)


def test_a_model_moves_while_both_of_its_services_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both were out and both were told of it: whoever was put back last kept it, also the one that it had left."""

    async def story() -> None:
        plant = await running()
        monkeypatch.setattr(models, "_move", raising(models._move, 1))
        monkeypatch.setattr(models.routes, "forget", raising(models.routes.forget, 1))
        plant.core.handle(events.ModelSeen(model_spec("b1", service="a")))
        await asyncio.sleep(0)
        assert plant.trouble("a") == plant.trouble("b") == "InternalError"
        await asyncio.sleep(40)
        assert plant.core.world.models[ModelKey("ns", "b1")].spec.service == "a"
        assert plant.serves("a", "b1")
        assert not plant.serves("b", "b1")
        assert plant.serves("b", "b0")

    play(story)


def test_a_review_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding gateway/ exp_inf: the effects of whichever event was in hand were lost."""

    async def story() -> None:
        plant = await running()
        world = plant.core.world
        monkeypatch.setattr(use, "review", raising(use.review, 1, lambda ctx, service: service.spec.name == "a"))
        world.reviewing |= {A, B}
        world.review_at = 0.0
        plant.model("b9", "b")
        await asyncio.sleep(10)
        assert plant.serves("b", "b9")
        assert all(plant.serves("a", f"a{number}") for number in range(3))
        assert plant.trouble("a")
        assert not plant.trouble("b")

    play(story)


@pytest.mark.parametrize("what", [RouteChanged, DesiredChanged])
def test_a_room_fails(what: type[Effect]) -> None:
    async def story() -> None:
        plant = await running()
        left = 1

        def hurt(effect: Any) -> None:
            nonlocal left
            mine = getattr(effect, "model", "") == "a9" or getattr(effect, "pod_uid", "").startswith("a-")
            if left and isinstance(effect, what) and mine:
                left -= 1
                raise Bug("in a room")

        plant.hurt = hurt
        plant.model("a9", "a")
        plant.model("b9", "b")
        await asyncio.sleep(10)
        assert not left
        assert plant.serves("a", "a9")
        assert plant.serves("b", "b9")
        assert not plant.fatal

    play(story)


def test_what_is_said_meanwhile_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted, changed, new, moved away, and a pod that goes, while the service is set aside."""

    async def story() -> None:
        plant = await running()
        with monkeypatch.context() as patch:
            patch.setattr(models, "seen", raising(models.seen, 1, lambda ctx, spec, **_: spec.name == "a9"))
            patch.setattr(rebuild, "step", raising(machine.step, 8))  # it stays aside for some seconds
            plant.model("a9", "a")
            await asyncio.sleep(0.1)
            assert A not in plant.core.world.services
            plant.core.handle(events.ModelGone(ModelKey("ns", "a0"), "uid-a0"))
            changed = plant.model("a1", "a", storage_uri="s3://other/place")
            plant.model("a8", "a")
            plant.model("a2", "b")
            del plant.pods["a-2"]
            plant.core.handle(events.PodGone("a-2"))
            waits = plant.core.activation(A, "a8")
            assert waits is not None
            assert waits.unavailable == "Cold", "a request for it waits"
            draining = replace(facts(plant.pods["a-1"].request(0.0)), draining=True)
            assert not plant.core.answer(draining, 0).drained
            assert plant.core.trouble_of(ModelKey("ns", "a8"))
            await asyncio.sleep(120)
        await asyncio.sleep(60)
        assert A in plant.core.world.services
        assert not plant.routes["a", "a0"].pods
        assert plant.routes["a", "a0"].unavailable is None
        assert plant.serves("a", "a9")
        assert plant.serves("a", "a8")
        assert plant.serves("b", "a2")
        assert plant.pods["a-1"].loaded["a1"].storage_uri == changed.storage_uri
        assert "a0" not in plant.pods["a-1"].loaded

    play(story)


def test_nothing_of_a_service_that_is_taken_out_stays() -> None:
    """Looked for everywhere in the world, so that a new index is found as well."""

    async def story() -> None:
        plant = await running()
        world = plant.core.world
        plant.model("a8", "a", storage_uri="s3://b/missing")
        plant.model("a9", "a", memory_bytes=None)
        await asyncio.sleep(3)
        for _ in range(3):
            plant.core.handle(events.Requested(A, "a1"))
        uids = {uid for uid in world.pods if uid.startswith("a-")}
        keys = {key for key in world.models if key.name.startswith("a")}
        aside.take_out(world, A, plant.loop.time())
        strays = {A, *uids, *keys} & set(_everything(world))
        assert not strays

    play(story)


def _everything(value: Any) -> list[Any]:
    found: list[Any] = []
    if isinstance(value, ModelKey | ServiceKey | str):
        return [value]
    if isinstance(value, Mapping):
        for key, held in value.items():
            found += _everything(key) + _everything(held)
    elif isinstance(value, list | tuple | Set | deque):
        for held in value:
            found += _everything(held)
    elif hasattr(value, "__dataclass_fields__"):
        # What the agenda and the pieces of others hold is checked when it is due.
        for each in fields(value):
            if each.name not in ("_heap", "_older", "_entered", "_left"):
                found += _everything(getattr(value, each.name))
    return found


def test_every_part_of_a_rebuilt_world_is_merged() -> None:
    """A field that is added to the world has to be thought of in ``world/parts.py``."""
    whole = {"timing", "versions", "awaiting_since", "recovery", "late", "listed", "store_loaded", "stored", "epoch"}
    whole |= {"epoch_wanted", "highest_agent_epoch", "acknowledged", "wake", "pieces", "standings", "standing_in"}
    whole |= {"epoch_held", "ordered"}
    merged = {"services", "models", "pods", "pods_of", "freshening", "touched", "sequence", "draining"}
    merged |= {"grace", "retrying", "unhealthy", "gathering", "moving", "asked", "agenda", "reviewing", "review_at"}
    merged |= {"unsettled", "gating", "gate_at", "outgoing", "checks", "check_at", "revised", "alarms"}
    assert {each.name for each in fields(World)} == whole | merged

"""The law of Ready in scenes that are made on purpose, and that its copy of the world shares nothing with the first."""

import gc
from dataclasses import replace

import pytest
from shoal_api.messages import content_digest, copy_id
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.values import ModelKey, ModelSpec

from . import law
from .options import NAMESPACE, Options
from .simulation import Simulation

MODEL = ModelKey(NAMESPACE, "m0")


def _calm(**given: object) -> Simulation:
    """One service of one pod, without faults; nobody asks for anything."""
    options = {"services": 1, "pods": 1, "models": 8, "capacity": 40, "strict": False, "faults": False, "samples": 0}
    simulation = Simulation(1, Options(**{**options, **given}))  # type: ignore[arg-type]  # any option
    simulation.begin()
    simulation.loop.advance(30.0)
    return simulation


def _served(simulation: Simulation) -> str | None:
    """Copy id that the only pod answers with for the model."""
    (pod,) = simulation.cluster.pods.values()
    held = pod.loaded.get(MODEL.name)
    return held.copy_id if held is not None else None


def _ask(simulation: Simulation, *keys: ModelKey) -> None:
    for key in keys:
        reply = law.request(simulation, key)
        assert reply is not None
        assert reply.refused is None


def _press(simulation: Simulation) -> None:
    """The others are asked for until the model has made way."""
    models = simulation.cluster.models
    others = [key for key in sorted(models) if key != MODEL and not simulation.cluster.broken_spec(models[key])]
    for _ in range(3):
        _ask(simulation, *others)
        simulation.loop.advance(3.0)
    assert _served(simulation) is None, "there is no pressure"


def _break(simulation: Simulation) -> str:
    """An update that no server loads; the copy id of what worked."""
    before = simulation.cluster.models[MODEL]
    uri = "s3://models/m0-broken"
    content = content_digest(uri, "sklearn")
    simulation.cluster.real[copy_id(before.uid, content)] = before.memory_bytes or 0
    simulation.cluster.show_model(replace(before, storage_uri=uri, content=content, generation=2))
    return copy_id(before.uid, before.content)


def _restart(simulation: Simulation) -> None:
    """Another operator, without a store."""
    simulation.operator.stop()
    simulation.operator.store.clear()
    simulation.loop.advance(15.0)


def _answered_by(simulation: Simulation, good: str) -> None:
    """Ready, and a request is answered by what worked."""
    law.check(simulation, MODEL, at_rest=True)
    assert simulation.statuses.ready(MODEL) == ("True", "UpdateFailed")
    copied = law.copy(simulation)
    _ask(copied, MODEL)
    assert _served(copied) == good


@pytest.mark.parametrize("restarted", [False, True], ids=["", "after a restart"])
def test_a_broken_update_under_memory_pressure_is_no_outage(restarted: bool) -> None:
    simulation = _calm()
    _ask(simulation, MODEL)
    good = _break(simulation)
    simulation.loop.advance(6.0)
    assert simulation.statuses.ready(MODEL) == ("True", "UpdateFailed"), "it is said at once"
    assert _served(simulation) == good, "what worked serves on"
    _answered_by(simulation, good)
    if restarted:
        _restart(simulation)
        _answered_by(simulation, good)
    _press(simulation)
    _answered_by(simulation, good)
    if restarted:
        _restart(simulation)  # nobody holds the model now, and no store remembers the failure: its status does
        _answered_by(simulation, good)
        _ask(simulation, MODEL)
        assert _served(simulation) == good
        simulation.loop.advance(6.0)
        _answered_by(simulation, good)


def test_a_model_that_failed_and_that_nobody_holds_says_so_after_a_restart() -> None:
    simulation = _calm()
    made, uri = simulation.cluster.new_model("bad", "svc0"), "s3://models/bad-broken"
    made = replace(made, storage_uri=uri, content=content_digest(uri, "sklearn"))
    simulation.cluster.real[copy_id(made.uid, made.content)] = made.memory_bytes or 0
    simulation.cluster.show_model(made)
    bad = made.key
    simulation.loop.advance(6.0)
    law.request(simulation, bad)
    _press(simulation)
    simulation.loop.advance(6.0)
    assert simulation.statuses.ready(bad) == ("False", "LoadFailed")
    _restart(simulation)
    assert simulation.statuses.ready(bad) == ("False", "LoadFailed")
    law.check(simulation, bad, at_rest=True)


def test_kept_models_that_fill_the_pods_leave_no_other_one_ready() -> None:
    simulation = _calm()
    for key, model in sorted(simulation.cluster.models.items()):
        if key != MODEL:
            simulation.cluster.show_model(replace(model, min_copies=1, generation=2))
    simulation.loop.advance(30.0)
    for key in sorted(simulation.cluster.models):
        law.check(simulation, key, at_rest=True)
    assert simulation.statuses.ready(MODEL) == ("False", "InsufficientMemory")
    simulation.cluster.add_model("late", "svc0")
    simulation.loop.advance(5.0)
    assert simulation.statuses.ready(ModelKey(NAMESPACE, "late")) == ("False", "InsufficientMemory")


def test_what_is_kept_fills_the_only_pod_while_it_is_replaced() -> None:
    """A request that comes meanwhile may be answered, and what is kept has its place again after it."""
    simulation = _calm()
    kept = [key for key in sorted(simulation.cluster.models) if key != MODEL]
    for key in kept:
        simulation.cluster.show_model(replace(simulation.cluster.models[key], min_copies=1, generation=2))
    simulation.loop.advance(30.0)
    (pod,) = simulation.cluster.pods
    simulation.cluster.delete_pod(pod)
    for _ in range(8):
        simulation.loop.advance(1.0)
        law.check(simulation, MODEL)
    simulation.loop.advance(30.0)
    (pod,) = simulation.cluster.pods
    simulation.cluster.remove_pod(pod)
    for _ in range(8):
        simulation.clients.demand(simulation.cluster.models[MODEL])
        simulation.loop.advance(1.0)
    simulation.loop.advance(20.0)
    assert _served(simulation) is None, "it made way"
    for key in sorted(simulation.cluster.models):
        law.check(simulation, key, at_rest=True)
    assert simulation.statuses.ready(MODEL) == ("False", "InsufficientMemory")


def test_an_update_in_a_full_pod_has_idle_models_make_way() -> None:
    simulation = _calm()
    _ask(simulation, MODEL)
    simulation.loop.advance(5.0)
    (pod,) = simulation.cluster.pods.values()
    _ask(simulation, *(ModelKey(NAMESPACE, name) for name in sorted(pod.loaded) if name != MODEL.name))
    simulation.loop.advance(10.0)  # it is the one that was used longest ago now
    before, uri = simulation.cluster.models[MODEL], "s3://models/m0-new"
    content = content_digest(uri, "sklearn")
    simulation.cluster.real[copy_id(before.uid, content)] = before.memory_bytes or 0
    simulation.cluster.show_model(replace(before, storage_uri=uri, content=content, generation=2))
    simulation.loop.advance(20.0)
    assert _served(simulation) == copy_id(before.uid, content)
    assert simulation.statuses.ready(MODEL) == ("True", "OnDemand")


def test_a_load_that_hangs_longer_than_a_request_may_wait_is_said_until_it_is_loaded() -> None:
    simulation = _calm()
    _press(simulation)
    (pod,) = simulation.cluster.pods.values()
    pod.loads_hang_until = simulation.loop.now + 40.0
    assert simulation.statuses.ready(MODEL) == ("True", "OnDemand"), "nobody knows beforehand"
    assert law.request(simulation, MODEL) is None
    simulation.loop.advance(6.0)
    assert simulation.statuses.ready(MODEL) == ("False", "ActivationTimeout")
    law.check(simulation, MODEL)
    simulation.loop.advance(40.0)
    assert simulation.statuses.ready(MODEL) == ("True", "OnDemand")
    law.check(simulation, MODEL, at_rest=True)


def test_an_update_that_hangs_is_answered_by_what_worked() -> None:
    simulation = _calm()
    _ask(simulation, MODEL)
    before = simulation.cluster.models[MODEL]
    good, uri = copy_id(before.uid, before.content), "s3://models/m0-slow"
    content = content_digest(uri, "sklearn")
    _press(simulation)
    simulation.cluster.real[copy_id(before.uid, content)] = before.memory_bytes or 0
    simulation.cluster.show_model(replace(before, storage_uri=uri, content=content, generation=2))
    simulation.loop.advance(6.0)
    (pod,) = simulation.cluster.pods.values()
    pod.loads_hang_until = simulation.loop.now + 15.0
    assert law.request(simulation, MODEL) is None
    simulation.loop.advance(10.0)
    assert simulation.statuses.ready(MODEL) == ("True", "UpdateFailed")
    _answered_by(simulation, good)


def test_without_a_pod_ready_is_as_true_as_with_one() -> None:
    simulation = _calm(idle=3.0)
    assert not simulation.cluster.pods, "looked up, and gone"
    assert simulation.statuses.ready(MODEL) == ("True", "OnDemand")
    for _ in range(2):
        for key in sorted(simulation.cluster.models):
            law.check(simulation, key, at_rest=True)
        woken = simulation.operator.woken
        _restart(simulation)  # nobody holds anything, and no store remembers: their statuses do
        assert (simulation.operator.woken, simulation.cluster.pods) == (woken, {})
    made = simulation.cluster.new_model("late", "svc0")
    simulation.cluster.show_model(made)
    simulation.loop.advance(0.9)
    assert simulation.statuses.ready(made.key) == ("Unknown", "NotLookedUp")
    simulation.loop.advance(30.0)
    assert simulation.statuses.ready(made.key) == ("True", "OnDemand")
    assert (simulation.operator.woken, simulation.cluster.pods) == (woken + 1, {})


def test_requests_now_and_then_keep_the_pod_and_its_absence_costs_none() -> None:
    simulation = _calm(idle=6.0)
    for pause in (1.0, 5.0, 5.0, 5.0, 20.0, 1.0, 20.0):
        before, there = simulation.operator.woken, bool(simulation.cluster.pods)
        _ask(simulation, MODEL)
        assert simulation.operator.woken == before + (not there)
        simulation.loop.advance(pause)
        assert bool(simulation.cluster.pods) is (pause < 6.0)


@pytest.mark.parametrize("status", ["True", "False"])
def test_a_status_that_is_not_so_is_found(status: str) -> None:
    simulation = _calm()
    if status == "True":
        huge = replace(simulation.cluster.models[MODEL], memory_bytes=1000, generation=2)
        simulation.cluster.show_model(huge)
        simulation.loop.advance(5.0)
    law.check(simulation, MODEL)
    _, stored = simulation.statuses.stored[MODEL]
    (ready,) = (condition for condition in stored["conditions"] if condition["type"] == "Ready")
    ready |= {"status": status, "reason": "LoadFailed"}
    with pytest.raises(AssertionError, match=f"m0's Ready is {status}"):
        law.check(simulation, MODEL)


def test_a_copied_world_shares_nothing_with_the_first() -> None:
    simulation = _calm()
    copied = law.copy(simulation)
    assert copied.operator.engine is not None
    assert simulation.operator.engine is not None
    mine, its = simulation.operator.engine.world, copied.operator.engine.world
    shared = {id(each) for each in _mutable(mine)} & {id(each) for each in _mutable(its)}
    assert not shared
    before = simulation.operator.digest.hexdigest(), simulation.loop.now
    copied.loop.advance(20.0)
    assert (simulation.operator.digest.hexdigest(), simulation.loop.now) == before


def _mutable(world: World) -> list[object]:
    """Everything that hangs on it and could be changed."""
    found: dict[int, object] = {}
    left: list[object] = [world]
    while left:
        each = left.pop()
        if id(each) in found or each is None or isinstance(each, type | str | bytes | int | float | tuple | ModelSpec):
            if isinstance(each, tuple):
                left += each
            continue
        if getattr(type(each), "__module__", "").startswith(("shoal_operator", "builtins", "collections")):
            found[id(each)] = each
            left += gc.get_referents(each)
    return list(found.values())

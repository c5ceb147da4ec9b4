"""A plan for a few models looks at a few pods, and decides as one that looks at all of them."""

import random
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shoal_operator.placement.planner import plan
from shoal_operator.state.demand import candidates
from shoal_operator.state.owners import plans
from shoal_operator.state.owners.plans import plan_input
from shoal_operator.state.world import events
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.standings import FAILED, Standing, Standings
from shoal_operator.state.world.values import ModelKey, ModelNeed, Plan

from .overcommitted import SERVICE, Cold
from .world_in_hand import MI, model_spec, pod_spec

SIZES = (5, 10, 20)


@pytest.fixture(autouse=True)
def _few_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "EVERY", 0)
    monkeypatch.setattr(candidates, "SPARE", 0)


def lived(seed: int) -> Cold:
    """An overcommitted service after some of its life: full pods, room, use, failures, things on their way."""
    rng = random.Random(seed)
    pods = [f"pod-{number}" for number in range(rng.randint(3, 7))]
    hand = Cold(*pods, room=rng.choice((3, 6)))
    names = [f"m{number:03d}" for number in range(rng.randint(3, 9) * len(pods))]
    for name in names:
        hand.add(name, memory_bytes=rng.choice(SIZES) * MI)
    acts = rng.choices(("use", "ask", "break", "wait", "delete", "leave"), (8, 4, 1, 2, 2, 0.3), k=rng.randint(5, 25))
    for index, what in enumerate(acts):
        done = index < len(acts) - 3  # what comes last is still on its way
        name = rng.choice(names)
        if what == "use":
            loaded = [uid for uid in hand.world.pods if name in hand.world.pods[uid].lru]
            if loaded:
                hand.use(name, index + 2, pod=loaded[0], idle=rng.uniform(0.0, 20.0))
        elif what == "ask":
            hand.ask(name)
        elif what == "break":
            hand.broken.symmetric_difference_update({name})
        elif what == "wait":
            hand.wait(rng.uniform(1.0, 60.0))
        elif what == "delete" and ModelKey("ns", name) in hand.world.models:
            hand.do(events.ModelGone(ModelKey("ns", name), f"uid-{name}"))
        elif what == "leave":
            hand.do(events.PodSeen(pod_spec(rng.choice(pods), capacity_bytes=hand.room * 10 * MI, deleting=True)))
        if done and what != "wait":
            hand.agents()
    return hand


def both(world: World, now: float) -> tuple[Plan, Plan]:
    """What is decided from a few pods, and from all of them."""
    few, every = (plan_input(deepcopy(world), SERVICE, now, everything=everything) for everything in (False, True))
    assert few is not None
    assert every is not None
    assert few.needs == every.needs
    return plan(few), plan(every)


def costs(world: World, made: Plan, now: float) -> list[float]:
    """How long those who make way were not used, the least first."""
    return sorted(now - world.models[eviction.model].last_used for eviction in made.evict)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 30))
def test_the_choice_from_a_few_pods_is_the_choice_from_all(seed: int) -> None:
    hand = lived(seed)
    size = random.Random(seed).choice(SIZES) * MI
    hand.engine.handle(events.ModelSeen(model_spec("zz", memory_bytes=size)), hand.now)
    hand.engine.handle(events.Requested(SERVICE, "zz"), hand.now)
    few, every = both(hand.world, hand.now)
    assert {k: refusal.missing_bytes for k, refusal in few.refused.items()} == {
        k: refusal.missing_bytes for k, refusal in every.refused.items()
    }
    asked = [k for k in (each.model for each in every.add) if k not in every.refused]
    assert sorted(asked) == sorted(each.model for each in few.add)
    if len(every.add) == 1:  # of several, ties may go to others, who leave others to the next
        assert bool(few.evict) == bool(every.evict)
        rooms = {pod.spec.uid: pod.room for pod in hand.world.pods.values()}
        if rooms[every.add[0].pod_uid] >= size:
            assert few.add == every.add, "the pod with room that sorts first"
        assert costs(hand.world, few, hand.now)[:1] == costs(hand.world, every, hand.now)[:1], "used longest ago"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 30))
def test_the_orders_are_kept_as_pods_change(seed: int) -> None:
    hand = lived(seed)
    order = candidates.standings(hand.world, SERVICE)
    for uid, pod in hand.world.pods.items():
        now = candidates.standing(hand.world, pod)
        known = order.get(uid)
        assert (known and known[:4]) == (now and now[:4])
    assert len(order) == sum(pod.placeable for pod in hand.world.pods.values())


def test_the_first_of_each_order() -> None:
    order = Standings()
    order.put("a", Standing(100, 90, 3, 10, 40, 5.0))
    order.put("b", Standing(100, 20, 1, 80, 90, None))
    order.put("c", Standing(200, 150, 2, 50, 60, FAILED))
    assert set(order.least_full(1)) == {"b", "c"}
    assert order.most_coming(2) == ["b", "c"]
    assert [uid for _, uid in order.longest_unused()] == ["c", "a"]
    assert order.most_room() == 80
    order.put("b", None)
    order.put("c", Standing(200, 10, 2, 190, 190, 9.0))
    assert order.least_full(1) == ["a", "c"]
    assert [uid for _, uid in order.longest_unused()] == ["a", "c"]
    assert len(order) == 2


def test_a_request_is_planned_before_ten_thousand_that_nobody_asked_for() -> None:
    """It was in plan 20 of 20, by hash."""
    hand = Cold("pod-1", room=3)
    for number in range(2000):
        hand.engine.handle(events.ModelSeen(model_spec(f"m{number:05d}")), hand.now)
    hand.engine.handle(events.Requested(SERVICE, "m01234"), hand.now)
    given = plan_input(hand.world, SERVICE, hand.now)
    assert given is not None
    assert [need.key.name for need in given.needs] == ["m01234"]
    hand.engine.work(hand.now)
    assert "m01234" in hand.world.pods["pod-1"].copies
    assert ModelKey("ns", "m01234") not in hand.service.dirty
    assert len(hand.service.dirty) == 1999


def test_what_one_plan_costs_is_bounded() -> None:
    """Models that others may have to make way for, and such that are particular about pods, count for more."""
    hand = Cold("pod-1", room=3)
    for number in range(300):
        hand.engine.handle(events.ModelSeen(model_spec(f"m{number:05d}", min_copies=number % 3)), hand.now)
    given = plan_input(hand.world, SERVICE, hand.now)
    assert given is not None
    assert plans.BUDGET // 4 <= len(given.needs) < plans.BUDGET


def test_requests_that_come_at_once_each_take_the_place_of_who_was_used_longest_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However few pods are looked at: nobody who was just used goes while the next pod has somebody who was not."""
    monkeypatch.setattr(candidates, "SPARE", 4)
    hand = Cold("pod-1", "pod-2", "pod-3")
    hand.add(*(f"m{number}" for number in range(6)))
    pods = list(hand.world.pods)
    old, new = zip(*(sorted(hand.world.pods[uid].copies) for uid in pods), strict=True)
    for names in (old, new):
        hand.now += 100.0
        for name, uid in zip(names, pods, strict=True):
            hand.now += 1.0
            hand.use(name, pod=uid)
    hand.now += 40.0
    hand.add("x", "y", "z")
    for name in ("x", "y", "z"):
        hand.engine.handle(events.Requested(SERVICE, name), hand.now)
    given = plan_input(hand.world, SERVICE, hand.now)
    assert given is not None
    assert {eviction.model.name for eviction in plan(given).evict} == set(old)


def test_who_would_have_to_go_last_counts_and_not_who_would_go_first() -> None:
    """One pod has the oldest copy, but would have to give up one in use beside it; the next gives up an old one."""
    hand = Cold("pod-1", "pod-2")
    hand.add("large", memory_bytes=20 * MI)
    hand.add("oldest", "busy")
    for name, at in (("oldest", 0.0), ("large", 10.0), ("busy", 90.0)):
        hand.now = at
        hand.use(name, pod=hand.pod_of(name))
    hand.now = 200.0
    hand.do(events.ModelSeen(model_spec("x", memory_bytes=20 * MI)))
    hand.engine.handle(events.Requested(SERVICE, "x"), hand.now)
    given = plan_input(hand.world, SERVICE, hand.now)
    assert given is not None
    assert [eviction.model.name for eviction in plan(given).evict] == ["large"]


def test_a_plan_of_those_that_only_need_room_is_bounded_too() -> None:
    hand = Cold("pod-1", room=3)
    for number in range(2 * plans.BUDGET):
        hand.engine.handle(events.ModelSeen(model_spec(f"m{number:05d}")), hand.now)
    given = plan_input(hand.world, SERVICE, hand.now)
    assert given is not None
    assert len(given.needs) == len(given.batch) == plans.BUDGET


def test_who_has_no_copy_to_keep_away_from_goes_anywhere() -> None:
    """Such models are most of all, and a plan of them looks at few pods."""
    lone, pair = (ModelNeed(ModelKey("ns", "m"), 1, wanted, ()) for wanted in (1, 2))
    assert candidates.anywhere(lone)
    assert not candidates.anywhere(pair)


@pytest.mark.parametrize("taken", [True, False])
def test_others_may_have_to_make_way_where_its_name_is_taken_on_the_pod_with_room(taken: bool) -> None:
    hand = Cold("pod-1", room=2)
    hand.do(events.PodSeen(pod_spec("pod-2", capacity_bytes=10 * MI)))
    hand.report("pod-2")
    hand.do(events.ModelSeen(model_spec("a")))
    (holds,) = hand.model("a").copies
    hand.agents()
    hand.now += 100.0
    (free,) = {"pod-1", "pod-2"} - {holds}
    if taken:
        hand.world.pods[free].occupied.add("m")
    need = ModelNeed(ModelKey("ns", "m"), 10 * MI, 1, (), evict_idle=0.0)
    found = candidates.making_way(hand.world, candidates.standings(hand.world, SERVICE), [need], hand.now)
    assert found.keys() == ({holds} if taken else set())


def test_no_more_pods_are_looked_into_than_could_have_somebody_unused_for_longer() -> None:
    pods = [f"pod-{number}" for number in range(5)]
    hand = Cold(*pods, room=1)
    hand.add(*(f"m{number}" for number in range(5)))
    for number in range(5):
        hand.now += 100.0
        hand.use(f"m{number}", pod=hand.pod_of(f"m{number}"))
    hand.now += 100.0
    need = ModelNeed(ModelKey("ns", "new"), 10 * MI, 1, (), evict_idle=0.0)
    found = candidates.making_way(hand.world, candidates.standings(hand.world, SERVICE), [need], hand.now)
    assert found.keys() == {hand.pod_of("m0")}

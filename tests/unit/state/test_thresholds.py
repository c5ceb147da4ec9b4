"""From which amount on more is wanted, or less, or something is done at all: one row on each side."""

import pytest
from shoal_operator.state import wish
from shoal_operator.state.demand import cold, scaling, use, victims
from shoal_operator.state.owners import plans
from shoal_operator.state.world import events
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.decay import WINDOW_SECONDS, Decayed
from shoal_operator.state.world.values import ScaleMetric

from .overcommitted import SERVICE, Cold, full
from .world_in_hand import MI, model_spec


def steady(rate: float, now: float = 0.0) -> Decayed:
    """So many a second."""
    return Decayed(rate * WINDOW_SECONDS, now)


def autoscaled(*pods: str, room: int = 10, **given: object) -> Cold:
    service = {"autoscaled": True, "min_replicas": 1, "max_replicas": 9, **given}
    return Cold(*(pods or ("pod-1",)), room=room, service=service)


def wanted(hand: Cold, replicas: int = 1) -> int:
    return scaling._wanted(Context(hand.world, hand.now), hand.service, replicas)[0]


@pytest.mark.parametrize(
    ("metric", "value", "pods"),
    [
        (ScaleMetric.RPS, 10.5, 1),  # a tenth of a pod more is none
        (ScaleMetric.RPS, 11.5, 2),
        (ScaleMetric.RPS, 20.5, 2),
        (ScaleMetric.RPS, 21.5, 3),
        (ScaleMetric.CONCURRENCY, 10.5, 1),
        (ScaleMetric.CONCURRENCY, 11.5, 2),
        (ScaleMetric.RPS, 1000.0, 9),
        (ScaleMetric.RPS, 0.0, 1),
        (None, 1000.0, 1),
    ],
)
def test_load(metric: ScaleMetric | None, value: float, pods: int) -> None:
    hand = autoscaled(scale_metric=metric, scale_target=10.0)
    used, other = ("rate", "concurrency") if metric is not ScaleMetric.CONCURRENCY else ("concurrency", "rate")
    setattr(hand.service, used, steady(value))
    setattr(hand.service, other, steady(0.0))
    assert wanted(hand) == pods


@pytest.mark.parametrize(("misses", "replicas", "pods"), [(0.04, 1, 1), (0.06, 1, 2), (0.09, 2, 2), (0.11, 2, 3)])
def test_models_in_use_that_had_to_make_way(misses: float, replicas: int, pods: int) -> None:
    """One in 20 s for each pod."""
    hand = autoscaled(*(f"pod-{number}" for number in range(replicas)), min_replicas=replicas)
    hand.service.misses = steady(misses)
    assert wanted(hand, replicas) == pods


@pytest.mark.parametrize(("size", "pods"), [(79, 1), (80, 1), (81, 2)])
def test_a_pod_less_holds_what_is_in_use_and_a_fifth_more(size: int, pods: int) -> None:
    hand = autoscaled("pod-1", "pod-2")
    hand.add("a", memory_bytes=size * MI)
    hand.use("a", pod=hand.pod_of("a"))
    hand.now += 400.0
    assert wanted(hand, 2) == pods


@pytest.mark.parametrize(("since", "pods"), [(599.0, 2), (600.0, 2), (601.0, 1)])
def test_what_was_used_so_long_ago_is_in_use(since: float, pods: int) -> None:
    hand = autoscaled("pod-1", "pod-2")
    hand.add("a", memory_bytes=90 * MI)
    hand.now += 1000.0
    hand.use("a", pod=hand.pod_of("a"))
    hand.now += since
    assert wanted(hand, 2) == pods


@pytest.mark.parametrize(
    ("asked", "kept_free"),
    [(0, 0), (1, 2), (MI, 2 * MI), (4 * MI, 8 * MI), (6 * MI, 10 * MI), (10 * MI, 10 * MI), (10 * MI + 1, 0)],
)
def test_how_much_is_kept_free_for_the_next_request(asked: int, kept_free: int) -> None:
    """Two models of that size, a sixteenth of a pod at most, and nothing where not even one fits that."""
    hand = Cold("pod-1", room=16)
    hand.add(*(f"m{number}" for number in range(17)))
    hand.service.asked_bytes = asked
    assert hand.service.cold
    assert cold.reserve(hand.service, hand.world.pods["pod-1"]) == kept_free


def test_where_nothing_is_cold_nothing_is_kept_free() -> None:
    hand = Cold("pod-1", room=16)
    hand.add("m")
    hand.service.asked_bytes = MI
    assert cold.reserve(hand.service, hand.world.pods["pod-1"]) == 0


@pytest.mark.parametrize(("since", "in_use"), [(599.0, True), (601.0, False)])
def test_who_made_way_was_in_use_or_was_not(since: float, in_use: bool) -> None:
    hand = autoscaled(room=1)
    hand.add("a", "b")
    hand.now += 1000.0
    (loaded,) = hand.loaded_models()
    hand.use(loaded)
    hand.now += since
    hand.world.reviewing.clear()
    hand.ask(({"a", "b"} - {loaded}).pop())
    assert (hand.service.misses.at(hand.now) > 0.0) == in_use
    assert (hand.service.spec.key in hand.world.reviewing) == in_use


def test_models_that_fit_exactly_what_is_free_come_back() -> None:
    hand = Cold("pod-1", room=2)
    for name in ("a", "b"):
        hand.add(name)
    hand.add("exact", "more", memory_bytes=10 * MI)
    hand.do(events.ModelSeen(model_spec("more", memory_bytes=11 * MI, generation=2)))
    hand.do(events.ModelGone(model_spec("a").key, "uid-a"))
    hand.pass_time(5)
    assert hand.loaded_models() == {"b", "exact"}


@pytest.mark.parametrize(("rate", "looked_at"), [(0.02, True), (0.005, False)])
def test_a_service_that_is_used_at_all_is_looked_at_again(rate: float, looked_at: bool) -> None:
    hand = autoscaled()
    hand.service.rate = steady(rate)
    assert scaling.review(Context(hand.world, hand.now), hand.service) is looked_at


@pytest.mark.parametrize(
    ("rate", "of_all", "before", "after"),
    [
        (30.0, 100.0, 1, 1),  # a fifth more than one copy may draw is not enough,
        (30.1, 100.0, 1, 2),
        (17.5, 100.0, 2, 2),  # nor is what is left when a copy less would do,
        (17.4, 100.0, 2, 1),  # before it is clearly less
        (5.0, 5.0, 1, 2),
        (4.9, 4.9, 1, 1),  # hardly used
        (4.9, 4.9, 2, 1),
        (0.0, 100.0, 2, 1),
    ],
)
def test_copies_of_a_model_in_use(rate: float, of_all: float, before: int, after: int) -> None:
    """On two pods a copy may draw a quarter of all requests."""
    hand = Cold("pod-1", "pod-2", room=3)
    hand.add("a")
    model = hand.model("a")
    (copy,) = model.copies.values()
    copy.rate, hand.service.rate, model.target = steady(rate), steady(of_all), before
    use.review_model(Context(hand.world, hand.now), hand.service, model)
    assert model.target == after


def test_of_many_copies_as_many_go_as_are_clearly_too_many() -> None:
    """Of four pods each may draw an eighth: what two could do, with some to spare, two do."""
    hand = Cold("pod-1", "pod-2", "pod-3", "pod-4", room=3)
    hand.add("a")
    model = hand.model("a")
    (copy,) = model.copies.values()
    copy.rate, hand.service.rate, model.target = steady(10.0), steady(100.0), 4
    use.review_model(Context(hand.world, hand.now), hand.service, model)
    assert model.target == 2


@pytest.mark.parametrize(("strict", "least", "first"), [(False, 2, True), (False, 1, False), (True, 2, False)])
def test_who_comes_before_those_that_requests_wait_for(strict: bool, least: int, first: bool) -> None:
    """What minCopies keeps and lacks a copy; where all are kept, nobody."""
    hand = Cold("pod-1", service={"strict": strict})
    hand.add("a", min_copies=least)
    assert wish.before_requests(hand.world, hand.service, hand.model("a")) is first


@pytest.mark.parametrize(("wanted", "victims_named"), [(0, 0), (10, 1), (11, 2), (20, 2), (21, 3), (100, 4)])
def test_no_more_are_named_to_make_way_than_free_what_is_wanted(wanted: int, victims_named: int) -> None:
    hand = full("pod-1", room=4)
    named = victims.in_order(hand.world, hand.world.pods["pod-1"], wanted * MI, hand.now)
    assert [victim.model.name for victim in named] == [f"a{number}" for number in range(victims_named)]


def test_a_plan_of_models_that_only_need_room_takes_a_hundred() -> None:
    """Each costs it one."""
    hand = Cold("pod-1", room=200)
    for number in range(plans.BUDGET + 20):
        hand.engine.handle(events.ModelSeen(model_spec(f"m{number:03d}")), hand.now)
    given = plans.plan_input(hand.world, SERVICE, hand.now)
    assert given is not None
    assert len(given.batch) == plans.BUDGET


def test_what_is_loaded_for_nobody_makes_way_before_what_was_used_earlier() -> None:
    hand = Cold("pod-1", room=3)
    hand.add("used")
    hand.use("used")
    hand.now += 100
    hand.add("new")
    hand.now += 100
    named = victims.in_order(hand.world, hand.world.pods["pod-1"], 10 * MI, hand.now)
    assert [victim.model.name for victim in named] == ["new"]

"""When an InferenceService that may be without pods is looked at, and what a request can count on: the pure part."""

import pytest
from shoal_operator.state.world.rest import NEVER, Alarms, Bounds, Phase, Rest
from shoal_operator.state.world.values import ServiceKey

BOUNDS = Bounds(idle=600.0, told=6.0, wake=120.0, look=60.0)


@pytest.mark.parametrize(
    ("since", "used_at", "at"),
    [
        (0.0, NEVER, 606.0),  # asked for and never used: as long as one that was used
        (0.0, 50.0, 656.0),
        (100.0, 50.0, 706.0),
    ],
)
def test_when_it_is_idle(since: float, used_at: float, at: float) -> None:
    assert Rest(since=since, used_at=used_at).idle_at(BOUNDS) == at


def test_a_steady_trickle_never_lets_it_be_idle() -> None:
    rest, now = Rest(since=0.0), 0.0
    for _ in range(100):
        now += BOUNDS.idle - 1  # a request, which its agent tells a little later
        assert now + BOUNDS.told < rest.idle_at(BOUNDS) + BOUNDS.told
        rest.use(now)
        assert rest.idle_at(BOUNDS) > now + BOUNDS.idle


@pytest.mark.parametrize(
    ("phase", "now", "expected"),
    [
        (Phase.UP, 10.0, False),  # what pods there are decides
        (Phase.EMPTYING, 10.0, True),
        (Phase.ZERO, 1e9, True),
        (Phase.WAKING, 119.0, True),
        (Phase.WAKING, 120.0, False),  # it should have come
    ],
)
def test_what_a_request_can_count_on(phase: Phase, now: float, expected: bool) -> None:
    assert Rest(phase, since=0.0).expects(BOUNDS, now) is expected


@pytest.mark.parametrize(
    ("rest", "now", "alarm"),
    [
        (Rest(Phase.UP, since=0.0), 10.0, 606.0),
        (Rest(Phase.UP, since=0.0), 700.0, 701.0),  # a request runs: looked at again
        (Rest(Phase.EMPTYING, since=0.0), 10.0, 11.0),
        (Rest(Phase.WAKING, since=0.0), 10.0, 120.0),
        (Rest(Phase.WAKING, since=0.0), 120.0, None),  # a pod that comes is told
        (Rest(Phase.ZERO, since=0.0), 10.0, None),  # a request is told
        (Rest(Phase.ZERO, since=0.0, looks=True), 10.0, 10.0),
        (Rest(Phase.ZERO, since=0.0, looks=True, looked_at=5.0), 10.0, 65.0),
    ],
)
def test_when_it_is_looked_at_again(rest: Rest, now: float, alarm: float | None) -> None:
    assert rest.alarm(BOUNDS, now, again=1.0) == alarm


def test_a_look_up_has_a_pod_asked_for_at_most_once_in_a_while() -> None:
    rest, asked = Rest(Phase.ZERO, since=0.0), []
    for now in map(float, range(300)):
        rest.want_look()
        at = rest.look_at(BOUNDS)
        if at is not None and now >= at:
            asked.append(now)
            rest.look(now)
            rest.turn(Phase.WAKING, now)
            rest.turn(Phase.ZERO, now)
    assert asked == [0.0, 60.0, 120.0, 180.0, 240.0]


def test_with_pods_nothing_waits_to_be_looked_up() -> None:
    rest = Rest(Phase.ZERO)
    rest.want_look()
    rest.turn(Phase.WAKING, 5.0)
    assert (rest.looks, rest.since) == (False, 5.0)


def test_alarms_come_in_order_and_of_each_the_earliest() -> None:
    alarms, first, second = Alarms(), ServiceKey("ns", "a"), ServiceKey("ns", "b")
    for at, key in ((9.0, first), (5.0, second), (3.0, first), (7.0, second)):
        alarms.put(at, key)
    assert alarms.next == 3.0
    assert alarms.due(2.0) is None
    assert [alarms.due(10.0), alarms.due(10.0), alarms.due(10.0)] == [first, second, None]
    alarms.put(1.0, first)
    alarms.forget(first)
    assert alarms.next is None
    other = Alarms()
    other.put(4.0, second)
    alarms.take_over(other)
    assert alarms.next == 4.0

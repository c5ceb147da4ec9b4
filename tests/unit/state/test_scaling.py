"""How many pods an autoscaled service asks for, when, and which goes first."""

from dataclasses import replace
from typing import Any

import pytest
from shoal_api.messages import ModelUse
from shoal_operator.state.demand import scaling
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import DeletionCost, ReplicasWanted
from shoal_operator.state.world.pieces import WEIGHT, Task
from shoal_operator.state.world.values import ModelKey, ScaleMetric

from .overcommitted import Cold
from .world_in_hand import MI, model_spec, pod_spec, service_spec


def scaled(*pods: str, room: int = 2, least: int = 1, most: int = 4, **given: Any) -> Cold:
    service = {"autoscaled": True, "min_replicas": least, "max_replicas": most, **given}
    return Cold(*(pods or ("pod-1",)), room=room, service=service, scale_up=15.0, scale_down=300.0)


def wanted(hand: Cold) -> list[int]:
    return [effect.replicas for effect in hand.effects if isinstance(effect, ReplicasWanted)]


def requests(hand: Cold, seconds: int, rate: int, *, busy: float = 0.0, name: str = "a") -> None:
    """Each takes ``busy`` seconds."""
    totals = hand.__dict__.setdefault("totals", {})
    for _ in range(seconds):
        hand.now += 1.0
        totals[name] = totals.get(name, 0) + rate
        use = [ModelUse(name=name, requests=totals[name], busy_seconds=totals[name] * busy, idle_seconds=0.0)]
        pod = hand.pod_of(name)
        hand.report(pod, *(hand._slot(pod, each) for each in hand.desired(pod)), use=use)
        hand.wait(0.0)


@pytest.mark.parametrize(
    ("metric", "target", "rate", "busy", "pods"),
    [
        (ScaleMetric.RPS, 10.0, 30, 0.0, 3),
        (ScaleMetric.RPS, 10.0, 9, 0.0, 1),
        (ScaleMetric.RPS, 10.0, 1000, 0.0, 4),
        (ScaleMetric.CONCURRENCY, 2.0, 10, 0.4, 2),
        (ScaleMetric.CONCURRENCY, 100.0, 10, 0.4, 1),
    ],
)
def test_load_decides(metric: ScaleMetric, target: float, rate: int, busy: float, pods: int) -> None:
    hand = scaled(scale_metric=metric, scale_target=target)
    hand.add("a")
    requests(hand, 150, rate, busy=busy)
    assert hand.service.scale.replicas == (pods if pods == 1 else wanted(hand)[-1])
    if pods == 1:
        assert wanted(hand) == [1]
    else:
        for index in range(2, 5):
            hand.join(f"pod-{index}")
        requests(hand, 60, rate, busy=busy)
        assert wanted(hand)[-1] == pods


def test_a_short_peak_changes_nothing() -> None:
    hand = scaled(scale_metric=ScaleMetric.RPS, scale_target=10.0)
    hand.add("a")
    requests(hand, 8, 15)
    hand.pass_time(120, step=5)
    assert wanted(hand) == [1]


def test_more_are_asked_for_only_when_those_before_are_there() -> None:
    hand = scaled(scale_metric=ScaleMetric.RPS, scale_target=10.0)
    hand.add("a")
    requests(hand, 40, 18)
    assert wanted(hand) == [1, 2]
    requests(hand, 60, 40)
    assert wanted(hand) == [1, 2], "the second is not there yet"
    hand.join("pod-2")
    requests(hand, 30, 40)
    assert wanted(hand)[-1] == 4


def test_fewer_one_at_a_time_and_late_and_the_least_busy_goes() -> None:
    hand = scaled("pod-1", "pod-2", "pod-3", least=1, scale_metric=ScaleMetric.RPS, scale_target=10.0)
    hand.service.scale.replicas = 3
    hand.add("a")
    busy = hand.pod_of("a")
    requests(hand, 280, 5)
    assert wanted(hand)[-1] != 2
    requests(hand, 60, 5)
    assert wanted(hand)[-1] == 2
    costs = {effect.pod_uid: effect.cost for effect in hand.effects if isinstance(effect, DeletionCost)}
    assert max(costs, key=costs.__getitem__) == busy
    kinds = [type(effect) for effect in hand.effects if isinstance(effect, DeletionCost | ReplicasWanted)]
    assert kinds.index(DeletionCost) < len(kinds) - 1 - kinds[::-1].index(ReplicasWanted), "the cost is told before"


def test_a_pod_that_cannot_take_models_goes_first() -> None:
    hand = scaled("pod-1", "pod-2", "pod-3")
    hand.service.scale.replicas = 3
    hand.do(events.PodSeen(replace(hand.world.pods["pod-2"].spec, gate_open=True, ready=True)))
    hand.do(events.AgentLost("pod-2", "0000000001"))
    for _ in range(80):
        hand.wait(5.0)
    assert hand.world.pods["pod-2"].deletion_cost == 0


def test_after_a_start_there_are_as_many_as_there_were_and_fewer_later_though_nobody_asks() -> None:
    hand = Cold.__new__(Cold)
    super(Cold, hand).__init__(recovered=False)
    hand.room, hand.broken = 2, set()
    hand.spec = service_spec(strict=False, autoscaled=True, min_replicas=1, max_replicas=5, capacity_bytes=20 * MI)
    hand.do(events.ServiceSeen(hand.spec))
    for index in range(3):
        hand.do(events.PodSeen(pod_spec(f"pod-{index}", capacity_bytes=20 * MI)))
        hand.report(f"pod-{index}")
    hand.recover()
    assert set(wanted(hand)) == {3}
    hand.pass_time(400, step=5)
    assert wanted(hand)[-1] == 2


def test_bounds_that_change_while_an_operator_starts_hold_once_it_has() -> None:
    hand = Cold.__new__(Cold)
    super(Cold, hand).__init__(recovered=False)
    hand.room, hand.broken = 2, set()
    for least in (1, 2):
        given = service_spec(strict=False, autoscaled=True, min_replicas=least, max_replicas=5, generation=least)
        hand.do(events.ServiceSeen(given))
    hand.recover()
    assert set(wanted(hand)) == {2}


def test_only_the_copies_that_lack_ask_for_pods() -> None:
    hand = scaled(room=4)
    hand.add("a", min_copies=2, memory_bytes=30 * MI)
    hand.pass_time(60, step=5)
    assert wanted(hand) == [1, 2]


def test_cold_misses_ask_for_a_pod() -> None:
    hand = scaled(room=2)
    hand.add("a", "b", "c", "d")
    for turn in range(40):
        hand.ask("abcd"[turn % 4])
        hand.pass_time(2, step=1)
    assert wanted(hand) == [1, 2]


def test_a_hot_set_that_fits_asks_for_nothing() -> None:
    hand = scaled(room=2)
    hand.add("a", "b", "c", "d")
    for _ in range(40):
        hand.ask("a")
        hand.pass_time(2, step=1)
    assert wanted(hand) == [1]


@pytest.mark.parametrize("strict", [True, False])
def test_models_that_are_kept_and_find_no_room_ask_for_pods(strict: bool) -> None:
    hand = scaled(room=2, strict=strict)
    hand.add("a", "b", "c", "d", "e", min_copies=1)
    hand.pass_time(60, step=5)
    assert wanted(hand) == [1, 3]
    hand.join("pod-2")
    hand.join("pod-3")
    hand.pass_time(20, step=1)
    assert hand.loaded_models() == {"a", "b", "c", "d", "e"}
    hand.pass_time(1000, step=10)
    assert wanted(hand)[-1] == 3, "nobody uses them, but they are kept"
    for name in ("a", "b", "c", "d"):
        hand.do(events.ModelGone(ModelKey("ns", name), f"uid-{name}"))
    hand.pass_time(1500, step=10)
    assert wanted(hand)[-1] == 1


@pytest.mark.parametrize("pinned_late", [True, False], ids=["pinned late", "made late"])
def test_models_that_pins_keep_out_ask_for_a_pod_and_keep_it(pinned_late: bool) -> None:
    hand = scaled(room=2)
    hand.add("a", "b", "c", min_copies=0) if pinned_late else hand.add("a", "b", min_copies=1)
    hand.pass_time(60, step=5)
    assert wanted(hand) == [1]
    if pinned_late:
        for name in ("a", "b"):
            hand.do(events.ModelSeen(model_spec(name, min_copies=1, generation=2)))
    else:
        hand.add("c")
    hand.pass_time(60, step=5)
    assert not hand.model("c").ready
    assert wanted(hand) == [1, 2]
    hand.join("pod-2")
    hand.pass_time(20, step=1)
    assert hand.model("c").ready
    hand.pass_time(1000, step=10)
    assert wanted(hand) == [1, 2], "with a pod less it would be kept out again"


def test_a_pod_that_only_holds_what_nobody_uses_goes_though_a_pin_and_cold_models_are_there() -> None:
    """One pod has room for the pin, and for any of the others when it is asked for."""
    hand = scaled("pod-1", "pod-2", room=3)
    hand.service.scale.replicas = 2
    hand.add("kept", min_copies=1)
    hand.add("b", "c", "d", "e", "f", "g")
    assert hand.service.cold
    hand.pass_time(400, step=10)
    assert hand.service.scale.replicas == 1


def test_what_fits_no_pod_asks_for_none() -> None:
    hand = scaled(room=2, strict=True)
    hand.add("large", memory_bytes=25 * MI)
    hand.pass_time(60, step=5)
    assert wanted(hand) == [1]


def test_idle_kept_models_do_not_hide_that_others_are_in_use() -> None:
    hand = scaled("pod-1", "pod-2", room=3)
    hand.service.scale.replicas = 2
    hand.add("kept", min_copies=1)
    hand.add("b", "c", "d", "e")
    for _ in range(100):
        for name in ("b", "c", "d", "e"):
            hand.ask(name)
        hand.pass_time(10, step=5)
    assert hand.service.scale.replicas == 2, "five models need two pods"


def test_bounds_hold_when_they_change() -> None:
    hand = scaled("pod-1", "pod-2", least=1, most=4)
    hand.do(events.ServiceSeen(service_spec(strict=False, autoscaled=True, min_replicas=3, max_replicas=4)))
    assert wanted(hand)[-1] == 3
    hand.do(events.ServiceSeen(service_spec(strict=False, autoscaled=True, min_replicas=1, max_replicas=1)))
    assert wanted(hand)[-1] == 1


def test_copies_that_need_a_pod_each_do_not_have_pods_come_and_go() -> None:
    hand = scaled(room=4)
    hand.add("a", min_copies=2)
    hand.pass_time(60, step=5)
    assert wanted(hand) == [1, 2]
    hand.join("pod-2")
    hand.pass_time(1000, step=10)
    assert wanted(hand) == [1, 2]


def test_what_is_in_use_is_added_up_a_few_pods_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all copies of all pods in one step, each five seconds."""
    looked_at: list[int] = []
    real = scaling.add_up

    def add_up(ctx: Any, key: Any, uids: Any) -> None:
        looked_at.append(len(uids))
        real(ctx, key, uids)

    monkeypatch.setattr(scaling, "add_up", add_up)
    hand = scaled("pod-1", "pod-2", "pod-3", "pod-4", least=1)
    hand.world.pieces.size = WEIGHT[Task.IN_USE]
    hand.add("a", "b", "c")
    hand.service.scale.replicas = 4
    requests(hand, 20, 1)
    assert hand.service.scale.in_use is not None
    assert hand.service.scale.in_use.used == 10 * MI, "of the one that was asked for"
    assert len(looked_at) >= 4
    assert max(looked_at) == 1


def test_requests_that_run_for_long_count_while_they_run() -> None:
    """None has begun since, and the server is as busy as before."""
    hand = scaled(scale_metric=ScaleMetric.CONCURRENCY, scale_target=1.0)
    hand.add("a")
    for second in range(60):
        hand.now += 1.0
        hand.use("a", 1, busy_seconds=0.75 * second, in_flight=1)
    assert hand.service.concurrency.at(hand.now) > 0.7


def test_why_there_are_as_many_as_there_are_is_said_until_it_is_another_reason() -> None:
    hand = scaled(scale_metric=ScaleMetric.RPS, scale_target=10.0)
    assert hand.service.scale.reason == "as many as there were"
    hand.add("a")
    requests(hand, 60, 18)
    why = hand.service.scale.reason
    assert "requests a second" in why
    hand.do(events.ServiceSeen(replace(hand.spec, max_replicas=3, generation=2)))
    assert hand.service.scale.reason == why

"""Which copies count as moves that are under way: no more of them are begun at once than a service can load."""

import pytest
from shoal_operator.state.owners import evening_out
from shoal_operator.state.world import events
from shoal_operator.state.world.entities import Model, Pod, Service, World
from shoal_operator.state.world.values import ModelKey

from .overcommitted import Cold
from .world_in_hand import MI, Hand, model_spec, pod_spec, service_spec


def under_way(hand: Cold) -> int:
    return evening_out.candidates(hand.world, hand.service)[1]


def test_what_is_unloaded_or_has_failed_is_no_move_under_way() -> None:
    """Else pods that joined would stay empty for as long as many models leave the others."""
    hand = Cold("pod-1", "pod-2", room=5)
    hand.broken.add("bad")
    hand.add("a", "b", "c", "bad")
    assert under_way(hand) == 0
    for name in ("a", "b"):
        hand.do(events.ModelGone(ModelKey("ns", name), f"uid-{name}"))
    assert under_way(hand) == 0
    hand.ask("c")
    hand.do(events.ModelSeen(hand.model("bad").spec))
    assert under_way(hand) == 0


def crowded() -> Hand:
    """Six models on one of two pods, of which the other has just come."""
    hand = Hand().with_pods("pod-1").with_loaded(*(model_spec(f"m{number}") for number in range(6)))
    hand.do(events.ServiceSeen(service_spec(min_replicas=2, generation=2)))
    return hand


def test_what_moves_is_known_until_one_copy_is_left_and_no_longer() -> None:
    hand = crowded()
    hand.do(events.PodSeen(pod_spec("pod-2")))
    hand.report("pod-2")
    service = hand.world.services[service_spec().key]
    moving = set(hand.desired("pod-2"))
    assert {key.name for key in service.evening_out} == moving
    assert len(moving) == 3
    gone = min(moving)
    hand.do(events.ModelGone(ModelKey("ns", gone), f"uid-{gone}"))
    for _ in range(5):
        for uid in ("pod-1", "pod-2"):
            hand.loaded(uid)
        hand.acknowledge()
        hand.wait(2.0)
    evening_out.candidates(hand.world, service)
    assert not service.evening_out
    assert len(hand.desired("pod-1")) + len(hand.desired("pod-2")) == 5


def test_what_is_another_services_by_now_or_of_no_known_size_does_not_move() -> None:
    hand = crowded()
    hand.do(events.ServiceSeen(service_spec(name="other", uid="service-2")))
    hand.do(events.ModelSeen(model_spec("m0", service="other", generation=2)))
    hand.do(events.ModelGone(ModelKey("ns", "m1"), "uid-m1"))
    service = hand.world.services[service_spec().key]
    hand.do(events.PodSeen(pod_spec("pod-2")))
    hand.report("pod-2")
    movable = {model.spec.name for model in evening_out.candidates(hand.world, service)[0]}
    assert movable
    assert movable <= {"m2", "m3", "m4", "m5"}


def test_of_many_full_pods_the_fullest_give_away_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evening_out, "MAX_FULL_PODS", 1)
    asked: list[str] = []

    def nothing(world: World, service: Service, pod: Pod, most: int) -> dict[ModelKey, Model]:
        asked.append(pod.spec.uid)
        return {}

    monkeypatch.setattr(evening_out, "_movable", nothing)
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec(min_replicas=3)))
    for uid, capacity in (("pod-1", 12), ("pod-2", 10), ("pod-3", 100)):
        hand.do(events.PodSeen(pod_spec(uid, capacity_bytes=capacity * MI)))
        hand.report(uid)
    hand.with_loaded(model_spec(min_copies=3))
    asked.clear()
    evening_out.candidates(hand.world, hand.world.services[service_spec().key])
    assert asked == ["pod-2"]

"""A pod's gate: closed until its share is placed and loaded, and no reason to send requests to a pod that is dead."""

import pytest
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import Effect, GateChanged

from .world_in_hand import Hand, model_spec, pod_spec, service_spec

MODELS = [f"m{index}" for index in range(5)]


def _opened(effects: list[Effect]) -> list[str]:
    return [effect.pod_uid for effect in effects if isinstance(effect, GateChanged)]


def test_it_stays_closed_while_the_service_waits_for_its_other_pods() -> None:
    hand = Hand(first_placement=20.0)
    hand.do(events.ServiceSeen(service_spec(min_replicas=3)))
    for name in MODELS:
        hand.do(events.ModelSeen(model_spec(name)))
    hand.do(events.PodSeen(pod_spec("pod-1")))
    hand.report("pod-1")
    assert not [uid for _ in range(12) for uid in _opened(hand.wait(0.3))], "nothing is placed yet"
    hand.wait(20.0)
    assert not [uid for _ in range(5) for uid in _opened(hand.wait(0.3))], "placed, and not loaded"
    hand.loaded("pod-1")
    assert [uid for _ in range(5) for uid in _opened(hand.wait(0.3))] == ["pod-1"]


def test_it_opens_in_the_end_also_when_nothing_is_ever_placed() -> None:
    hand = Hand(first_placement=1000.0, gate=30.0)
    hand.do(events.ServiceSeen(service_spec(min_replicas=3)))
    hand.do(events.PodSeen(pod_spec("pod-1")))
    hand.report("pod-1")
    hand.wait(0.3)
    assert _opened(hand.wait(29.0)) == []
    assert [uid for _ in range(5) for uid in _opened(hand.wait(1.0))] == ["pod-1"]


@pytest.mark.parametrize("gate_open", [True, False])
def test_a_pod_that_dies_is_out_of_the_routes_whether_or_not_its_gate_was_open(gate_open: bool) -> None:
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec(min_replicas=2)))
    for uid in ("pod-1", "pod-2"):
        hand.do(events.PodSeen(pod_spec(uid, gate_open=gate_open, ready=gate_open)))
        hand.report(uid)
    for name in MODELS:
        hand.do(events.ModelSeen(model_spec(name)))
    for uid in ("pod-1", "pod-2"):
        hand.loaded(uid)
    mine = [name for name in MODELS if hand.route(name) == {"pod-1"}]
    assert mine
    hand.do(events.AgentLost("pod-1", "0000000001"))
    if gate_open:
        assert all(hand.route(name) == {"pod-1"} for name in mine), "the server beside a lost agent still answers"
        hand.do(events.PodSeen(pod_spec("pod-1", gate_open=True, ready=False)))
    assert not any(hand.route(name) == {"pod-1"} for name in mine)


def test_a_pod_that_has_to_wait_keeps_no_other_services_gate_closed() -> None:
    hand = Hand(first_placement=1000.0, gate=600.0)
    hand.do(events.ServiceSeen(service_spec(min_replicas=3)))
    hand.do(events.ServiceSeen(service_spec(name="other", uid="service-2", min_replicas=1)))
    for uid, service in (("pod-1", "svc"), ("pod-2", "other")):
        hand.do(events.PodSeen(pod_spec(uid, service=service)))
        hand.report(uid)
    assert [uid for _ in range(5) for uid in _opened(hand.wait(0.3))] == ["pod-2"]

"""Pods that come, fall ill, come back and go: what each means for the models that they hold or were to hold."""

from dataclasses import replace
from typing import Any

import pytest
from shoal_api.messages import CopyPhase, ServerReport
from shoal_operator.state.pods.health import drained
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import DesiredChanged, GateChanged, PodEndpointChanged, ServiceStatusChanged
from shoal_operator.state.world.values import Problem

from .overcommitted import Cold
from .world_in_hand import KEY, MI, Hand, model_spec, pod_spec, service_spec, slot

DOWN = ServerReport(type="mlserver", ready=False)
FAILING = Problem("CrashLoopBackOff", "Its container keeps ending.")
SESSION = "0000000001"


def other_of(pod: str) -> str:
    return {"pod-1": "pod-2", "pod-2": "pod-1"}[pod]


@pytest.mark.parametrize(
    ("first", "then", "proven"),
    [
        ({}, {}, False),
        ({"ready": True}, {}, True),
        ({"gate_open": True}, {}, True),
        ({}, {"ready": True}, True),
        ({}, {"gate_open": True}, True),
    ],
    ids=str,
)
def test_a_pod_that_was_ready_once_is_trusted_by_its_agents_word(
    first: dict[str, Any], then: dict[str, Any], proven: bool
) -> None:
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec(**first)))
    hand.report()
    hand.do(events.PodSeen(pod_spec(**then)))
    hand.do(events.PodSeen(pod_spec(problem=FAILING)))
    assert hand.world.pods["pod-1"].serves is proven


def test_what_is_wrong_with_a_pod_or_what_it_waits_for_is_told_of_when_it_changes() -> None:
    hand = Hand().with_pods("pod-1")
    changes: tuple[dict[str, Any], ...]
    changes = ({"waiting": "for its image"}, {"problem": FAILING}, {"ready": True}, {"deleting": True})
    for change in changes:
        before = hand.world.pods["pod-1"].spec
        told = hand.do(events.PodSeen(replace(before, **change)))
        assert ServiceStatusChanged(service_spec().key) in told, change


def test_a_pod_that_offers_another_amount_takes_as_much_as_that() -> None:
    hand = Hand().with_pods("pod-1")
    hand.do(events.PodSeen(pod_spec(capacity_bytes=15 * MI)))
    hand.do(events.ModelSeen(model_spec("a")))
    hand.do(events.ModelSeen(model_spec("b")))
    assert len(hand.desired()) == 1


def test_another_address_is_where_requests_go() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    told = hand.do(events.PodSeen(pod_spec(ip="10.0.0.9")))
    assert [each.ip for each in told if isinstance(each, PodEndpointChanged)] == ["10.0.0.9"]


def test_a_pod_whose_agent_spoke_before_it_had_an_address_takes_models_once_it_has_one() -> None:
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.ModelSeen(model_spec()))
    hand.do(events.PodSeen(pod_spec(ip="")))
    hand.report()
    assert not hand.desired()
    hand.do(events.PodSeen(pod_spec()))
    assert set(hand.desired()) == {"m"}


def test_a_pod_more_than_wanted_has_room_for_who_was_refused() -> None:
    """During a rollout nothing is evened out, so nothing else would have it placed there."""
    hand = Hand().with_pods("pod-1").with_loaded(model_spec("big", memory_bytes=95 * MI))
    hand.do(events.ModelSeen(model_spec()))
    assert hand.route() == "InsufficientMemory"
    hand.do(events.PodSeen(pod_spec("pod-2")))
    hand.report("pod-2")
    hand.wait(1.0)
    assert set(hand.desired("pod-2")) == {"m"}


def test_a_pod_more_than_wanted_has_room_for_what_is_cold() -> None:
    hand = Cold("pod-1", room=1)
    hand.add("a", "b")
    hand.pass_time(5.0)
    assert len(hand.loaded_models()) == 1
    hand.join("pod-2")
    hand.pass_time(2.0)
    assert hand.loaded_models() == {"a", "b"}


def test_during_a_rollout_nothing_is_moved_to_the_pod_that_is_one_too_many() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(*(model_spec(f"m{number}") for number in range(6)))
    hand.do(events.PodSeen(pod_spec("pod-2")))
    hand.report("pod-2")
    hand.wait(1.0)
    assert not hand.desired("pod-2")
    hand.do(events.PodSeen(pod_spec("pod-1", deleting=True)))
    assert len(hand.desired("pod-2")) == 6


class TestALostAgent:
    def test_what_it_was_to_load_is_loaded_elsewhere(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2")
        hand.do(events.ModelSeen(model_spec()))
        (first,) = [uid for uid in ("pod-1", "pod-2") if hand.desired(uid)]
        told = hand.do(events.AgentLost(first, SESSION))
        assert set(hand.desired(other_of(first))) == {"m"}
        assert ServiceStatusChanged(service_spec().key) in told

    def test_what_it_has_loaded_stays_where_it_is(self) -> None:
        hand = Hand()
        hand.do(events.ServiceSeen(service_spec(min_replicas=2)))
        for uid in ("pod-1", "pod-2"):
            hand.do(events.PodSeen(pod_spec(uid, ready=True, gate_open=True)))
            hand.report(uid)
        hand.with_loaded(model_spec())
        first = hand.pod_of()
        hand.do(events.AgentLost(first, SESSION))
        hand.wait(60.0)
        assert hand.route() == {first}
        assert not hand.desired(other_of(first))

    def test_the_word_that_an_earlier_process_of_it_is_gone_says_nothing(self) -> None:
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.AgentLost("pod-1", "0000000000"))
        assert hand.world.pods["pod-1"].placeable
        assert hand.route() == {"pod-1"}

    def test_with_a_pod_that_nobody_vouches_for_the_models_are_elsewhere_after_a_while(self) -> None:
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
        first = hand.pod_of()
        hand.do(events.AgentLost(first, SESSION))
        hand.wait(16.0)
        assert set(hand.desired(other_of(first))) == {"m"}


class TestAServerThatWasGivenUp:
    def given_up(self) -> tuple[Hand, str]:
        """The pod's model is loaded on another one by now."""
        hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
        first = hand.pod_of()
        hand.report(first, slot("m", None, target=hand.desired(first)["m"], phase=CopyPhase.WAITING), server=DOWN)
        hand.wait(15.0)
        hand.loaded(other_of(first))
        assert hand.route() == {other_of(first)}
        return hand, first

    def test_one_copy_is_enough_once_it_is_back(self) -> None:
        hand, first = self.given_up()
        hand.loaded(first)
        hand.acknowledge()
        hand.wait(2.0)
        assert len(hand.desired("pod-1")) + len(hand.desired("pod-2")) == 1
        hand.do(events.ModelSeen(model_spec("n", memory_bytes=95 * MI)))
        assert hand.world.pods[first].placeable

    def test_one_copy_is_enough_also_where_it_has_lost_nothing(self) -> None:
        """Its agent has nothing to say of its models: they were there all the while; nor is anything evened out."""
        hand = Hand().with_pods("pod-1").with_loaded(model_spec())
        hand.do(events.PodSeen(pod_spec("pod-2")))
        hand.report("pod-2")
        first = "pod-1"
        held = slot("m", hand.desired(first)["m"])
        hand.report(first, held, server=DOWN)
        hand.wait(15.0)
        hand.loaded(other_of(first))
        hand.report(first, held)
        hand.acknowledge()
        hand.wait(2.0)
        assert len(hand.desired("pod-1")) + len(hand.desired("pod-2")) == 1

    def test_it_may_fall_ill_again(self) -> None:
        hand, first = self.given_up()
        hand.loaded(first)
        hand.acknowledge()
        hand.wait(2.0)
        hand.report(first, server=DOWN)
        hand.wait(14.0)
        assert not hand.world.pods[first].leaving, "its server has some time once more"
        hand.wait(2.0)
        assert hand.world.pods[first].leaving

    def test_one_that_is_gone_is_looked_at_no_more(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.report("pod-1", server=DOWN)
        hand.do(events.PodGone("pod-1"))
        hand.wait(20.0)
        assert not hand.world.pods


def test_a_model_whose_new_pod_goes_before_it_took_over_is_placed_on_another() -> None:
    """The pod that goes first still holds it: it is not without a copy, and yet has none that stays."""
    hand = Hand().with_pods("pod-1", "pod-2", "pod-3").with_loaded(model_spec())
    first = hand.pod_of()
    hand.do(events.PodSeen(replace(hand.world.pods[first].spec, deleting=True)))
    (second,) = [uid for uid in hand.world.pods if uid != first and hand.desired(uid)]
    (third,) = {"pod-1", "pod-2", "pod-3"} - {first, second}
    hand.do(events.PodGone(second))
    assert set(hand.desired(third)) == {"m"}
    assert hand.route() == {first}


def test_a_pod_that_is_gone_is_gone_once() -> None:
    hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
    first = hand.pod_of()
    hand.do(events.PodGone(first))
    assert not [each for each in hand.do(events.PodGone(first)) if isinstance(each, PodEndpointChanged)]
    hand.wait(1.0)  # nor is its gate looked at any more
    assert set(hand.world.pods) == {other_of(first)}


def test_the_gateway_is_not_told_of_an_address_that_it_never_knew() -> None:
    hand = Hand()
    hand.do(events.PodSeen(pod_spec(ip="")))
    assert not [each for each in hand.do(events.PodGone("pod-1")) if isinstance(each, PodEndpointChanged)]


class TestAGate:
    def test_it_is_opened_once(self) -> None:
        hand = Hand().with_pods("pod-1")
        opened = [each for _ in range(20) for each in hand.wait(0.25) if isinstance(each, GateChanged)]
        assert len(opened) == 1

    def test_one_that_is_open_is_not_opened_again(self) -> None:
        hand = Hand().with_pods("pod-1")
        hand.do(events.PodSeen(pod_spec(gate_open=True)))
        assert not [each for _ in range(8) for each in hand.wait(0.25) if isinstance(each, GateChanged)]

    def test_a_pod_of_no_service_keeps_its_gate_closed_and_not_for_ever(self) -> None:
        hand = Hand(gate=30.0)
        hand.do(events.PodSeen(pod_spec()))
        hand.report()
        assert not [each for _ in range(8) for each in hand.wait(0.25) if isinstance(each, GateChanged)]
        assert [each for each in hand.wait(30.0) if isinstance(each, GateChanged)]

    def test_one_whose_server_is_down_stays_closed(self) -> None:
        hand = Hand(gate=30.0).with_pods("pod-1")
        hand.report("pod-1", server=DOWN)
        assert not [each for _ in range(8) for each in hand.wait(10.0) if isinstance(each, GateChanged)]


def test_a_pod_may_go_once_nothing_on_it_answers_or_what_does_is_being_unloaded() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    assert not drained(hand.world, "pod-1")
    hand.do(events.ModelGone(KEY, "uid-m"))
    assert not drained(hand.world, "pod-1"), "requests may still come"
    hand.acknowledge()
    hand.wait(1.0)
    assert drained(hand.world, "pod-1")
    assert drained(hand.world, "nobody")


def test_a_request_has_a_load_that_is_under_way_hurried_and_no_longer_than_it_waits() -> None:
    hand = Hand()
    hand.do(events.ServiceSeen(service_spec(strict=False, activation_timeout=10.0)))
    hand.do(events.PodSeen(pod_spec()))
    hand.report()
    hand.do(events.ModelSeen(model_spec()))
    hand.wait(1.0)

    def urgent() -> bool:
        intent = hand.world.pods["pod-1"].desired.get("m")
        assert intent is not None
        return intent.urgent

    assert not urgent()
    assert DesiredChanged("pod-1") in hand.do(events.Requested(service_spec().key, "m"))
    assert urgent()
    told = [each for _ in range(6) for each in hand.wait(5.0)]
    assert not urgent()
    assert DesiredChanged("pod-1") in told

"""What hostile tenants, clients and machines did to services that may be without pods."""

import pytest
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import ReplicasWanted
from shoal_operator.state.world.entities import Stage
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import ModelKey

from .test_to_zero import IDLE, KEY, LOOK, SERVICE, TOLD, WAKE, Zero, used
from .world_in_hand import MI, Hand, model_spec, pod_spec, service_spec


def again(hand: Zero, generation: int = 2, **given: object) -> None:
    """The InferenceService is edited."""
    bounds = {"strict": False, "min_replicas": 1, "capacity_bytes": hand.spec.capacity_bytes}
    hand.do(events.ServiceSeen(service_spec(**{**bounds, **SERVICE, "generation": generation, **given})))


def leaving(uid: str) -> events.PodSeen:
    return events.PodSeen(pod_spec(uid, capacity_bytes=20 * MI, deleting=True))


@pytest.mark.parametrize("shown", [True, False], ids=["told that it goes", "gone at once"])
def test_a_request_that_comes_while_the_last_pod_is_being_taken_waits_for_the_next(shown: bool) -> None:
    """Between the decision and the pod's end there is a pod, which serves; its successor is as far away as ever."""
    hand = used("a", "b")
    hand.pass_time(IDLE + TOLD + 5, step=1.0)
    assert hand.phase is Phase.ZERO
    hand.ask("a")
    assert hand.wanted[-1] == 1
    hand.pass_time(1)
    assert hand.route("a") == {"pod-1"}
    if shown:
        hand.do(leaving("pod-1"))
    hand.do(events.PodGone("pod-1"))
    hand.ask("a")
    assert (hand.phase, hand.ready("a"), hand.ready("b")) == (Phase.WAKING, *(("True", "OnDemand"),) * 2)
    assert (hand.refused("a"), hand.timeout("a")) == ("Cold", WAKE)
    hand.join("pod-2")
    hand.pass_time(2)
    assert (hand.phase, hand.route("a")) == (Phase.UP, {"pod-2"})


def test_a_pod_that_is_evicted_is_waited_for_as_one_that_was_asked_for() -> None:
    hand = used("a")
    hand.do(events.PodGone("pod-1"))
    assert (hand.phase, hand.refused("a"), hand.ready("a")) == (Phase.WAKING, "Cold", ("True", "OnDemand"))
    hand.wait(WAKE + 1)
    assert (hand.refused("a"), hand.ready("a")) == ("InferenceServiceNotReady", ("False", "PodsNotReady"))
    assert hand.wanted[-1] == 1


def test_one_of_two_pods_that_goes_leaves_it_as_it_is() -> None:
    hand = Zero("pod-1", "pod-2", min_replicas=2)
    hand.add("a")
    hand.do(events.PodGone("pod-1"))
    assert hand.phase is Phase.UP
    hand.do(leaving("pod-2"))
    assert hand.phase is Phase.WAKING


def test_a_server_that_goes_down_and_stays_down_does_not_flap() -> None:
    """Its pod is there: nobody replaces it, and no request can count on it."""
    hand = used("a")
    hand.report("pod-1", server=hand.world.pods["pod-1"].server.model_copy(update={"ready": False}))
    seen = []
    for _ in range(100):
        hand.wait(2)
        seen.append((hand.phase, hand.ready("a")))
    assert set(seen) == {(Phase.UP, ("False", "PodsNotReady"))}


def test_a_longer_wake_timeout_holds_for_the_pod_that_is_late_already() -> None:
    hand = used("a")
    hand.sleep()
    hand.ask("a")
    hand.wait(WAKE + 1)
    assert hand.ready("a") == ("False", "PodsNotReady")
    again(hand, wake_timeout=600.0)
    assert (hand.ready("a"), hand.refused("a")) == (("True", "OnDemand"), "Cold")
    again(hand, 3, wake_timeout=1.0, activation_timeout=1.0)
    assert (hand.ready("a"), hand.refused("a")) == (("False", "PodsNotReady"), "InferenceServiceNotReady")


def test_an_edit_while_an_operator_starts_takes_no_pod_away() -> None:
    """Which pods there are is not known before they are listed: none were seen is not that there are none."""
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec(strict=False)))
    hand.do(events.ServiceSeen(service_spec(strict=False, generation=2, **SERVICE)))
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    assert not [each for each in hand.effects if isinstance(each, ReplicasWanted)]
    hand.recover()
    hand.report()
    assert {each.replicas for each in hand.effects if isinstance(each, ReplicasWanted)} == {1}


def test_0_then_1_then_0_at_zero_and_while_a_pod_starts() -> None:
    hand = used("a")
    hand.sleep()
    again(hand, 2, idle=None)
    assert hand.phase is Phase.UP
    hand.do(events.PodSeen(pod_spec("pod-2", capacity_bytes=20 * MI)))
    again(hand, 3)
    assert (hand.phase, hand.wanted[-1]) == (Phase.WAKING, 1), "the pod that starts is not taken away"
    hand.join("pod-2")
    hand.pass_time(1)
    hand.sleep()
    again(hand, 4, idle=None)
    again(hand, 5)
    assert (hand.phase, hand.wanted[-1], hand.ready("a")) == (Phase.ZERO, 0, ("True", "OnDemand"))


def test_it_is_deleted_and_made_again_while_there_is_no_pod() -> None:
    hand = used("a")
    hand.sleep()
    hand.do(events.ServiceGone(KEY, "service-1"))
    assert hand.ready("a") == ("False", "InferenceServiceNotFound")
    hand.wait(2 * IDLE)
    again(hand, uid="service-2")
    assert (hand.phase, hand.wanted[-1], hand.ready("a")) == (Phase.ZERO, 0, ("True", "OnDemand"))
    hand.ask("a")
    assert hand.wanted[-1] == 1


def test_a_model_that_is_deleted_while_it_is_looked_up_keeps_no_pod() -> None:
    hand = Zero()
    hand.do(events.ModelSeen(model_spec("m")))
    hand.join("pod-1")
    assert hand.world.pods["pod-1"].probes
    hand.do(events.ModelGone(ModelKey("ns", "m"), "uid-m"))
    hand.pass_time(IDLE + TOLD + 5, step=1.0)
    assert (hand.phase, hand.wanted[-1]) == (Phase.ZERO, 0)


def test_an_agent_that_is_away_while_its_pod_is_emptied_keeps_it() -> None:
    hand = used("a")
    hand.now += IDLE + TOLD + 1
    hand.wait(0)
    hand.do(events.AgentLost("pod-1", "0000000001"))
    for _ in range(60):
        hand.wait(5)
        hand.acknowledge()
    assert (hand.phase, hand.wanted[-1]) == (Phase.EMPTYING, 1), "a request may run there"
    hand.report("pod-1", session="0000000002")
    hand.pass_time(5)
    assert (hand.phase, hand.wanted[-1]) == (Phase.ZERO, 0)


def test_where_nobody_knows_which_requests_run_pods_stay_as_long_as_one_may() -> None:
    hand = Zero("pod-1", unseen=300.0)
    hand.add("a")
    hand.pass_time(2)
    hand.use("a")
    hand.pass_time(IDLE + TOLD + 5, step=1.0)
    assert (hand.phase, hand.loaded_models()) == (Phase.EMPTYING, set())
    hand.pass_time(280, step=10.0)
    assert (hand.phase, hand.wanted[-1]) == (Phase.EMPTYING, 1)
    hand.pass_time(20, step=10.0)
    assert (hand.phase, hand.wanted[-1]) == (Phase.ZERO, 0)


def test_a_model_that_never_loads_is_tried_no_more_often_for_all_who_ask() -> None:
    hand = Zero("pod-1")
    hand.broken = {"a"}
    hand.add("a")
    hand.sleep()
    began, woken = hand.now, 0
    for _ in range(600):
        hand.now += 1
        hand.ask("a")
        hand.wait(0)
        if hand.phase is Phase.WAKING:  # and is taken away at once, as the shortest idle time has it nearly
            hand.service.rest.turn(Phase.ZERO, hand.now)
            woken += 1
    assert woken <= 1 + (hand.now - began) / LOOK


def test_an_artifact_that_is_looked_up_while_pods_are_emptied_is_waited_for() -> None:
    hand = used("a")
    hand.now += IDLE + TOLD + 1
    hand.wait(0)
    hand.do(events.ModelSeen(model_spec("b", memory_bytes=None)))
    hand.acknowledge()
    hand.wait(2)
    hand.report("pod-1")
    hand.wait(5)
    assert hand.world.pods["pod-1"].probes
    assert hand.phase is Phase.EMPTYING


class TestEmptiedInPieces:
    def resting(self) -> Zero:
        """It is time to empty the pod, of which no step does more than one."""
        hand = used("a", "b")
        hand.world.pieces.size = 1
        hand.now += IDLE + TOLD + 1
        return hand

    def test_all_of_it_at_once(self) -> None:
        hand = self.resting()
        hand.wait(0)
        assert (hand.phase, hand.route("a"), hand.route("b")) == (Phase.EMPTYING, "Cold", "Cold")

    def test_a_request_ends_it_for_what_is_left(self) -> None:
        hand = self.resting()
        hand.engine.handle(events.Tick(), hand.now)
        assert hand.phase is Phase.EMPTYING
        left = [name for name in ("a", "b") if hand.world.pods["pod-1"].copies[name].stage is Stage.PLACED]
        assert len(left) == 1
        hand.do(events.Requested(KEY, {"a": "b", "b": "a"}[left[0]]))
        assert (hand.phase, hand.route(left[0])) == (Phase.UP, {"pod-1"})


def test_pods_stay_while_an_artifact_is_being_looked_up() -> None:
    hand = used("a")
    hand.do(events.ModelSeen(model_spec("new", memory_bytes=None)))
    hand.now += IDLE + TOLD + 1
    hand.wait(0)
    assert hand.phase is Phase.UP
    hand.pass_time(2)
    assert hand.phase is Phase.EMPTYING

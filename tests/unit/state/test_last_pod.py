"""An InferenceService that loses its last pod: its requests can be held, and the next pod loads what they ask for."""

from shoal_operator.state.world import events
from shoal_operator.state.world.effects import ServiceRouteChanged
from shoal_operator.state.world.values import ServiceKey

from .world_in_hand import Hand, model_spec, pod_spec


def test_requests_reach_the_activator_until_a_pod_is_back() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    gone = hand.do(events.PodGone("pod-1"))
    assert any(isinstance(effect, ServiceRouteChanged) and effect.known and not effect.pods for effect in gone)
    assert (hand.route(), hand.refused()) == ("Cold", "InferenceServiceNotReady")
    hand.wait(3)
    hand.do(events.PodSeen(pod_spec("pod-2", ip="10.0.0.2")))
    hand.report("pod-2")
    assert hand.refused() == "Cold"
    hand.do(events.Requested(ServiceKey("ns", "svc"), "m"))  # the activator says so each second that a request waits
    hand.wait(1)
    assert set(hand.desired("pod-2")) == {"m"}
    hand.loaded("pod-2")
    assert hand.route() == {"pod-2"}


def test_of_a_service_that_was_deleted_the_refusal_says_what_the_condition_says() -> None:
    """It named a pod that is not ready, and said to describe an InferenceService that was not there."""
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    gone = hand.do(events.ServiceGone(ServiceKey("ns", "svc"), "service-1"))
    gone += hand.do(events.PodGone("pod-1"))
    assert (hand.route(), hand.refused()) == ("Cold", "InferenceServiceNotFound")
    assert not any("NotFound" in str(effect) for effect in gone)  # no route of a model changes with its service

"""An InferenceService's policy for its requests reaches the gateway in one effect, whatever number of models it has."""

from shoal_operator.state.world import events
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged, ServiceRouteChanged
from shoal_operator.state.world.values import DEFAULT_POLICY, RoutePolicy, ServiceKey

from .world_in_hand import Hand, model_spec, pod_spec, service_spec

KEY = ServiceKey("ns", "svc")


def test_a_change_is_one_effect() -> None:
    hand = Hand().with_pods("pod-1")
    for number in range(20):
        hand.do(events.ModelSeen(model_spec(f"m{number}")))
    (first, *_) = [each for each in hand.effects if isinstance(each, ServiceRouteChanged)]
    assert first.policy == DEFAULT_POLICY
    policy = RoutePolicy(timeout=7.0, path_style=False)
    found = hand.do(events.ServiceSeen(service_spec(policy=policy)))
    (changed,) = [each for each in found if isinstance(each, ServiceRouteChanged)]
    assert (changed.service, changed.known, changed.policy) == (KEY, True, policy)
    assert changed.pods == {"pod-1"}
    assert not any(isinstance(each, RouteChanged) for each in found)
    again = hand.do(events.ServiceSeen(service_spec(policy=policy)))
    assert not any(isinstance(each, ServiceRouteChanged) for each in again)


def test_it_is_said_after_a_start_and_when_the_pods_change() -> None:
    policy = RoutePolicy(retries=1)
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec(policy=policy)))
    hand.recover()
    for uid in ("pod-1", "pod-2"):
        hand.do(events.PodSeen(pod_spec(uid)))
        hand.report(uid)
    said = [each for each in hand.effects if isinstance(each, ServiceRouteChanged)]
    assert {frozenset(each.pods) for each in said} >= {frozenset({"pod-1"}), frozenset({"pod-1", "pod-2"})}
    assert all(each.policy == policy for each in said)


def test_a_pods_address_says_whose_it_is() -> None:
    hand = Hand().with_pods("pod-1")
    known = [each for each in hand.effects if isinstance(each, PodEndpointChanged)]
    assert [each.service for each in known if each.ip] == [KEY]

"""Agents that come after the recovery has ended without them: what they hold stays loaded."""

from shoal_api.messages import copy_id
from shoal_operator.state.pods.health import desired
from shoal_operator.state.world import events

from .world_in_hand import Hand, model_spec, pod_spec, service_spec, slot


def recovered_without_its_agent() -> Hand:
    """A store that was lost and a certificate authority that is new: the operator knows nothing, nor hears anything."""
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.ModelSeen(model_spec()))
    hand.do(events.PodSeen(pod_spec()))
    hand.recover()
    hand.wait(60.0)
    assert not hand.world.recovering
    return hand


def test_a_late_agent_is_told_nothing_until_it_has_said_what_it_holds() -> None:
    hand = recovered_without_its_agent()
    # It knows an earlier operator, and so sends only what changed since: nothing.
    hand.report("pod-1", observed_base=7, observed_version=7, desired_version=3)
    assert desired(hand.world, "pod-1") is None, "an empty list would have it unload everything"
    hand.report(
        "pod-1", slot("m", copy_id(model_spec().uid, model_spec().content)), observed_version=8, desired_version=3
    )
    told = desired(hand.world, "pod-1")
    assert told is not None
    assert [intent.name for intent in told] == ["m"]
    assert hand.route() == {"pod-1"}


def test_a_late_agent_that_sends_everything_at_once_is_answered_at_once() -> None:
    hand = recovered_without_its_agent()
    hand.report("pod-1")
    assert desired(hand.world, "pod-1") is not None


def test_nothing_is_told_while_recovering() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec()))
    hand.report("pod-1")
    assert desired(hand.world, "pod-1") is None


def test_agents_have_their_time_from_when_they_can_connect() -> None:
    """A slow store or API server used it up: routes went out without the models of agents that came a moment later."""
    hand = Hand(recovered=False)
    hand.now = 31.0
    hand.do(events.EpochClaimed(2))
    hand.do(events.StoreLoaded(()))
    hand.do(events.ServiceSeen(service_spec(min_replicas=1, strict=False)))
    hand.do(events.PodSeen(pod_spec("pod-1", ready=True, gate_open=True)))
    hand.do(events.ModelSeen(model_spec()))
    for kind in events.Kind:
        hand.do(events.Listed(kind))
    assert hand.world.recovering
    hand.wait(29.0)
    assert hand.world.recovering
    hand.report("pod-1", slot("m", f"uid-m.{model_spec().content}"))
    assert not hand.world.recovering
    assert hand.route() == {"pod-1"}

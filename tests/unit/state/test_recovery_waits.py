"""A new operator does not wait for ever, for anybody: not for an agent, nor for pods that never come."""

from shoal_operator.state.world import events
from shoal_operator.state.world.effects import Recovered, WakeAt

from .world_in_hand import Hand, model_spec, pod_spec, service_spec


def test_it_asks_to_be_woken_for_an_agent_that_says_nothing() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec()))
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    hand.recover()
    wakes = [effect.at for effect in hand.effects if isinstance(effect, WakeAt)]
    assert wakes == [hand.world.timing.recovery]
    hand.now = wakes[-1]
    assert any(isinstance(effect, Recovered) for effect in hand.do(events.Tick()))


def test_a_service_that_comes_after_its_pods_does_not_wait_for_ever_for_one_of_them() -> None:
    hand = Hand()
    for uid in ("pod-1", "pod-2"):
        hand.do(events.PodSeen(pod_spec(uid)))
    hand.report("pod-1")  # the other one's image cannot be pulled
    hand.do(events.ModelSeen(model_spec()))
    hand.do(events.ServiceSeen(service_spec(min_replicas=2)))
    assert not hand.desired()
    hand.wait(21)
    assert set(hand.desired()) == {"m"}


def test_what_no_status_vouches_for_is_not_ready_before_an_agent_has_seen_it() -> None:
    hand = Hand(recovered=False)
    hand.do(events.ServiceSeen(service_spec(strict=False)))
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    hand.do(events.ModelSeen(model_spec()))
    hand.report("pod-1")
    hand.recover()
    assert not hand.world.models[model_spec().key].ready

"""What waits for a time happens at that time and not before, though nothing else happens: the world asks to be woken.

A deadline that is missed by a hair is never met: whoever it concerned would wait for somebody else's event.
"""

from collections.abc import Callable

import pytest
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import GateChanged, ReplicasWanted
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import ModelKey

from .overcommitted import SERVICE, Cold
from .test_freshness import full as told_long_ago
from .world_in_hand import KEY, MI, Hand, model_spec, pod_spec, service_spec, slot

FOUND = "0123456789abcdef"
Story = tuple[Hand, float, Callable[[], bool]]
"""A world, when something is to happen in it, and whether it has."""


def asleep_until(hand: Hand, moment: float) -> None:
    """Time passes as the operator's does: it is woken when it has asked for that, and never otherwise."""
    while hand.world.wake is not None and hand.world.wake <= moment:
        hand.now = hand.world.wake
        hand.do(events.Tick())
    hand.now = moment


def first_pods_do_not_all_come() -> Story:
    hand = Hand(first_placement=20.0)
    hand.do(events.ServiceSeen(service_spec(min_replicas=2)))
    hand.do(events.PodSeen(pod_spec()))
    hand.report()
    hand.do(events.ModelSeen(model_spec()))
    return hand, 20.0, lambda: "m" in hand.desired()


def a_server_does_not_come_back() -> Story:
    hand = Hand().with_pods("pod-1", "pod-2").with_loaded(model_spec())
    first = hand.pod_of()
    other = {"pod-1": "pod-2", "pod-2": "pod-1"}[first]
    down = hand.world.pods[first].server
    assert down is not None
    hand.report(first, server=down.model_copy(update={"ready": False}))
    return hand, 15.0, lambda: "m" in hand.desired(other)


def a_gate_waits_for_a_load_that_does_not_end() -> Story:
    hand = Hand(gate=2.0).with_pods("pod-1")
    hand.do(events.ModelSeen(model_spec()))
    return hand, 2.0, lambda: any(isinstance(effect, GateChanged) for effect in hand.effects)


def requests_may_be_on_the_wire() -> Story:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    hand.do(events.ModelGone(KEY, "uid-m"))
    hand.acknowledge()
    return hand, 1.0, lambda: not hand.desired()


def an_unload_does_not_end() -> Story:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    hand.do(events.ModelGone(KEY, "uid-m"))
    return hand, 10.0, lambda: not hand.world.pods["pod-1"].ledger.outgoing


def a_move_does_not_end() -> Story:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    hand.do(events.ModelSeen(model_spec(service="other", generation=2)))
    return hand, 600.0, lambda: hand.route(service="svc") is None


def memory_was_freed() -> Story:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec("big", memory_bytes=95 * MI))
    hand.do(events.ModelSeen(model_spec()))
    hand.do(events.ModelGone(ModelKey("ns", "big"), "uid-big"))
    return hand, 0.5, lambda: "m" in hand.desired()


def nobody_uses_a_model() -> Story:
    hand = Cold("pod-1")
    hand.add("a", idle_unload=60.0)
    return hand, 60.0, lambda: hand.route("a") == "Cold"


def a_model_that_failed_is_left_alone() -> Story:
    hand = Cold("pod-1", room=1)
    hand.broken.add("bad")
    hand.add("bad")
    hand.add("a")
    return hand, 10.0, lambda: hand.route("bad") == "Cold"


def a_storage_is_to_be_looked_at() -> Story:
    hand = Hand().with_pods("pod-1")
    hand.do(events.ModelSeen(model_spec(check=30.0)))
    hand.report("pod-1", slot("m", hand.desired()["m"], revision=FOUND))
    return hand, 30.0, lambda: hand.world.pods["pod-1"].copies["m"].check > 0


def a_storage_is_to_be_looked_at_by_an_edit() -> Story:
    hand = Hand().with_pods("pod-1")
    hand.do(events.ModelSeen(model_spec()))
    hand.report("pod-1", slot("m", hand.desired()["m"], revision=FOUND))
    asleep_until(hand, 100.0)
    hand.do(events.ModelSeen(model_spec(check=30.0, generation=2)))
    return hand, 130.0, lambda: hand.world.pods["pod-1"].copies["m"].check > 0


def two_storages_are_to_be_looked_at() -> Story:
    hand = Hand().with_pods("pod-1")
    for name in ("m", "n"):
        hand.do(events.ModelSeen(model_spec(name, check=30.0)))
    hand.report("pod-1", *(slot(name, copy, revision=FOUND) for name, copy in hand.desired().items()))
    pace = hand.world.timing.check_pace
    return hand, 30.0 + pace, lambda: all(copy.check for copy in hand.world.pods["pod-1"].copies.values())


def an_agent_does_not_say_what_is_used() -> Story:
    hand = told_long_ago()
    hand.do(events.Requested(SERVICE, "c"))
    return hand, hand.now + 0.1, lambda: hand.route("b") != {"pod-1"}


def a_request_is_not_made_again() -> Story:
    hand = Cold("pod-1")
    hand.do(events.ModelSeen(model_spec("a")))
    hand.ask("a")
    return hand, 2 * 60.0, lambda: not hand.world.asked


def an_agent_says_nothing_after_a_start() -> Story:
    hand = Hand(recovered=False)
    hand.do(events.PodSeen(pod_spec(ready=True, gate_open=True)))
    hand.do(events.ServiceSeen(service_spec()))
    hand.recover()
    return hand, 30.0, lambda: not hand.world.recovering


def nobody_uses_a_service() -> Story:
    hand = Cold("pod-1", service={"idle": 60.0})
    hand.add("a")
    return hand, 66.0, lambda: hand.service.rest.phase is not Phase.UP


def a_request_for_a_model_is_still_to_come() -> Story:
    hand = Cold("pod-1", room=1)
    hand.add("a", "b")
    hand.now += 100.0
    cold = ({"a", "b"} - hand.loaded_models()).pop()
    first = ({"a", "b"} - {cold}).pop()
    hand.ask(cold)
    hand.agents()
    assert hand.route(cold) == {"pod-1"}
    hand.ask(first)
    return hand, hand.now + 2.0, lambda: first in hand.desired()


def memory_is_left_to_requests_for_a_while() -> Story:
    hand = Cold("pod-1")
    hand.add("a", "b", "c")
    hand.now += 100.0
    (cold,) = {"a", "b", "c"} - hand.loaded_models()
    hand.ask(cold)
    hand.agents()
    (left,) = {"a", "b", "c"} - hand.loaded_models()
    (other,) = {"a", "b", "c"} - {cold, left}
    hand.do(events.ModelGone(ModelKey("ns", other), f"uid-{other}"))
    hand.acknowledge()
    at = hand.now + 60.0
    hand.wait(2.0)
    hand.agents()
    return hand, at, lambda: left in hand.desired()


def a_pod_more_is_wanted() -> Story:
    hand = Cold("pod-1", room=1, service={"autoscaled": True, "max_replicas": 2})
    hand.add("a", "b", min_copies=1)
    return hand, 20.0, lambda: any(isinstance(each, ReplicasWanted) and each.replicas == 2 for each in hand.effects)


def a_copy_that_is_kept_needs_a_pod_after_long_quiet() -> Story:
    hand = Cold("pod-1", room=10, service={"autoscaled": True, "max_replicas": 2})
    asleep_until(hand, 100.0)
    assert not hand.world.reviewing
    hand.add("a", min_copies=2)
    return hand, 120.0, lambda: hand.service.scale.replicas == 2


def a_pod_less_is_wanted() -> Story:
    hand = Cold("pod-1", "pod-2", room=1, service={"autoscaled": True, "min_replicas": 1, "max_replicas": 2})
    hand.service.scale.replicas = 2
    return hand, 305.0, lambda: hand.service.scale.replicas == 1


def a_pod_less_is_wanted_after_evictions() -> Story:
    hand = Cold("pod-1", "pod-2", room=1, service={"autoscaled": True, "min_replicas": 1, "max_replicas": 2})
    hand.service.scale.replicas = 2
    hand.service.evicted_at = 100.0
    return hand, 100.0 + 300.0 + 300.0, lambda: hand.service.scale.replicas == 1


STORIES = [
    first_pods_do_not_all_come,
    a_server_does_not_come_back,
    a_gate_waits_for_a_load_that_does_not_end,
    requests_may_be_on_the_wire,
    an_unload_does_not_end,
    a_move_does_not_end,
    memory_was_freed,
    nobody_uses_a_model,
    a_model_that_failed_is_left_alone,
    a_storage_is_to_be_looked_at,
    a_storage_is_to_be_looked_at_by_an_edit,
    two_storages_are_to_be_looked_at,
    an_agent_does_not_say_what_is_used,
    a_request_is_not_made_again,
    an_agent_says_nothing_after_a_start,
    nobody_uses_a_service,
    a_request_for_a_model_is_still_to_come,
    memory_is_left_to_requests_for_a_while,
    a_pod_more_is_wanted,
    a_copy_that_is_kept_needs_a_pod_after_long_quiet,
    a_pod_less_is_wanted,
    a_pod_less_is_wanted_after_evictions,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_it_happens_at_its_time(story: Callable[[], Story]) -> None:
    hand, moment, happened = story()
    asleep_until(hand, moment - 0.01)
    assert not happened()
    asleep_until(hand, moment)
    assert happened()

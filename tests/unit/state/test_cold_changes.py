"""Cold models when something larger changes: strict and back, another operator, another InferenceService."""

import pytest
from shoal_api.messages import CopyPhase
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey

from .overcommitted import Cold, full
from .world_in_hand import MI, Hand, failure, model_spec, pod_spec, service_spec, slot


def test_strict_says_what_is_missing_and_overcommit_has_it_cold() -> None:
    hand = full("pod-1")
    hand.add("b")
    hand.do(events.ServiceSeen(service_spec(strict=True, capacity_bytes=20 * MI, generation=2)))
    assert hand.route("b") == "InsufficientMemory"
    refusal = hand.model("b").refusal
    assert refusal is not None
    assert refusal.missing_bytes == 10 * MI
    assert not hand.service.cold
    hand.do(events.ServiceSeen(service_spec(strict=False, capacity_bytes=20 * MI, generation=3)))
    hand.agents()
    assert (hand.route("b"), hand.model("b").ready) == ("Cold", True)


def restarted(*, vouched: bool = True) -> Cold:
    """Another operator, after one under which b was cold."""
    before = full("pod-1")
    before.add("b")
    hand = Cold.__new__(Cold)
    Hand.__init__(hand, recovered=False)
    hand.now = before.now
    hand.room, hand.broken, hand.spec = 2, set(), before.spec
    hand.do(events.ServiceSeen(hand.spec))
    hand.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=20 * MI)))
    for name in ("a0", "a1", "b"):
        hand.do(events.ModelSeen(model_spec(name), vouched=vouched))
    hand.report("pod-1", *(slot(name, want) for name, want in before.desired().items()))
    hand.recover()
    return hand


def test_after_a_restart_cold_models_are_ready_at_once() -> None:
    hand = restarted()
    assert hand.route("b") == "Cold"
    assert hand.model("b").ready
    assert hand.loaded_models() == {"a0", "a1"}


def test_a_model_is_not_believed_to_be_ready_because_it_is_there() -> None:
    assert not restarted(vouched=False).model("b").ready
    hand = full("pod-1")
    hand.do(events.ModelSeen(model_spec("new")))
    assert not hand.model("new").ready


def test_after_a_restart_an_eviction_is_not_pressure() -> None:
    """What another operator had loaded has been there for long, as far as this one knows."""
    hand = restarted()
    hand.ask("b")
    hand.agents()
    assert hand.route("b") == {"pod-1"}
    assert (hand.service.stats.evictions, hand.service.stats.early_evictions) == (1, 0)


@pytest.mark.parametrize("strict", [True, False])
def test_a_model_that_moves_to_a_full_service_waits_there_or_is_cold_there(strict: bool) -> None:
    hand = full("pod-1", room=1)
    hand.do(events.ServiceSeen(service_spec(name="old", uid="service-2", strict=False)))
    hand.do(events.PodSeen(pod_spec("pod-2", service="old")))
    hand.report("pod-2")
    hand.add("m", service="old")
    assert hand.route("m", "old") == {"pod-2"}
    hand.do(events.ServiceSeen(service_spec(strict=strict, capacity_bytes=10 * MI, generation=2)))
    hand.do(events.ModelSeen(model_spec("m", generation=2)))
    hand.agents()
    assert hand.route("m") == ("InsufficientMemory" if strict else "Cold")
    assert (hand.model("m").refusal is not None) == strict
    hand.do(events.ModelGone(ModelKey("ns", "a0"), "uid-a0"))
    hand.pass_time(3)
    hand.ask("m")
    hand.agents()
    hand.pass_time(3)
    assert hand.route("m") == {"pod-1"}
    assert hand.route("m", "old") is None


def test_after_a_restart_a_failing_copy_makes_way_at_once() -> None:
    hand = Cold.__new__(Cold)
    Hand.__init__(hand, recovered=False)
    hand.room, hand.broken, hand.spec = 1, {"bad"}, service_spec(strict=False, capacity_bytes=10 * MI)
    hand.do(events.ServiceSeen(hand.spec))
    hand.do(events.PodSeen(pod_spec("pod-1", capacity_bytes=10 * MI)))
    hand.do(events.ModelSeen(model_spec("bad")))
    failing = slot("bad", None, target=hand.want("bad"), phase=CopyPhase.WAITING, failure=failure())
    hand.report("pod-1", failing)
    hand.recover()
    hand.add("a")
    assert hand.route("a") == {"pod-1"}

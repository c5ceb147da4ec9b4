"""Totals of what happened, as metrics show them."""

from dataclasses import asdict

import pytest
from shoal_api.messages import CopyPhase
from shoal_operator.state.world import events
from shoal_operator.state.world.scale import InUse
from shoal_operator.state.world.stats import MAX_REASONS, Stats

from .world_in_hand import KEY, Hand, failure, model_spec, pod_spec, slot


def _unloads(hand: Hand) -> int:
    (service,) = hand.world.services.values()
    return service.stats.unloads


@pytest.mark.parametrize("said_first", [False, True])
def test_an_unload_counts_once_whatever_its_agent_says_on_the_way(said_first: bool) -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    hand.do(events.ModelGone(KEY, "uid-m"))
    hand.acknowledge()
    hand.wait(2.0)
    if said_first:
        hand.report("pod-1", slot("m", None, target=None))
    assert _unloads(hand) == 0
    hand.report("pod-1")
    assert _unloads(hand) == 1
    hand.report("pod-1")
    assert _unloads(hand) == 1


def test_what_was_never_loaded_or_went_with_its_pod_is_no_unload() -> None:
    hand = Hand().with_pods("pod-1")
    hand.do(events.ModelSeen(model_spec()))
    hand.do(events.ModelGone(KEY, "uid-m"))
    hand.wait(2.0)
    hand.report("pod-1")
    hand.with_loaded(model_spec())
    hand.do(events.PodSeen(pod_spec("pod-1", deleting=True)))
    hand.do(events.PodGone("pod-1"))
    assert _unloads(hand) == 0


def test_a_service_to_which_nothing_has_happened_counts_nothing() -> None:
    (service,) = Hand().with_pods("pod-1").world.services.values()
    assert not any(asdict(service.stats).values())
    assert service.scale.adding_up == InUse(used=0, kept=0, most_copies=0)


def test_looking_an_artifact_up_is_counted() -> None:
    hand = Hand().with_pods("pod-1")
    hand.do(events.ModelSeen(model_spec(memory_bytes=None)))
    (intent,) = hand.world.pods["pod-1"].desired
    (service,) = hand.world.services.values()
    assert service.stats.probes == 0
    seen = CopyPhase.SEEN
    hand.report("pod-1", slot("m", None, target=intent.copy_id, phase=seen, action=intent.action, artifact_bytes=1))
    assert service.stats.probes == 1


def test_a_load_that_fails_is_counted_by_its_reason_once() -> None:
    hand = Hand().with_pods("pod-1")
    hand.do(events.ModelSeen(model_spec()))
    (service,) = hand.world.services.values()
    failed = slot("m", None, target=hand.desired()["m"], phase=CopyPhase.WAITING, failure=failure())
    for _ in range(2):
        hand.report("pod-1", failed)
    assert service.stats.failures == {"LoadFailed": 1}


def test_failures_count_by_their_reason_and_no_agent_makes_up_reasons_without_end() -> None:
    stats = Stats()
    for reason in ("LoadFailed", "LoadFailed", *(f"Reason{number}" for number in range(MAX_REASONS + 5))):
        stats.failed(reason)
    stats.failed("LoadFailed")
    assert stats.failures["LoadFailed"] == 3
    assert stats.failures["Reason0"] == 1
    assert stats.failures["Other"] == 6
    assert len(stats.failures) == MAX_REASONS + 1

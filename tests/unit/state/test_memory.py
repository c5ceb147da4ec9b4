"""What models take: as declared, as estimated, and as measured."""

from typing import Any

import pytest
from shoal_api.messages import CopyPhase, ServerReport
from shoal_api.tuning import Tuning
from shoal_operator.state.world import events
from shoal_operator.state.world.measures import Ratio, Tally

from .overcommitted import Cold
from .world_in_hand import MI, Hand, model_spec, slot

GI = 1 << 30


def measured(hand: Cold, taken: int, *, boot: str = "1") -> None:
    """The agent measures ``taken`` bytes beyond an empty server."""
    server = ServerReport(type="mlserver", ready=True, boot=boot, base_memory_bytes=GI, memory_bytes=GI + taken)
    hand.report("pod-1", *(slot(name, want) for name, want in hand.desired().items()), server=server)


def ratio(hand: Cold) -> float | None:
    found = hand.service.ratios.get("sklearn")
    return round(found.declared, 2) if found is not None else None


def test_two_measurements_are_compared_so_that_a_library_does_not_count() -> None:
    hand = Cold("pod-1", room=40)
    hand.add("a", memory_bytes=40 * MI)
    measured(hand, 340 * MI)
    assert ratio(hand) is None, "300Mi of it are the library"
    hand.add("b", memory_bytes=40 * MI)
    measured(hand, 420 * MI)
    assert ratio(hand) == 2.0, "what 40Mi more took"


@pytest.mark.parametrize(("declared", "taken"), [(5, 900), (39, 900)])
def test_little_says_nothing(declared: int, taken: int) -> None:
    hand = Cold("pod-1", room=40)
    hand.add("a", memory_bytes=40 * MI)
    measured(hand, 340 * MI)
    hand.add("b", memory_bytes=declared * MI)
    measured(hand, taken * MI)
    assert ratio(hand) is None


def test_what_several_processes_take_is_compared_with_what_one_may() -> None:
    hand = Cold("pod-1", room=40, service={"processes": 2})
    hand.add("a", memory_bytes=40 * MI)
    measured(hand, 340 * MI)
    hand.add("b", memory_bytes=40 * MI)
    measured(hand, 420 * MI)
    assert ratio(hand) == 1.0, "80Mi more, 40Mi for each"


def test_what_is_learnt_of_models_with_workers_is_what_one_worker_takes() -> None:
    hand = Cold("pod-1", room=40)
    two = Tuning(workers_max=2)
    hand.add("a", memory_bytes=None, tuning=two)  # its artifact has 5Mi: 10Mi a worker
    measured(hand, 340 * MI)
    hand.add("b", memory_bytes=None, tuning=two)
    hand.add("c", memory_bytes=None, tuning=two)
    measured(hand, 340 * MI + 2 * 2 * 20 * MI)  # and takes twice as much
    hand.add("d", memory_bytes=None, tuning=two)
    assert hand.model("d").memory == 2 * 20 * MI


def test_a_restarted_server_is_measured_anew() -> None:
    hand = Cold("pod-1", room=40)
    hand.add("a", memory_bytes=40 * MI)
    measured(hand, 340 * MI)
    hand.add("b", memory_bytes=40 * MI)
    measured(hand, 700 * MI, boot="2")
    assert ratio(hand) is None


def test_what_is_not_measured_changes_nothing() -> None:
    hand = Cold("pod-1", room=40)
    hand.add("a", "b", memory_bytes=40 * MI)
    hand.agents()
    assert hand.service.ratios == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"memory_bytes": None}, 10 * MI), ({"memory_bytes": 3 * MI}, 3 * MI), ({"memory_bytes": 30 * MI}, 30 * MI)],
)
def test_a_declaration_is_never_overruled_and_what_is_left_out_is_estimated(
    given: dict[str, Any], expected: int
) -> None:
    hand = Cold("pod-1", room=4)
    hand.add("a", **given)  # its artifact has 5Mi
    assert hand.model("a").memory == expected
    assert hand.world.pods["pod-1"].committed == expected


def test_where_only_declarations_were_measured_an_estimate_is_a_first_one() -> None:
    hand = Cold("pod-1", room=40)
    hand.service.ratios["sklearn"] = Ratio(declared=3.0, samples=5)
    hand.add("a", memory_bytes=40 * MI)
    hand.add("b", memory_bytes=None)
    assert hand.model("b").memory == 10 * MI
    measured(hand, 340 * MI)
    hand.add("c", memory_bytes=60 * MI)
    measured(hand, 360 * MI)
    hand.add("d", memory_bytes=None)
    assert hand.model("d").memory == 20 * MI, "5Mi of artifact took 20Mi, and there was no other measure of any"


def test_estimates_learn_from_what_was_measured() -> None:
    hand = Cold("pod-1", room=40)
    hand.add("a", memory_bytes=40 * MI)
    measured(hand, 340 * MI)
    hand.add("b", memory_bytes=40 * MI)
    measured(hand, 360 * MI)
    hand.add("c", memory_bytes=None)
    assert hand.model("c").memory == 20 * MI, "5Mi of artifact took 20Mi"


def test_what_a_server_has_lost_or_is_gone_is_not_what_it_was_measured_with() -> None:
    hand = Cold("pod-1", room=40)
    hand.add("a", "b")
    pod = hand.world.pods["pod-1"]
    assert (pod.tallies["sklearn"].memory, pod.tallies["sklearn"].artifacts) == (20 * MI, 10 * MI)
    hand.report("pod-1", slot("a", None, target=hand.want("a"), phase=CopyPhase.WAITING), hand._slot("pod-1", "b"))
    assert (pod.tallies["sklearn"].memory, pod.tallies["sklearn"].artifacts) == (10 * MI, 5 * MI)
    hand.do(events.ModelGone(model_spec("b").key, "uid-b"))
    hand.pass_time(3)
    hand.do(events.ModelGone(model_spec("a").key, "uid-a"))
    hand.pass_time(3)
    assert pod.tallies == {}


def test_where_no_agent_has_said_how_large_an_artifact_is_it_counts_nothing() -> None:
    hand = Hand().with_pods("pod-1").with_loaded(model_spec())
    assert hand.world.pods["pod-1"].tallies["sklearn"] == Tally(10 * MI, 0)

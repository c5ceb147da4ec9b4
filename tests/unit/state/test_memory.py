"""What models take: as declared, as estimated, and as measured."""

from typing import Any

import pytest
from shoal_api.messages import ServerReport

from .overcommitted import Cold
from .world_in_hand import MI, slot

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


def test_estimates_learn_from_what_was_measured() -> None:
    hand = Cold("pod-1", room=40)
    hand.add("a", memory_bytes=40 * MI)
    measured(hand, 340 * MI)
    hand.add("b", memory_bytes=40 * MI)
    measured(hand, 360 * MI)
    hand.add("c", memory_bytes=None)
    assert hand.model("c").memory == 20 * MI, "5Mi of artifact took 20Mi"

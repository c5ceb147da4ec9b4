"""No garbage collection walks everything that the operator knows."""

import gc
import weakref
from collections.abc import Iterator

import pytest
from shoal_operator import garbage


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    garbage.begin()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class Node:
    other: "Node | None" = None


def cycle() -> "weakref.ref[Node]":
    one, two = Node(), Node()
    one.other, two.other = two, one
    return weakref.ref(one)


def test_what_stays_is_frozen_and_never_walked_again() -> None:
    kept = [[number] for number in range(2 * garbage.MIDDLE * garbage.YOUNGEST)]
    while garbage.end_turn():
        pass
    assert gc.get_freeze_count() > len(kept)
    assert all(len(gc.get_objects(generation=each)) < garbage.GROWN for each in range(3))


def test_no_older_generation_is_collected_by_itself() -> None:
    before = [each["collections"] for each in gc.get_stats()]
    kept = [[number] for number in range(50 * garbage.YOUNGEST)]
    assert kept
    after = [each["collections"] for each in gc.get_stats()]
    assert after[0] > before[0]
    assert after[1:] == before[1:]


def test_cycles_that_die_young_are_found() -> None:
    lost = cycle()
    kept = [[number] for number in range(2 * garbage.YOUNGEST)]
    assert kept
    assert lost() is None


def test_what_takes_the_place_of_something_else_is_not_left_to_pile_up() -> None:
    """Python counts no more objects then than before, and would collect all of them at once, much later."""
    kept = [[number] for number in range(20 * garbage.YOUNGEST)]
    gc.collect()
    gc.freeze()
    most = 0
    for number in range(len(kept)):
        kept[number] = [number]
        if not number % 1000:
            garbage.end_turn()
            most = max(most, *(len(gc.get_objects(generation=each)) for each in range(3)))
    assert most < 2 * garbage.MIDDLE * garbage.YOUNGEST


def test_a_cycle_that_was_old_is_found_before_it_would_be_frozen() -> None:
    one, two = Node(), Node()
    one.other, two.other = two, one
    lost = weakref.ref(one)
    kept = [[number] for number in range(2 * garbage.MIDDLE * garbage.YOUNGEST)]
    gc.collect(0)  # all of this has survived once by now
    del one, two
    assert lost() is not None
    assert garbage.end_turn()
    assert lost() is None
    assert kept


def test_a_turn_that_has_made_much_and_said_nothing_is_followed_by_a_collection() -> None:
    """Putting an InferenceService back has hardly any effects: what it made was collected after fifty turns."""
    kept = [[number] for number in range((garbage.MIDDLE + 1) * garbage.YOUNGEST)]
    assert garbage.end_turn(0)
    assert gc.get_freeze_count() > len(kept)

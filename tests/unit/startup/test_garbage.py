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
    kept = [[number] for number in range(3 * garbage.GROWN)]
    gc.collect(1)
    assert garbage.tend()
    assert len(gc.get_objects(generation=2)) < garbage.GROWN
    assert gc.get_freeze_count() > len(kept)
    assert not garbage.tend(), "nothing has grown since"


def test_the_oldest_generation_is_never_collected_by_itself() -> None:
    before = gc.get_stats()[2]["collections"]
    kept = [[number] for number in range(5 * garbage.YOUNGEST * garbage.MIDDLE)]
    assert kept
    assert gc.get_stats()[1]["collections"] > 0
    assert gc.get_stats()[2]["collections"] == before


def test_cycles_that_die_young_are_found() -> None:
    lost = cycle()
    kept = [[number] for number in range(2 * garbage.YOUNGEST)]
    assert kept
    assert lost() is None


def test_a_cycle_in_the_oldest_generation_is_found_before_that_is_frozen() -> None:
    one, two = Node(), Node()
    one.other, two.other = two, one
    lost = weakref.ref(one)
    kept = [[number] for number in range(2 * garbage.GROWN)]
    gc.collect(1)  # all of this is of the oldest generation by now
    del one, two
    assert lost() is not None
    assert garbage.tend()
    assert lost() is None
    assert kept

"""Exceptions that are put into the program, and where: some call of every function that a story comes through."""

import random
from collections.abc import Mapping


class Bug(Exception):
    """The one that is put in."""


def in_groups(calls: Mapping[str, int], at_once: int, seed: int) -> list[dict[str, int]]:
    """Every function of ``calls`` (how often the story calls each), with the number of the call that fails; ``at_once``
    of them in each group."""
    rng = random.Random(seed)
    chosen = [(name, rng.randint(1, count)) for name, count in sorted(calls.items())]
    rng.shuffle(chosen)
    return [dict(chosen[begin : begin + at_once]) for begin in range(0, len(chosen), at_once)]

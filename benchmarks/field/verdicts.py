"""Whether what a document claims holds here, from measured figures by one rule. Pure.

Two settings are measured in each round, one after the other; ``ratios`` are the second's figure over the first's, a
round each. Nothing is said by less than MARGIN, nor by rounds that disagree.
"""

import statistics
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

MARGIN: Final = 0.05


class Expects(StrEnum):
    """What a claim says that the second figure does."""

    UP = "rises"
    DOWN = "falls"
    NOT_UP = "does not rise"


class Verdict(StrEnum):
    HOLDS = "holds"
    NOT = "does not hold here"
    NOISE = "within noise"


RULE: Final = (
    f"A figure *rises* where the median of the rounds' ratios is above {1 + MARGIN:g} and no round's is below 1, "
    f"*falls* where it is below {1 - MARGIN:g} and no round's is above 1, and *stays* where every round's lies between "
    "the two. A claim holds where the figure does what it says, does not hold where the figure does another of the "
    "three, and is within noise where it does none; that a figure does not rise holds where it falls or stays."
)


def verdict(expects: Expects, ratios: Sequence[float]) -> Verdict:
    """``ratios``: at least one."""
    median, least, most = statistics.median(ratios), min(ratios), max(ratios)
    rises = median > 1 + MARGIN and least >= 1
    falls = median < 1 - MARGIN and most <= 1
    stays = least >= 1 - MARGIN and most <= 1 + MARGIN
    if expects is Expects.NOT_UP:
        return Verdict.HOLDS if falls or stays else Verdict.NOT if rises else Verdict.NOISE
    does, other = (rises, falls) if expects is Expects.UP else (falls, rises)
    if does:
        return Verdict.HOLDS
    return Verdict.NOT if other or stays else Verdict.NOISE


def agreed(rounds: Sequence[bool]) -> Verdict:
    """Of a claim that each round shows or does not."""
    if all(rounds):
        return Verdict.HOLDS
    return Verdict.NOISE if any(rounds) else Verdict.NOT

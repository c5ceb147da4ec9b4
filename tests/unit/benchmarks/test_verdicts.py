"""The rule by which a measured claim holds, does not, or is within noise."""

import pytest

from benchmarks.field.verdicts import Expects, Verdict, agreed, verdict


@pytest.mark.parametrize(
    ("expects", "ratios", "said"),
    [
        (Expects.UP, [1.2, 1.1, 1.3], Verdict.HOLDS),
        (Expects.UP, [1.2, 0.99, 1.3], Verdict.NOISE),
        (Expects.UP, [1.04, 1.0, 1.2], Verdict.NOISE),
        (Expects.UP, [1.01, 0.98, 1.03], Verdict.NOT),
        (Expects.UP, [0.8, 0.9, 0.7], Verdict.NOT),
        (Expects.DOWN, [0.8, 0.9, 0.7], Verdict.HOLDS),
        (Expects.DOWN, [0.8, 0.9, 1.1], Verdict.NOISE),
        (Expects.DOWN, [1.5, 1.5, 1.4], Verdict.NOT),
        (Expects.NOT_UP, [0.98, 1.04, 0.96], Verdict.HOLDS),
        (Expects.NOT_UP, [0.5, 0.99, 0.9], Verdict.HOLDS),
        (Expects.NOT_UP, [0.5, 1.04, 0.9], Verdict.NOISE),
        (Expects.NOT_UP, [1.2, 1.3, 1.1], Verdict.NOT),
        (Expects.NOT_UP, [0.9, 1.2, 1.1], Verdict.NOISE),
    ],
)
def test_nothing_is_said_by_little_nor_by_rounds_that_disagree(
    expects: Expects, ratios: list[float], said: Verdict
) -> None:
    assert verdict(expects, ratios) is said


def test_what_each_round_shows_has_to_be_shown_by_all() -> None:
    assert agreed([True, True, True]) is Verdict.HOLDS
    assert agreed([True, False, True]) is Verdict.NOISE
    assert agreed([False, False]) is Verdict.NOT

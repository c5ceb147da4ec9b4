"""When a status is written: at once, after a while, or not yet."""

from typing import Any

import pytest
from shoal_operator.status.budget import Due, Ledger, Rank, TokenBucket, due

QUIET = 30.0


def status(ready: str, reason: str, generation: int = 1, **more: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "reason": reason}
    return {"observedGeneration": generation, "conditions": [condition], **more}


LOADED = status("True", "Loaded")
PENDING = status("Unknown", "Pending")
FAILED = status("False", "LoadFailed")


@pytest.mark.parametrize(
    ("previous", "desired", "wait", "urgent"),
    [
        ({}, LOADED, 0, True),
        ({}, FAILED, 0, True),
        ({}, PENDING, 1.5, False),
        ({}, status("False", "InferenceServiceNotFound"), 1.5, False),
        (PENDING, LOADED, 0, True),
        (LOADED, FAILED, 0, True),
        (LOADED, PENDING, 3, False),
        (FAILED, PENDING, 30, False),
        (FAILED, status("False", "AccessDenied"), 0, True),
        (FAILED, status("False", "InferenceServiceNotFound"), 3, False),
        (status("False", "PodsNotReady"), PENDING, 3, False),
        (LOADED, status("True", "Updating", 2), 1, True),
        (FAILED, status("Unknown", "Pending", 2), 1, True),
        (LOADED, status("True", "Loaded", 2), 0, True),
        (LOADED, LOADED | {"url": "other"}, 0, False),
    ],
)
def test_first_write(previous: dict[str, Any], desired: dict[str, Any], wait: float, urgent: bool) -> None:
    when = due(previous, desired, Ledger(differs_since=100.0), QUIET, 100.0)
    assert (when.at - 100.0, when.urgent) == (wait, urgent)


def test_other_changes_wait_for_quiet() -> None:
    ledger = Ledger(differs_since=110.0, last_write=100.0)
    assert due(LOADED, LOADED | {"url": "other"}, ledger, QUIET, 110.0).at == 130.0
    assert due(LOADED, FAILED, ledger, QUIET, 110.0).at == 110.0


def test_a_flapping_model_is_slowed_down() -> None:
    ledger = Ledger()
    for second in range(4):
        ledger.differs_since = float(second)
        assert due(LOADED, FAILED, ledger, QUIET, float(second)).urgent
        ledger.wrote(float(second), Due(float(second), urgent=True, rank=Rank.CHANGED))
    ledger.differs_since = 4.0
    slowed = due(LOADED, FAILED, ledger, QUIET, 4.0)
    assert not slowed.urgent
    assert slowed.at == 33.0
    assert due(LOADED, FAILED, ledger, QUIET, 40.0).urgent


def test_every_edit_is_answered_in_time_however_many_there_are() -> None:
    """The fifth edit in ten seconds, each of which also makes Ready change twice."""
    ledger, stored = Ledger(), LOADED
    for number in range(1, 6):
        moment = 2.0 * number
        for wanted in (status("True", "Updating", number + 1), status("True", "Loaded", number + 1)):
            ledger.differs_since = moment
            when = due(stored, wanted, ledger, QUIET, moment)
            assert when.at - moment <= 1.0
            ledger.wrote(when.at, when)
            stored = wanted


def test_edits_in_a_loop_are_answered_once_a_second() -> None:
    ledger, moment, writes = Ledger(), 0.0, 0
    for generation in range(2, 102):
        moment += 0.1
        if ledger.differs_since is None:
            ledger.differs_since = moment
        when = due(LOADED, status("True", "Loaded", generation), ledger, QUIET, moment)
        if when.at <= moment:
            ledger.wrote(moment, when)
            writes += 1
    assert writes <= 11


def test_what_follows_from_an_edit_does_not_wait_for_quiet() -> None:
    ledger = Ledger(differs_since=100.0)
    ledger.wrote(100.0, due(LOADED, status("True", "Loaded", 2), ledger, QUIET, 100.0))
    ledger.differs_since = 100.2
    stored = status("True", "Loaded", 2)
    assert due(stored, stored | {"url": "other"}, ledger, QUIET, 100.2).at == 101.0
    ledger.differs_since = 115.0
    assert due(stored, stored | {"url": "other"}, ledger, QUIET, 115.0).at == 130.0


def test_flapping_after_an_edit_is_slowed_like_any_other() -> None:
    ledger = Ledger(differs_since=0.0)
    ledger.wrote(0.0, due(LOADED, status("True", "Loaded", 2), ledger, QUIET, 0.0))
    times = []
    stored, other = status("True", "Loaded", 2), status("False", "LoadFailed", 2)
    for second in range(20, 26):
        ledger.differs_since = float(second)
        when = due(stored, other, ledger, QUIET, float(second))
        times.append(when.at - second)
        if when.at == second:
            ledger.wrote(when.at, when)
            stored, other = other, stored
    assert times[:4] == [0, 0, 0, 0]
    assert min(times[4:]) > 20


def test_token_bucket() -> None:
    bucket = TokenBucket(rate=10, burst=2)
    assert [bucket.wait(0.0) for _ in range(4)] == [0, 0, pytest.approx(0.1), pytest.approx(0.2)]
    bucket = TokenBucket(rate=10, burst=2)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(0.1)


def test_a_new_object_is_spoken_of_within_two_seconds() -> None:
    """With what it takes to look at it and to write."""
    for waits in ("Pending", "PodsStarting", "PodsNotReady"):
        when = due(None, status("False", waits), Ledger(differs_since=100.0), QUIET, 100.0)
        assert when.at <= 101.5

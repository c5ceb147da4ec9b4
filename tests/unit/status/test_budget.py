"""When a status is written: at once, after a while, or not yet."""

from typing import Any

import pytest
from shoal_operator.status.budget import Ledger, TokenBucket, due

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
        ({}, PENDING, 3, False),
        ({}, status("False", "InferenceServiceNotFound"), 3, False),
        (PENDING, LOADED, 0, True),
        (LOADED, FAILED, 0, True),
        (LOADED, PENDING, 3, False),
        (FAILED, PENDING, 30, False),
        (FAILED, status("False", "AccessDenied"), 0, True),
        (status("False", "PodsNotReady"), PENDING, 3, False),
        (LOADED, status("True", "Updating", 2), 3, False),
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
        ledger.wrote(float(second), urgent=True)
    ledger.differs_since = 4.0
    slowed = due(LOADED, FAILED, ledger, QUIET, 4.0)
    assert not slowed.urgent
    assert slowed.at == 33.0
    assert due(LOADED, FAILED, ledger, QUIET, 40.0).urgent


def test_token_bucket() -> None:
    bucket = TokenBucket(rate=10, burst=2)
    assert [bucket.wait(0.0) for _ in range(4)] == [0, 0, pytest.approx(0.1), pytest.approx(0.2)]
    bucket = TokenBucket(rate=10, burst=2)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(0.1)

"""When a status that differs from the stored one is written: the write budget of DESIGN.md. Pure.

A change of Ready is what users wait for and goes at once, until it flaps; a user's edit is answered within a second,
however many there are; a state that passes by itself is held back, and so costs no write unless it lasts; everything
else waits for a quiet period. Every revision of a status stays in etcd
for minutes and goes to every watcher, which is what 10,000 models make expensive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from shoal_api.names import READY

from . import reasons
from .conditions import find

HOLD_SECONDS = 3.0
"""How long a passing state (Pending, Updating, …) must last to be written,"""
FIRST_SECONDS = 1.5
"""of an object that has no status yet,"""
HOLD_AFTER_FAILURE_SECONDS = 30.0
"""and while the stored status says why it failed: a retry must not wipe the cause out each time."""
EDIT_SECONDS = 1.0
"""An edit is answered within this time, even while all that can be said is passing; and at most so often."""
ANSWER_SECONDS = 10.0
"""For so long after an edit all that is said of the object is its answer, and waits for no quiet period."""
MODEL_QUIET_SECONDS = 30.0
SERVICE_QUIET_SECONDS = 10.0
MAX_URGENT = 4
"""Changes of Ready that go at once within one quiet period; more are a flapping model and wait like the rest."""


@dataclass(slots=True)
class Ledger:
    """When an object's status was last written, in monotonic seconds. ``differs_since``: None while nothing is due.
    ``edited``: when an edit was last answered. ``urgent``: of the last MAX_URGENT urgent writes since; a tuple, since
    thousands of these are kept and few have any."""

    differs_since: float | None = None
    last_write: float | None = None
    edited: float | None = None
    urgent: tuple[float, ...] = ()

    def wrote(self, now: float, due: "Due") -> None:
        """A write went out."""
        self.differs_since = None
        self.last_write = now
        if due.edit:
            self.edited, self.urgent = now, ()  # what comes of an edit is no flapping
        elif due.urgent:
            self.urgent = (*self.urgent[1 - MAX_URGENT :], now)


class Rank(IntEnum):
    """Whose write goes first when there are more than may be sent."""

    CHANGED = 0  # what users have seen is no longer so: Ready changed, or something new is wrong
    FIRST = 1  # what users wait for: the first Ready, the answer to an edit
    REST = 2
    NEWCOMER = 3  # never had a status, and would only say that it waits


@dataclass(frozen=True, slots=True)
class Due:
    """``at``: earliest time of the write. ``urgent``: users wait for it, and it goes before the quiet period ends.
    ``edit``: it is the first to speak of a changed spec."""

    at: float
    urgent: bool
    rank: Rank
    edit: bool = False


def due(
    previous: Mapping[str, Any] | None, desired: Mapping[str, Any], ledger: Ledger, quiet_seconds: float, now: float
) -> Due:
    """When ``desired``, which differs from ``previous``, may be written."""
    since = ledger.differs_since if ledger.differs_since is not None else now
    before, after = find(previous, READY), find(desired, READY)
    passing = after.get("reason") in reasons.WAITING
    rank = _rank(before, after, passing=passing)
    last = ledger.last_write
    spoken_of = (previous or {}).get("observedGeneration")
    if spoken_of is not None and spoken_of != desired.get("observedGeneration"):
        at = since + EDIT_SECONDS if passing else since
        return Due(_spaced(at, last), urgent=True, rank=min(rank, Rank.FIRST), edit=True)
    if _ready_changed(before, after) or spoken_of is None:
        if passing:
            failed = before.get("status") == "False" and before.get("reason") not in reasons.WAITING
            failed = failed and after.get("reason") != reasons.SERVICE_NOT_FOUND  # no retry passes through that
            hold = FIRST_SECONDS if spoken_of is None else HOLD_SECONDS
            return Due(since + (HOLD_AFTER_FAILURE_SECONDS if failed else hold), urgent=False, rank=rank)
        flapping = len(ledger.urgent) == MAX_URGENT and now - ledger.urgent[0] < quiet_seconds
        if not flapping:
            return Due(since, urgent=True, rank=rank)
    if ledger.edited is not None and now - ledger.edited < ANSWER_SECONDS:
        return Due(_spaced(since, last), urgent=False, rank=Rank.FIRST)
    return Due(since if last is None else max(since, last + quiet_seconds), urgent=False, rank=Rank.REST)


def _spaced(at: float, last_write: float | None) -> float:
    return at if last_write is None else max(at, last_write + EDIT_SECONDS)


def _rank(before: Mapping[str, Any], after: Mapping[str, Any], *, passing: bool) -> Rank:
    answered, answers = before.get("status") == "True", after.get("status") == "True"
    if passing:
        # Whoever was Ready and is not any more has to hear of it, whatever the cause.
        return Rank.NEWCOMER if not before else Rank.CHANGED if answered and not answers else Rank.REST
    if after.get("status") == "False" or (before and answered != answers and before.get("reason") not in _NOT_YET):
        return Rank.CHANGED
    return Rank.FIRST


def _ready_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return (before.get("status"), before.get("reason")) != (after.get("status"), after.get("reason"))


_NOT_YET = reasons.WAITING | {None}


class TokenBucket:
    """Lets ``rate`` things a second through, and ``burst`` at once. Time in seconds is given by the caller."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def wait(self, now: float) -> float:
        """Take a token; seconds to wait before using it."""
        self._refill(now)
        self._tokens -= 1
        return 0.0 if self._tokens >= 0 else -self._tokens / self._rate

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _refill(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now

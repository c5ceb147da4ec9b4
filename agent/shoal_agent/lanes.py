"""Which slot's step runs next: bounded lanes. Pure.

What is urgent (a request waits for it) comes first, though one in ``EVERY`` turns is another's: hundreds may be queued
since a start, and none of them waits for ever. Of these, pulls and loads are taken alternately from both ends of their
lane, the oldest and the newest, as the newest may be what a request waits for where an older operator does not say so.
Looking artifacts up yields: one at a time while anything is pulled or loaded. All else is first come, first served.

A trial (a copy that was loading when the server went down) runs alone: only when nothing else is loading or wants to,
and nothing starts to load beside it.
"""

from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Lane(StrEnum):
    PULL = "Pull"
    LOAD = "Load"
    TRIAL = "Trial"
    UNLOAD = "Unload"
    CLEAN = "Clean"
    STAT = "Stat"


_BUSY: Final = (Lane.PULL, Lane.LOAD, Lane.TRIAL)
EVERY: Final = 8


class Lanes:
    """A name waits in one lane at a time. All calls are O(1)."""

    def __init__(self, limits: Mapping[Lane, int]) -> None:
        self._limits = limits
        self._waiting: dict[Lane, deque[str]] = {lane: deque() for lane in Lane}
        self._urgent: dict[Lane, deque[str]] = {lane: deque() for lane in Lane}
        self._turns: dict[Lane, int] = dict.fromkeys(Lane, 0)  # that urgent ones had while others waited
        self._running: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._where: dict[str, tuple[Lane, bool]] = {}  # and whether it is urgent
        self._newest: dict[Lane, bool] = dict.fromkeys((Lane.PULL, Lane.LOAD), False)  # whose turn it is

    def put(self, name: str, lane: Lane, *, urgent: bool = False) -> None:
        """Wait in a lane; leaves the lane it waited in before, and those who are not in a hurry if it is ``urgent``."""
        if self._where.get(name) != (lane, urgent):
            self._where[name] = lane, urgent
            (self._urgent if urgent else self._waiting)[lane].append(name)

    def leave(self, name: str) -> None:
        self._where.pop(name, None)

    def take(self) -> tuple[str, Lane] | None:
        """The next to run, counted as running until ``done``."""
        for lane in Lane:
            while self._may_start(lane):
                name, urgent = self._next(lane)
                if self._where.get(name) == (lane, urgent):  # else it left
                    del self._where[name]
                    self._had_its_turn(lane, urgent)
                    self._running[lane] += 1
                    return name, lane
        return None

    def _next(self, lane: Lane) -> tuple[str, bool]:
        others = self._waiting[lane]
        if self._urgent[lane] and not (others and self._turns[lane] >= EVERY - 1):
            return self._urgent[lane].popleft(), True
        return others.pop() if self._newest.get(lane, False) else others.popleft(), False

    def _had_its_turn(self, lane: Lane, urgent: bool) -> None:
        if urgent:
            self._turns[lane] += bool(self._waiting[lane])
            return
        self._turns[lane] = 0
        if lane in self._newest:
            self._newest[lane] = not self._newest[lane]

    def done(self, lane: Lane) -> None:
        self._running[lane] -= 1

    def running(self, lane: Lane) -> int:
        return self._running[lane]

    def _may_start(self, lane: Lane) -> bool:
        if not self._any(lane) or self._running[lane] >= self._limits[lane]:
            return False
        if lane is Lane.LOAD:
            return self._running[Lane.TRIAL] == 0
        if lane is Lane.TRIAL:
            return self._running[Lane.LOAD] == 0 and not self._any(Lane.LOAD)
        if lane is Lane.STAT:
            return self._running[lane] == 0 or not any(self._running[busy] for busy in _BUSY)
        return True

    def _any(self, lane: Lane) -> bool:
        return bool(self._waiting[lane] or self._urgent[lane])

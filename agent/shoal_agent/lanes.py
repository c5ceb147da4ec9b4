"""Which slot's step runs next: bounded lanes. Pure.

Pulls and loads are taken alternately from both ends of their lane, the oldest and the newest: a model that a request
waits for comes while hundreds may be queued since a start, and must not wait for them all; and none of these waits for
ever. Looking artifacts up yields: one at a time while anything is pulled or loaded. All else is first come, first
served.

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


_URGENT: Final = (Lane.PULL, Lane.LOAD, Lane.TRIAL)


class Lanes:
    """A name waits in one lane at a time. All calls are O(1)."""

    def __init__(self, limits: Mapping[Lane, int]) -> None:
        self._limits = limits
        self._waiting: dict[Lane, deque[str]] = {lane: deque() for lane in Lane}
        self._running: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self._where: dict[str, Lane] = {}
        self._newest: dict[Lane, bool] = dict.fromkeys((Lane.PULL, Lane.LOAD), False)  # whose turn it is

    def put(self, name: str, lane: Lane) -> None:
        """Wait in a lane; leaves the lane it waited in before."""
        if self._where.get(name) is not lane:
            self._where[name] = lane
            self._waiting[lane].append(name)

    def leave(self, name: str) -> None:
        self._where.pop(name, None)

    def take(self) -> tuple[str, Lane] | None:
        """The next to run, counted as running until ``done``."""
        for lane in Lane:
            while self._may_start(lane):
                newest = self._newest.get(lane, False)
                name = self._waiting[lane].pop() if newest else self._waiting[lane].popleft()
                if self._where.get(name) is lane:  # else it left
                    del self._where[name]
                    if lane in self._newest:
                        self._newest[lane] = not newest
                    self._running[lane] += 1
                    return name, lane
        return None

    def done(self, lane: Lane) -> None:
        self._running[lane] -= 1

    def running(self, lane: Lane) -> int:
        return self._running[lane]

    def _may_start(self, lane: Lane) -> bool:
        if not self._waiting[lane] or self._running[lane] >= self._limits[lane]:
            return False
        if lane is Lane.LOAD:
            return self._running[Lane.TRIAL] == 0
        if lane is Lane.TRIAL:
            return self._running[Lane.LOAD] == 0 and not self._waiting[Lane.LOAD]
        if lane is Lane.STAT:
            return self._running[lane] == 0 or not any(self._running[urgent] for urgent in _URGENT)
        return True

"""A rate that forgets: events a second, weighted towards the present."""

import math
from dataclasses import dataclass

WINDOW_SECONDS = 20.0


@dataclass(slots=True)
class Decayed:
    """``add`` what was counted; ``at(now)`` is the rate a second over roughly the last WINDOW_SECONDS."""

    count: float = 0.0
    since: float = 0.0

    def add(self, count: float, now: float) -> None:
        self.count = self._left(now) + count
        self.since = now

    def at(self, now: float) -> float:
        return self._left(now) / WINDOW_SECONDS

    def _left(self, now: float) -> float:
        return self.count * math.exp((self.since - now) / WINDOW_SECONDS) if self.count else 0.0

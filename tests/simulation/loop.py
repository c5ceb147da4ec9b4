"""The simulated time: what happens when, one thing after another.

Everything that is to happen is a bound method, or a partial of one, so that a copy of the whole simulated world (made
by pickling it, which leaves nothing shared) goes on by itself.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import MethodType


@dataclass
class Loop:
    """``now`` in seconds; what is due at the same time happens in the order in which it was put."""

    now: float = 0.0
    _queue: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _put: int = 0

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Do it in ``delay`` seconds."""
        assert isinstance(action, MethodType | partial), "a function that a copied world would share with this one"
        self._put += 1
        heapq.heappush(self._queue, (self.now + delay, self._put, action))

    def advance(self, seconds: float) -> None:
        """So much time passes."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

"""The pods of one InferenceService in order, kept as they change: who has most room, whose copies are longest unused.

A plan for one model looks at the first few of these instead of all pods. Only ``World.touched`` pods are put in order
again before the next plan; a pod that cannot take models is in none of the orders.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FAILED = -math.inf
NEVER_USED = -1e300


class Standing(NamedTuple):
    """Where a pod stands, in bytes: ``taken`` of ``capacity``, ``coming`` (free, or on its way out and promised to
    nobody), ``obtainable`` (what a request could have there at most). ``unused_since``: of its copy that was used
    longest ago; FAILED where one failed to load, None without any.
    """

    capacity: int
    taken: int
    copies: int
    coming: int
    obtainable: int
    unused_since: float | None


@dataclass(slots=True)
class Standings:
    """``put`` is O(log n) and a move in a list; each order is read from its beginning."""

    _now: dict[str, Standing] = field(default_factory=dict)
    _free: dict[int, list[tuple[int, int, str]]] = field(default_factory=dict)  # by capacity: taken, copies
    _coming: list[tuple[int, str]] = field(default_factory=list)
    _obtainable: list[tuple[int, str]] = field(default_factory=list)
    _unused: list[tuple[float, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._now)

    def get(self, uid: str) -> Standing | None:
        """As it was last put."""
        return self._now.get(uid)

    def put(self, uid: str, standing: Standing | None) -> None:
        """The pod stands there now; None: it cannot take models."""
        before = self._now.pop(uid, None)
        if before is not None:
            _remove(self._free[before.capacity], (before.taken, before.copies, uid))
            if not self._free[before.capacity]:
                del self._free[before.capacity]
            _remove(self._coming, (-before.coming, uid))
            _remove(self._obtainable, (-before.obtainable, uid))
            if before.unused_since is not None:
                _remove(self._unused, (before.unused_since, uid))
        if standing is not None:
            self._now[uid] = standing
            insort(self._free.setdefault(standing.capacity, []), (standing.taken, standing.copies, uid))
            insort(self._coming, (-standing.coming, uid))
            insort(self._obtainable, (-standing.obtainable, uid))
            if standing.unused_since is not None:
                insort(self._unused, (standing.unused_since, uid))

    def least_full(self, count: int) -> list[str]:
        """So many of each capacity: whoever sorts first of all is among them."""
        return [uid for order in self._free.values() for _, _, uid in order[:count]]

    def most_coming(self, count: int) -> list[str]:
        return [uid for _, uid in self._coming[:count]]

    def longest_unused(self) -> Iterator[tuple[float, str]]:
        """Since when the copy used longest ago was not used, and its pod, the longest first."""
        return iter(self._unused)

    def most_room(self) -> int:
        """Bytes that a copy could take at once, on the pod that has most."""
        return max((capacity - order[0][0] for capacity, order in self._free.items()), default=0)

    def most_obtainable(self) -> int | None:
        """Bytes that a request could have, if it waits long enough, on the pod where that is most; None: no pod."""
        return -self._obtainable[0][0] if self._obtainable else None


def _remove(order: list[Any], entry: tuple[Any, ...]) -> None:
    del order[bisect_left(order, entry)]

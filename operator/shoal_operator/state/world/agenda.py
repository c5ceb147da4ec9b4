"""Which models are to be reviewed at some time, and why. O(log n) to put, nothing to do while nothing is due."""

import heapq
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

from shoal_operator.state.world.values import ModelKey

LEFT_OVER = 1024
"""Entries that do not count any more, which may lie about."""
MOVED = 4
"""Entries of an older heap that are looked at with each change: it is empty before there could be another one."""


class Topic(StrEnum):
    """Why a model is reviewed."""

    IDLE = "Idle"  # unload it if it was not used
    RETRY = "Retry"  # its failure was long enough ago
    UNUSED = "Unused"  # forget it, which nobody registered, if nobody asks for it
    CHECK = "Check"  # see whether its storage still holds what is loaded


Entry = tuple[float, int, ModelKey, Topic]


@dataclass(slots=True)
class Agenda:
    """At most one entry per model and topic counts: the earliest; a model is reviewed then, and may be put again.

    What does not count any more is swept out as entries move from ``_older`` heaps to the heap, a few at a time: a
    hundred thousand at once would be a tenth of a second.
    """

    _heap: list[Entry] = field(default_factory=list)
    _older: list[list[Entry]] = field(default_factory=list)
    _entered: dict[tuple[ModelKey, Topic], float] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=count)

    def put(self, at: float, key: ModelKey, topic: Topic) -> None:
        """Review the model at that time, unless that happens earlier anyway."""
        entered = self._entered.get((key, topic))
        if entered is None or at < entered:
            self._entered[key, topic] = at
            heapq.heappush(self._heap, (at, next(self._numbers), key, topic))
            self._sweep()

    def due(self, now: float) -> tuple[ModelKey, Topic] | None:
        """Take out the next that is due; None when nothing is."""
        while (first := self._first()) and first[0][0] <= now:
            at, _, key, topic = heapq.heappop(first)
            if self._entered.get((key, topic)) == at:
                del self._entered[key, topic]
                return key, topic
        return None

    def is_due(self, now: float) -> bool:
        """Something may be due."""
        first = self._first()
        return bool(first) and first[0][0] <= now

    def forget(self, key: ModelKey) -> None:
        """The model is gone. What is left of it is swept out once it is more than half of all."""
        for topic in Topic:
            self._entered.pop((key, topic), None)
        self._sweep()

    def take_over(self, other: "Agenda") -> None:
        """What is in another one is in this one as well from now on, and counts."""
        self._entered |= other._entered
        self._older += [heap for heap in (other._heap, *other._older) if heap]

    @property
    def next(self) -> float | None:
        """When something may be due."""
        first = self._first()
        return first[0][0] if first else None

    def _first(self) -> list[Entry]:
        """The heap whose first entry is the first of all."""
        first = self._heap
        for heap in self._older:
            if heap and (not first or heap[0] < first[0]):
                first = heap
        return first

    def _sweep(self) -> None:
        if not self._older and len(self._heap) > 2 * len(self._entered) + LEFT_OVER:
            self._older, self._heap = [self._heap], []
        for _ in range(MOVED if self._older else 0):
            heap = self._older[-1]
            entry = heap.pop() if heap else None  # without its last entry it is still a heap
            if entry is not None and self._entered.get(entry[2:]) == entry[0]:
                heapq.heappush(self._heap, entry)
            if not heap:
                self._older.pop()
            if not self._older:
                return

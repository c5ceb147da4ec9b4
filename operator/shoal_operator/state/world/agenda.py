"""Which models are to be reviewed at some time, and why. O(log n) to put, nothing to do while nothing is due."""

import heapq
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

from shoal_operator.state.world.values import ModelKey

LEFT_OVER = 1024
"""Entries that do not count any more, which may lie about."""


class Topic(StrEnum):
    """Why a model is reviewed."""

    IDLE = "Idle"  # unload it if it was not used
    RETRY = "Retry"  # its failure was long enough ago


@dataclass(slots=True)
class Agenda:
    """At most one entry per model and topic counts: the earliest; a model is reviewed then, and may be put again."""

    _heap: list[tuple[float, int, ModelKey, Topic]] = field(default_factory=list)
    _entered: dict[tuple[ModelKey, Topic], float] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=count)

    def put(self, at: float, key: ModelKey, topic: Topic) -> None:
        """Review the model at that time, unless that happens earlier anyway."""
        entered = self._entered.get((key, topic))
        if entered is None or at < entered:
            self._entered[key, topic] = at
            heapq.heappush(self._heap, (at, next(self._numbers), key, topic))

    def due(self, now: float) -> tuple[ModelKey, Topic] | None:
        """Take out the next that is due; None when nothing is."""
        while self._heap and self._heap[0][0] <= now:
            at, _, key, topic = self._heap[0]
            heapq.heappop(self._heap)
            if self._entered.get((key, topic)) == at:
                del self._entered[key, topic]
                return key, topic
        return None

    def is_due(self, now: float) -> bool:
        """Something may be due."""
        return bool(self._heap) and self._heap[0][0] <= now

    def forget(self, key: ModelKey) -> None:
        """The model is gone. What is left of it is swept out once it is more than half of all."""
        for topic in Topic:
            self._entered.pop((key, topic), None)
        if len(self._heap) > 2 * len(self._entered) + LEFT_OVER:
            self._heap = [entry for entry in self._heap if self._entered.get(entry[2:]) == entry[0]]
            heapq.heapify(self._heap)

    def take_over(self, other: "Agenda") -> None:
        """What is in another one is in this one as well from now on, and counts; O(entries)."""
        if other._entered:
            self._entered |= other._entered
            self._heap += [(at, next(self._numbers), key, topic) for at, _, key, topic in other._heap]
            heapq.heapify(self._heap)

    @property
    def next(self) -> float | None:
        """When something may be due."""
        return self._heap[0][0] if self._heap else None

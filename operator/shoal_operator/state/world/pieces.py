"""Work for many, in pieces: no step does more of it than ``size`` items, whatever there is to do.

What concerns all models of an InferenceService, all slots of a pod or a whole list is put here as a batch; the engine
turns ``Proceed`` as long as something is left. What is done in pieces must be right in any order and when it is done
twice, and whoever relies on a batch being done asks for ``pending``.

The size is a count, because state reads no clock: an item costs some 50 us, with what its effects cost in the rooms
some 100 us.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

SIZE = 200


class Task(StrEnum):
    """What is done with each item of a batch."""

    ROUTES = "Routes"  # of models (ModelKey): routes, readiness and counts; subject: whatever changed for all of them
    MODELS = "Models"  # models (ModelKey) of an InferenceService that came, changed or went; subject: its key
    IN_USE = "InUse"  # UIDs of an InferenceService's pods: what of their memory is in use; subject: its key
    PROBES = "Probes"  # subject and only item: the InferenceService whose models wait to be looked up
    PLAN = "Plan"  # models (ModelKey) that want another look of placement; subject: the pod that is left
    SLOTS = "Slots"  # slots (names) that an agent has reported; subject: its pod's UID
    FREE = "Free"  # slots (names) whose unloading an agent has confirmed; subject: its pod's UID
    LOST = "Lost"  # slots (names) of a pod that is gone; subject: its UID
    # Of recovery, in this order:
    PODS = "Pods"  # UIDs: where they are, what they hold
    STORED = "Stored"  # copies (their numbers) that the store knows of a pod whose agent is late; subject: its UID
    FORGET = "Forget"  # UIDs of pods of which the store may know what is not so any more
    ANNOUNCE = "Announce"  # models (ModelKey): everything is said once


WEIGHT = {Task.PODS: 100, Task.FORGET: 100, Task.IN_USE: 50}
"""Items that one of these counts for."""


class Piece(NamedTuple):
    """Items of one batch to be done now. ``last``: none of it is left."""

    task: Task
    subject: Any
    items: list[Any]
    last: bool


@dataclass(slots=True)
class Pieces:
    """Batches by task and subject (a ServiceKey, a pod's UID ...). Putting one again adds what it lacks."""

    size: int = SIZE
    overdue: bool = False  # something with a queue of its own had to stop for want of budget
    _left: int = SIZE
    _batches: OrderedDict[tuple[Task, Any], dict[Any, None]] = field(default_factory=OrderedDict)

    def new_step(self) -> None:
        """A step begins: it may do ``size`` items."""
        self._left = self.size

    def spend(self) -> bool:
        """Do one more item of a queue kept elsewhere? If not, the engine comes back for it."""
        if self._left <= 0:
            self.overdue = True
            return False
        self._left -= 1
        return True

    def put(self, task: Task, subject: Any, items: Iterable[Any]) -> None:
        """Put a batch of which this step does nothing yet."""
        fresh = dict.fromkeys(items)
        if fresh and (task, subject) in self._batches:
            self._batches[task, subject].update(fresh)
        elif fresh:
            self._batches[task, subject] = fresh

    def begin(self, task: Task, subject: Any, items: Iterable[Any]) -> list[Any]:
        """Put a batch, and take out what this step may do of it."""
        batch = self._batches.get((task, subject))
        fresh = dict.fromkeys(items)
        if batch is None:
            if not fresh:
                return []
            self._batches[task, subject] = batch = fresh
        else:
            batch.update(fresh)
        return self._take(task, subject, batch, self._left).items

    def next(self) -> Piece | None:
        """The next piece; the batches take turns, and leave a half to what is overdue elsewhere."""
        overdue, self.overdue = self.overdue, False
        if not self._batches:
            return None
        (task, subject), batch = next(iter(self._batches.items()))
        self._batches.move_to_end((task, subject))
        return self._take(task, subject, batch, max(1, self._left // 2 if overdue else self._left))

    def pending(self, task: Task, subject: Any) -> bool:
        """Some of the batch is still to be done."""
        return (task, subject) in self._batches

    def drop(self, task: Task, subject: Any) -> None:
        """Nothing of it matters any more."""
        self._batches.pop((task, subject), None)

    def __bool__(self) -> bool:
        """There is more to be done than the last step did."""
        return self.overdue or bool(self._batches)

    def _take(self, task: Task, subject: Any, batch: dict[Any, None], most: int) -> Piece:
        # At least one in a step that has done nothing yet, whatever it counts for.
        weight = WEIGHT.get(task, 1)
        count = max(most // weight, 1 if most == self.size else 0)
        # The last first: taking the first out of a dict again and again costs the more the more were taken.
        items = [batch.popitem()[0] for _ in range(min(count, len(batch)))]
        self._left -= len(items) * weight
        if not batch:
            del self._batches[task, subject]
        return Piece(task, subject, items, not batch)

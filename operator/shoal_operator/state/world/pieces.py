"""Work for many, in pieces: no step does more of it than ``size`` items, whatever there is to do.

What concerns all models of an InferenceService, all slots of a pod or a whole list is put here as a batch; the engine
turns ``Proceed`` as long as something is left. What is done in pieces must be right in any order and when it is done
twice, and whoever relies on a batch being done asks for ``pending``. All models of an InferenceService are no batch:
they are gone through by pages, so that to begin with them costs nothing.

The size is a count, because state reads no clock: an item costs some 50 us, with what its effects cost in the rooms
some 100 us.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

SIZE = 100


class Task(StrEnum):
    """What is done with each item of a batch."""

    ROUTES = "Routes"  # of models (ModelKey): routes, readiness and counts; subject: whatever changed for all of them
    MODELS = "Models"  # models (ModelKey) of an InferenceService that came, changed or went; subject: its key
    UNREGISTERED = "Unregistered"  # those of them that nobody registered, whose place changed; subject: as above
    IN_USE = "InUse"  # UIDs of an InferenceService's pods: what of their memory is in use; subject: its key
    CHECKS = "Checks"  # models (ModelKey) whose artifacts are looked at more or less often; subject: as above
    PROBES = "Probes"  # subject and only item: the InferenceService whose models wait to be looked up
    PLAN = "Plan"  # models (ModelKey) that want another look of placement; subject: the pod that is left
    SLOTS = "Slots"  # slots (names) that an agent has reported; subject: its pod's UID
    EMPTY = "Empty"  # slots (names) of a pod that is to hold nothing, since nobody uses its service; subject: its UID
    FREE = "Free"  # slots (names) whose unloading an agent has confirmed; subject: its pod's UID
    LOST = "Lost"  # slots (names) of a pod that is gone; subject: its UID
    # Of recovery, in this order:
    PODS = "Pods"  # UIDs: where they are, what they hold
    STORED = "Stored"  # copies (their numbers) that the store knows of a pod whose agent is late; subject: its UID
    FORGET = "Forget"  # UIDs of pods of which the store may know what is not so any more
    ANNOUNCE = "Announce"  # models (ModelKey) of an InferenceService: everything is said once; subject: its key
    REMAINS = "Remains"  # objects that nobody needs any more: that they are let go of is all that is done


WEIGHT = {Task.PODS: 100, Task.FORGET: 100, Task.IN_USE: 50}
"""Items that one of these counts for."""


class Source(Protocol):
    """Where items come from that were not copied into a batch."""

    def take(self, count: int) -> list[Any]:
        """The next items, no more than so many."""

    def again(self) -> None:
        """All of them are to be done once more from now on, those that are left once."""

    @property
    def done(self) -> bool:
        """There are no more."""


class Pages(Protocol):
    """Keys in an order of names that holds whoever comes or goes."""

    def page(self, after: str, count: int) -> list[Any]:
        """So many that come after that name; "" for the first."""


@dataclass(slots=True)
class Walk:
    """Goes through all of ``whole`` in order. Begun again in the middle it goes on to the end, and then from the first
    to where it was: were it to turn back each time, what comes last would never be done."""

    whole: Pages
    after: str = ""
    until: str | None = None  # the last name of a second round
    second: bool = False  # this is the second round
    done: bool = False

    def take(self, count: int) -> list[Any]:
        """The next items; those that came behind its back have been done by whoever brought them."""
        found = self.whole.page(self.after, count + 1)
        found, more = found[:count], len(found) > count
        if self.second and self.until is not None and (not more or found[-1].name >= self.until):
            self.done = True
            return [key for key in found if key.name <= (self.until or "")]
        if more:
            self.after = found[-1].name
        elif self.until is not None:
            self.after, self.second = "", True
        else:
            self.done = True
        return found

    def again(self) -> None:
        self.until, self.second = self.after or None, False


@dataclass(slots=True)
class _Batch:
    """Items that were told one by one, and sources of more."""

    items: dict[Any, None] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)

    def take(self, count: int) -> list[Any]:
        # The last first: taking the first out of a dict again and again costs the more the more were taken.
        found = [self.items.popitem()[0] for _ in range(min(count, len(self.items)))]
        while self.sources and len(found) < count:
            found += self.sources[0].take(count - len(found))
            if self.sources[0].done:
                del self.sources[0]
            else:
                break
        return found

    def __bool__(self) -> bool:
        return bool(self.items or self.sources)


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
    _batches: OrderedDict[tuple[Task, Any], _Batch] = field(default_factory=OrderedDict)

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
        if fresh:
            self._batch(task, subject).items.update(fresh)

    def put_source(self, task: Task, subject: Any, source: Source) -> None:
        """Put what the source gives, beside all that is to be done already."""
        self._batch(task, subject).sources.append(source)

    def put_all(self, task: Task, subject: Any, whole: Pages) -> None:
        """Have all of it done, of which this step does nothing yet: the ``subject`` stands for the same each time."""
        batch = self._batches.get((task, subject))
        if batch is not None and batch.sources:
            for source in batch.sources:
                source.again()
        elif whole.page("", 1):
            self.put_source(task, subject, Walk(whole))

    def begin(self, task: Task, subject: Any, items: Iterable[Any]) -> list[Any]:
        """Put a batch, and take out what this step may do of it."""
        self.put(task, subject, items)
        return self._begun(task, subject)

    def begin_all(self, task: Task, subject: Any, whole: Pages) -> list[Any]:
        """``put_all``, and take out what this step may do."""
        self.put_all(task, subject, whole)
        return self._begun(task, subject)

    def _batch(self, task: Task, subject: Any) -> _Batch:
        return self._batches.setdefault((task, subject), _Batch())

    def _begun(self, task: Task, subject: Any) -> list[Any]:
        batch = self._batches.get((task, subject))
        return self._take(task, subject, batch, self._left).items if batch is not None else []

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

    def under_way(self, task: Task) -> bool:
        """Some of any batch of this task is still to be done; O(batches)."""
        return any(each is task for each, _ in self._batches)

    def drop(self, task: Task, subject: Any) -> None:
        """Nothing of it matters any more."""
        self._batches.pop((task, subject), None)

    def __bool__(self) -> bool:
        """There is more to be done than the last step did."""
        return self.overdue or bool(self._batches)

    def _take(self, task: Task, subject: Any, batch: _Batch, most: int) -> Piece:
        # At least one in a step that has done nothing yet, whatever it counts for.
        weight = WEIGHT.get(task, 1)
        count = max(most // weight, 1 if most == self.size else 0)
        items = batch.take(count) if count else []
        self._left -= len(items) * weight
        if not batch:
            del self._batches[task, subject]
        return Piece(task, subject, items, not batch)

"""The order of status writes when there are more than may be sent: by rank, and within a rank namespaces in turn.

Whoever creates ten thousand models fills a queue for minutes; a model of another namespace must not wait behind them.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from .budget import Rank, TokenBucket

NEWCOMERS_AT_ONCE = 100
NEWCOMERS_PER_SECOND = 1.0
STUCK_SECONDS = 60.0
STUCK_NEWCOMERS_PER_SECOND = 10.0

Item = TypeVar("Item", bound=Hashable)


class FairQueue(Generic[Item]):
    """First in first out within a namespace; namespaces take turns. Every operation takes constant time."""

    def __init__(self) -> None:
        self._items: dict[str, deque[Item]] = {}
        self._turns: deque[str] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, namespace: str, item: Item) -> None:
        items = self._items.get(namespace)
        if items is None:
            items = self._items[namespace] = deque()
            self._turns.append(namespace)
        items.append(item)
        self._length += 1

    def next(self) -> Item:
        """What ``get`` would return. Raises IndexError when there is none."""
        return self._items[self._turns[0]][0]

    def get(self) -> Item:
        """Take the next item. Raises IndexError when there is none."""
        namespace = self._turns.popleft()
        items = self._items[namespace]
        item = items.popleft()
        if items:
            self._turns.append(namespace)
        else:
            del self._items[namespace]
        self._length -= 1
        return item


class Gate:
    """How many newcomers may say that they wait. Thousands that are created together are told of once they are Ready:
    that they wait, the counts of their InferenceService say. A hundred are told at once and one more a second; when
    nothing has become Ready for a minute, ten a second."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(NEWCOMERS_PER_SECOND, burst=NEWCOMERS_AT_ONCE)
        self._stuck = TokenBucket(STUCK_NEWCOMERS_PER_SECOND, burst=5)
        self._progress: float | None = None

    def progressed(self, now: float) -> None:
        """Something other than waiting was written, or nobody waits."""
        self._progress = now

    def open(self, now: float) -> bool:
        """Whether one more may pass now."""
        if self._progress is None:
            self._progress = now
        return self._bucket.take(now) or (now - self._progress >= STUCK_SECONDS and self._stuck.take(now))


class Queues(Generic[Item]):
    """What waits for a writer, by rank. Newcomers pass only through ``newcomer``."""

    def __init__(self) -> None:
        self._by_rank: dict[Rank, FairQueue[Item]] = {rank: FairQueue() for rank in Rank}
        self.gate = Gate()

    def put(self, rank: Rank, namespace: str, item: Item) -> None:
        self._by_rank[rank].put(namespace, item)

    def get(self) -> tuple[Rank, Item]:
        """The next item that is not a newcomer, and its rank. Raises IndexError when there is none."""
        for rank, queue in self._by_rank.items():
            if queue and rank is not Rank.NEWCOMER:
                return rank, queue.get()
        raise IndexError("nothing waits")

    def newcomer(self, now: float, void: Callable[[Item], bool]) -> Item | None:
        """The next newcomer that may pass; None: there is none, or not yet. Those that are ``void`` count for nothing:
        they have become something else meanwhile."""
        queue = self._by_rank[Rank.NEWCOMER]
        while queue and void(queue.next()):
            queue.get()
        if not queue:
            self.gate.progressed(now)
            return None
        return queue.get() if self.gate.open(now) else None

    def lengths(self) -> dict[Rank, int]:
        """How many wait by rank, places that have become void included."""
        return {rank: len(queue) for rank, queue in self._by_rank.items()}

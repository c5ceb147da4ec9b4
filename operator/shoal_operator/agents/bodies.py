"""Places for large reports: few are read at once, so that a restart of all pods is no flood of memory; and no
namespace has more than its share of them, so that one whose agents send slowly keeps its own waiting only."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PLACES = 8
PLACES_OF_A_NAMESPACE = 2


class LargeBodies:
    """``async with place(namespace)``; waits for one."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(PLACES)
        self._of: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def place(self, namespace: str) -> AsyncIterator[None]:
        """One of the namespace's places, then one of all."""
        own = self._of.setdefault(namespace, asyncio.Semaphore(PLACES_OF_A_NAMESPACE))
        self._users[namespace] += 1
        try:
            async with own, self._all:
                yield
        finally:
            self._users[namespace] -= 1
            if not self._users[namespace]:
                del self._users[namespace], self._of[namespace]

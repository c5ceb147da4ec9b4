"""How many connections to storage a pod has, and whose turn it is. Pure but for the futures that wait.

No store has all of them: one that hangs leaves a quarter to the others. What a request waits for goes first; otherwise
first come, first served, and an artifact of many files waits with a few of them only (``fetching.py``).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """``connections`` at once in all, three quarters of that to one place."""

    def __init__(self, connections: int) -> None:
        self._all = _Turns(connections)
        self._share = max(1, connections * 3 // 4)
        self._places: dict[str, _Turns] = {}

    @asynccontextmanager
    async def connection(self, place: str, *, urgent: bool) -> AsyncIterator[None]:
        """One connection to a place, for as long as the context lasts."""
        turns = self._places.setdefault(place, _Turns(self._share))
        try:
            async with turns.turn(urgent), self._all.turn(urgent):
                yield
        finally:
            if turns.unused:
                self._places.pop(place, None)


class _Turns:
    """A semaphore with two queues."""

    def __init__(self, free: int) -> None:
        self._most = self._free = free
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    @property
    def unused(self) -> bool:
        return self._free == self._most

    @asynccontextmanager
    async def turn(self, urgent: bool) -> AsyncIterator[None]:
        if self._free:
            self._free -= 1
        else:
            await self._wait(self._urgent if urgent else self._others)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, queue: "deque[asyncio.Future[None]]") -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it was its turn already
            raise

    def _pass_on(self) -> None:
        for queue in (self._urgent, self._others):
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1

"""The server's one way to change anything: it reads its whole configuration again, one reload after another."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shoal_agent.model_server import ServerError, ServerGone


@dataclass(frozen=True, slots=True)
class Reload:
    """How one went: the server's status and answer, or why there is none."""

    status: int = 0
    body: str = ""
    error: ServerError | ServerGone | None = None


class Reloads:
    """All that ask while one is running share the next, which reads what each has changed before it asked. ``send``
    makes one; none is ever given up, since the server would go on with it."""

    def __init__(self, send: Callable[[], Awaitable[tuple[int, str]]]) -> None:
        self._send = send
        self._running: asyncio.Task[Reload] | None = None
        self._next: asyncio.Task[Reload] | None = None

    async def run(self, seconds: float) -> Reload:
        """One that begins after now. Raises TimeoutError: it may not have begun yet."""
        return await asyncio.wait_for(asyncio.shield(self.ask()), seconds)

    def ask(self) -> "asyncio.Task[Reload]":
        """Have one begin after now."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        return self._next

    async def close(self) -> None:
        for task in (self._next, self._running):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def _after(self, former: "asyncio.Task[Reload] | None") -> Reload:
        if former is not None and not former.done():
            await asyncio.wait({former})
        self._running, self._next = self._next, None
        try:
            status, body = await self._send()
        except (ServerError, ServerGone) as error:
            return Reload(error=error)
        return Reload(status, body)

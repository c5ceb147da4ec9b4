"""Watches the model server: sees its process end at once, tells a restart from a broken connection, asks for health.

The held connection ends with the process; the boot id in the server's state tells whether it is the same process that
answers afterwards.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from . import logs
from .model_server import HeldConnection, ModelServer, ServerError, ServerGone, ServerState

RETRY_SECONDS: Final = 0.1
RETRY_MAX_SECONDS: Final = 1.0
HEALTH_SECONDS: Final = 1.5
MISSED_SECONDS: Final = 0.3
"""From one health check to the next, after one that was answered and after one that was not."""
RECONCILE_SECONDS: Final = 60.0
FROZEN_SECONDS: Final = 4.5
"""A server that has answered none for so long counts as frozen: a check may take 2 s, and one may be lost."""
LEAST_SECONDS: Final = 1.0
"""However late it is asked, a server has so long to answer."""
LATE_SECONDS: Final = 0.2
LOADING_SECONDS: Final = 30.0
"""Likewise while something loads, which may stop a server's one thread."""


class Watcher(Protocol):
    """Who wants to know. Called on the event loop; must not block."""

    def loading(self) -> bool: ...
    def mark(self) -> int: ...
    def server_up(self, state: ServerState, mark: int) -> None: ...
    def server_down(self) -> None: ...
    def server_state(self, state: ServerState, mark: int) -> None: ...


class ServerWatch:
    """``up``: the process is there and its state was read. ``healthy``: it also answers in time."""

    def __init__(self, server: ModelServer, watcher: Watcher, changed: Callable[[], None]) -> None:
        self._server = server
        self._watcher = watcher
        self._changed = changed
        self._answered_at = 0.0
        self._missed = 0
        self.boot = ""
        self.up = False
        self.healthy = True
        self.message = "The model server has not started yet."
        self.looked = asyncio.Event()
        """Set once it is known whether the process is there."""

    @property
    def ready(self) -> bool:
        return self.up and self.healthy

    @property
    def frozen(self) -> bool:
        """The process is there, and says nothing."""
        return self.up and not self.healthy

    async def run(self) -> None:
        """Watch until cancelled."""
        pause = RETRY_SECONDS
        while True:
            try:
                connection = await self._server.hold()
            except ServerGone as error:
                self._down(f"The model server does not accept connections: {error}")
                self.looked.set()
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, RETRY_MAX_SECONDS)
                continue
            try:
                if await self._connected():
                    pause = RETRY_SECONDS
                    await self._until_ended(connection)
            finally:
                connection.close()
            if not self.up:
                await asyncio.sleep(pause)

    async def _connected(self) -> bool:
        mark = self._watcher.mark()
        try:
            state = await self._server.state()
        except (ServerGone, ServerError) as error:
            # A process that accepts and does not tell its state is starting, or is not ours.
            self._down(str(error))
            return False
        if self.up and state.boot != self.boot:
            self._down("The model server was restarted.")
        if self.up:
            self._watcher.server_state(state, mark)
            return True
        self.boot, self.up, self.healthy, self.message = state.boot, True, True, ""
        self._answered_at = asyncio.get_running_loop().time()
        self.looked.set()
        logs.info("server up", boot=state.boot, models=len(state.models))
        self._watcher.server_up(state, mark)
        self._changed()
        return True

    def _down(self, message: str) -> None:
        if self.up:
            logs.warning("server down", boot=self.boot, message=message)
            self.up = False
            self.message = message[:500]
            self._watcher.server_down()
            self._changed()
        elif self.message != message[:500]:
            self.message = message[:500]
            self._changed()

    async def _until_ended(self, connection: HeldConnection) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.ensure_future(connection.ended())
        reconciled = loop.time()
        pause = HEALTH_SECONDS
        try:
            while True:
                await asyncio.wait({ended}, timeout=pause)
                if ended.done():
                    return
                pause = HEALTH_SECONDS if await self._check_health(ended) else MISSED_SECONDS
                if loop.time() - reconciled >= RECONCILE_SECONDS and not ended.done():
                    reconciled = loop.time()
                    await self._reconcile()
        finally:
            ended.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ended

    async def _check_health(self, ended: "asyncio.Future[None]") -> bool:
        """Whether the server answers; whoever waits for that longer than it may take is told before it is known."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        check = asyncio.ensure_future(self._server.alive())
        # A server that dies while it is asked must not be waited for.
        both: set[asyncio.Future[Any]] = {check, ended}
        limit = LOADING_SECONDS if self._watcher.loading() else FROZEN_SECONDS
        left = max(LEAST_SECONDS, self._answered_at + limit - asked_at)
        await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        # This process may have been the one that stood still: what came meanwhile is read first.
        await asyncio.wait(both, timeout=LATE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not check.done() and not ended.done():
            self._note(healthy=False)
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not check.done() or ended.done():
            check.cancel()
            return False
        self._missed = 0 if check.result() else self._missed + 1
        if check.result():
            self._answered_at = asked_at
            self._note(healthy=True)
        elif loop.time() >= self._answered_at + limit and self._missed > 1:
            self._note(healthy=False)  # one alone may be this process's doing, which stood still while its time ran
        return check.result()

    def _note(self, *, healthy: bool) -> None:
        if healthy != self.healthy:
            self.healthy = healthy
            self.message = "" if healthy else "The model server does not answer its health check in time."
            logs.warning("server health", healthy=healthy)
            self._changed()

    async def _reconcile(self) -> None:
        # A server too busy to answer is asked again next time; its end is seen by the held connection.
        with contextlib.suppress(ServerError, ServerGone):
            mark = self._watcher.mark()
            state = await self._server.state()
            if state.boot == self.boot:
                self._watcher.server_state(state, mark)

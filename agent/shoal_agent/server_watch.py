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
HEALTH_SECONDS: Final = 2.0
RECONCILE_SECONDS: Final = 60.0
MISSES: Final = 2
"""So many health checks in a row may fail (one, on a busy machine) before the server counts as frozen."""
PATIENCE: Final = 10
"""How many health checks in a row may fail while something loads; a load may stop a server's one thread."""


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
        self._failures = 0
        self.boot = ""
        self.up = False
        self.healthy = True
        self.message = "The model server has not started yet."
        self.looked = asyncio.Event()
        """Set once it is known whether the process is there."""

    @property
    def ready(self) -> bool:
        return self.up and self.healthy

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
        self.boot, self.up, self.healthy, self.message, self._failures = state.boot, True, True, "", 0
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
        ended = asyncio.ensure_future(connection.ended())
        since_reconcile = 0.0
        try:
            while True:
                await asyncio.wait({ended}, timeout=HEALTH_SECONDS)
                if ended.done():
                    return
                await self._check_health(ended)
                since_reconcile += HEALTH_SECONDS
                if since_reconcile >= RECONCILE_SECONDS and not ended.done():
                    since_reconcile = 0.0
                    await self._reconcile()
        finally:
            ended.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ended

    async def _check_health(self, ended: "asyncio.Future[None]") -> None:
        check = asyncio.ensure_future(self._server.alive())
        # A server that dies while it is asked must not be waited for.
        both: set[asyncio.Future[Any]] = {check, ended}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not check.done():
            check.cancel()
            return
        if check.result():
            self._failures = 0
        else:
            self._failures += 1
        healthy = self._failures < (PATIENCE if self._watcher.loading() else MISSES)
        if healthy != self.healthy and not ended.done():
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

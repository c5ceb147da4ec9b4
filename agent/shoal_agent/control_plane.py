"""Talks to the operator: one long poll after another, on one connection.

While nothing happens the operator holds the request. A change interrupts it: the request is given up and a new one
tells the change (changes within 50 ms go together). While much happens the agent does not wait at all, so that a
thousand loads neither open a thousand connections nor wait for each other. Without an operator the pod goes on as it
is, and the agent knocks again, less and less often.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import ValidationError
from shoal_api.messages import LONG_POLL_SECONDS, ServerReport, SyncRequest, SyncResponse

from . import logs
from .exchange import Accepted, Exchange, Refused
from .metrics import Metrics
from .retries import Backoff

COALESCE_SECONDS: Final = 0.05
BUSY_WAIT_SECONDS: Final = 0.1
MARGIN_SECONDS: Final = 15.0
MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024
PACE_SECONDS: Final = 0.06
"""Least time between the starts of two requests: the operator refuses more than 20 a second."""
RECONNECT: Final = Backoff(initial=0.2, maximum=3.0, jitter=0.5)


class ControlPlane:
    """``accept`` is handed what the operator wants; ``server`` and ``draining`` are read at each request."""

    def __init__(
        self,
        *,
        url: str,
        credentials: Path,
        exchange: Exchange,
        metrics: Metrics,
        accept: Callable[[Accepted], None],
        server: Callable[[], ServerReport],
        draining: Callable[[], bool],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._url = f"{url}/v1/sync"
        self._credentials = credentials
        self._exchange = exchange
        self._metrics = metrics
        self._accept, self._server, self._draining = accept, server, draining
        self._chance = chance
        self._changed = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        self._authority: tuple[int, int] | None = None
        self._wait = BUSY_WAIT_SECONDS
        self._last = 0.0
        self.connected = False

    def changed(self) -> None:
        """Something is to be told; soon."""
        self._changed.set()

    async def run(self) -> None:
        """Exchange until cancelled."""
        failures = 0
        try:
            while True:
                try:
                    refused = await self._exchange_once()
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    refused = _describe(error)
                if refused is None:
                    if not self.connected:
                        logs.info("operator connected", epoch=self._exchange.epoch)
                    self.connected, failures = True, 0
                    self._metrics.syncs.labels("ok").inc()
                    continue
                failures += 1
                self._metrics.syncs.labels("failed").inc()
                if self.connected or failures in (1, 10) or failures % 100 == 0:
                    logs.warning("operator sync failed", failures=failures, error=refused)
                self.connected = False
                await asyncio.sleep(RECONNECT.delay(failures, self._chance()))
        finally:
            await self._close()

    async def _exchange_once(self) -> str | None:
        """One exchange, or one that a change cut short (then the next one follows at once). A text: what was wrong."""
        loop = asyncio.get_running_loop()
        if (early := self._last + PACE_SECONDS - loop.time()) > 0:
            await asyncio.sleep(early)
        self._last = loop.time()
        self._changed.clear()
        request = self._exchange.request(self._server(), self._draining(), self._next_wait())
        post = asyncio.ensure_future(self._post(request))
        interrupt = asyncio.ensure_future(self._changed.wait())
        try:
            if request.wait_seconds > BUSY_WAIT_SECONDS:
                await asyncio.wait({post, interrupt}, return_when=asyncio.FIRST_COMPLETED)
                if not post.done():
                    # More may follow, and the answer may be on its way: it decides which comes first.
                    await asyncio.wait({post}, timeout=COALESCE_SECONDS)
                if not post.done():
                    return None
            response = await post
        finally:
            for task in (post, interrupt):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
        outcome = self._exchange.response(request, response)
        if isinstance(outcome, Refused):
            return outcome.reason
        self._metrics.epoch.set(self._exchange.epoch)
        self._accept(outcome)
        if not request.observed and request.observed_base is not None and not self._changed.is_set():
            self._wait = min(self._wait * 2, LONG_POLL_SECONDS)  # it is getting quiet
        return None

    def _next_wait(self) -> float:
        if self._exchange.pending:  # the operator should take the news and answer, not hold them
            self._wait = BUSY_WAIT_SECONDS
        return self._wait

    async def _post(self, request: SyncRequest) -> SyncResponse:
        session = await self._open()
        token = await asyncio.to_thread(_read_token, self._credentials / "token")
        async with session.post(
            self._url,
            data=request.model_dump_json(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=request.wait_seconds + MARGIN_SECONDS, sock_connect=5),
            allow_redirects=False,
        ) as answer:
            if answer.status != 200:
                said = (await answer.content.read(1024)).decode("utf-8", "replace")
                raise ValueError(f"the operator answered {answer.status}: {said[:300]}")
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise ValueError(f"the operator's answer is larger than {MAX_RESPONSE_BYTES} bytes")
        return SyncResponse.model_validate_json(bytes(body))

    async def _open(self) -> aiohttp.ClientSession:
        if not self._url.startswith("https://"):
            if self._session is None:
                self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2))
            return self._session
        # The operator rotates its certificate authority: a changed file means a new connection.
        file = self._credentials / "ca.crt"
        status = await asyncio.to_thread(file.stat)
        authority = (status.st_mtime_ns, status.st_ino)
        if self._session is None or authority != self._authority:
            context = await asyncio.to_thread(ssl.create_default_context, cafile=str(file))
            await self._close()
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2, ssl=context))
            self._authority = authority
        return self._session

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _read_token(path: Path) -> str:
    """Read at each use: the kubelet replaces it before it expires."""
    return path.read_text().strip()


def _describe(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return f"the operator's answer is not understood: {error.error_count()} errors, {error.errors()[0]['msg']}"
    return f"{type(error).__name__}: {error}"[:500]

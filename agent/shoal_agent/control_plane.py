"""Talks to the operator: one long poll after another.

While nothing happens the operator holds the request. News go in a request of their own that is answered at once, on
the other connection: the operator then ends the poll that it still holds, so neither waits for the other and no
connection is lost. What nobody waits for (a pull has begun) goes with the next news, or a little later. While much
happens, requests keep to a pace, and more goes into each. Without an operator the pod goes on as it is, and the agent
knocks again, less and less often.
"""

import asyncio
import json
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import ValidationError
from shoal_api.messages import (
    LONG_POLL_SECONDS,
    MAX_RESPONSE_BYTES,
    PROTOCOL_UNSUPPORTED,
    ServerReport,
    SyncRequest,
    SyncResponse,
)

from . import logs
from .descriptions import Descriptions
from .exchange import Accepted, Exchange, News, Refused
from .metrics import Metrics
from .retries import Backoff, Pace
from .use import Use

LATER_SECONDS: Final = 0.2
MARGIN_SECONDS: Final = 15.0
REQUESTS_PER_SECOND: Final = 25.0
"""The operator refuses more than 40 a second, and more than 100 at once."""
REQUESTS_BURST: Final = 50.0
GIVEN_UP_SECONDS: Final = 1.0
MAX_GIVEN_UP: Final = 2
KEEP_SECONDS: Final = 60.0
"""Longer than a poll: the connection for news is used every other time, and is there when there are some."""
RECONNECT: Final = Backoff(initial=0.2, maximum=3.0, jitter=0.5)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """``problem``: what was wrong with the answer, or why there was none."""

    answered: bool = True
    problem: str = ""


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
        use: Use,
        descriptions: Descriptions | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._url = f"{url}/v1/sync"
        self._credentials = credentials
        self._exchange = exchange
        self._metrics = metrics
        self._accept, self._server, self._draining, self._use = accept, server, draining, use
        self._descriptions = descriptions or Descriptions(None)
        self._chance = chance
        self._changed = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        self._authority: tuple[int, int] | None = None
        self._opening = asyncio.Lock()
        self._later: asyncio.TimerHandle | None = None
        self._pace = Pace(REQUESTS_PER_SECOND, REQUESTS_BURST)
        self._given_up: list[asyncio.Task[SyncResponse]] = []
        self._use_now = False  # the operator waits for it
        self.connected = False

    def changed(self, news: News = News.NOW) -> None:
        """Something is to be told."""
        if news is News.NOW:
            self._changed.set()
        elif news is News.LATER and self._later is None:
            self._later = asyncio.get_running_loop().call_later(LATER_SECONDS, self._changed.set)

    async def run(self) -> None:
        """Exchange until cancelled."""
        failures = 0
        try:
            while True:
                try:
                    outcome = await self._exchange_once()
                except Exception as error:
                    # Whatever the operator says, or does to its answer: the pod serves on, and the agent knocks again.
                    outcome = _Outcome(problem=_describe(error))
                if not outcome.answered:
                    continue
                if not outcome.problem:
                    if not self.connected:
                        logs.info("operator connected", epoch=self._exchange.epoch)
                    self.connected, failures = True, 0
                    self._metrics.syncs.labels("ok").inc()
                    continue
                failures += 1
                self._metrics.syncs.labels("failed").inc()
                if self.connected or failures in (1, 10) or failures % 100 == 0:
                    logs.warning("operator sync failed", failures=failures, error=outcome.problem)
                self.connected = False
                await asyncio.sleep(RECONNECT.delay(failures, self._chance()))
        finally:
            for post in self._given_up:
                post.cancel()
            await self._close()

    async def _exchange_once(self) -> _Outcome:
        """One exchange, or a poll that news cut short (then the next one follows at once)."""
        if (early := self._pace.delay(asyncio.get_running_loop().time())) > 0:
            await asyncio.sleep(early)
        self._changed.clear()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        use_now, self._use_now = self._use_now, False
        if use_now:
            await self._use.look()
        told, described = self._use.pending, self._descriptions.pending
        # The operator should take news and answer, not hold them: the next ones start from what it has taken.
        news = self._exchange.pending or told.models or described or use_now
        wait = 0.0 if news else LONG_POLL_SECONDS
        request = self._exchange.request(
            self._server(), self._draining(), wait, told.models, use_now=use_now, metadata=described
        )
        post = asyncio.create_task(self._post(request))
        interrupt = asyncio.create_task(self._changed.wait())
        try:
            if wait:
                await asyncio.wait({post, interrupt}, return_when=asyncio.FIRST_COMPLETED)
                if not post.done():
                    self._give_up(post)
                    return _Outcome(answered=False)
            response = await post
        except asyncio.CancelledError:
            post.cancel()
            raise
        finally:
            interrupt.cancel()
        epoch = self._exchange.epoch
        outcome = self._exchange.response(request, response)
        if isinstance(outcome, Refused):
            return _Outcome(problem=outcome.reason)
        self._use.answered(told, response.use_seconds)
        self._descriptions.answered(described)
        self._use_now = response.use_now
        if response.epoch != epoch or response.observed_acknowledged == 0:
            self._descriptions.forget()
            self._use.forget()  # this operator knows nothing of what another one was told
        self._metrics.epoch.set(self._exchange.epoch)
        try:
            self._accept(outcome)
        except BaseException:
            self._exchange.forget_operator()  # what it wants was not taken in: it is to say it again
            raise
        return _Outcome()

    def _give_up(self, post: "asyncio.Task[SyncResponse]") -> None:
        """Its answer counts for nothing: what it might bring, the next one brings as well. The operator ends it when
        the next one arrives; that keeps its connection."""
        self._given_up.append(post)
        post.add_done_callback(self._ended)
        asyncio.get_running_loop().call_later(GIVEN_UP_SECONDS, post.cancel)
        if len(self._given_up) > MAX_GIVEN_UP:
            self._given_up[0].cancel()

    def _ended(self, post: "asyncio.Task[SyncResponse]") -> None:
        self._given_up.remove(post)
        if not post.cancelled():
            post.exception()  # seen, and of no interest

    async def _post(self, request: SyncRequest) -> SyncResponse:
        token, authority = await asyncio.to_thread(self._read_credentials)
        session = await self._open(authority)
        async with session.post(
            self._url,
            data=request.model_dump_json(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=request.wait_seconds + MARGIN_SECONDS, sock_connect=5),
            allow_redirects=False,
        ) as answer:
            if answer.status != 200:
                said = (await answer.content.read(1024)).decode("utf-8", "replace")
                if answer.status == 400 and _reason(said) == PROTOCOL_UNSUPPORTED:
                    self._exchange.protocol_refused()
                raise ValueError(f"the operator answered {answer.status}: {said[:300]}")
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise ValueError(f"the operator's answer is larger than {MAX_RESPONSE_BYTES} bytes")
        return SyncResponse.model_validate_json(bytes(body))

    def _read_credentials(self) -> tuple[str, tuple[int, int] | None]:
        """Read at each use: the kubelet replaces the token before it expires, and the operator rotates its
        authority."""
        token = (self._credentials / "token").read_text().strip()
        if not self._url.startswith("https://"):
            return token, None
        status = (self._credentials / "ca.crt").stat()
        return token, (status.st_mtime_ns, status.st_ino)

    async def _open(self, authority: tuple[int, int] | None) -> aiohttp.ClientSession:
        # A changed authority means new connections; what is still under way on the old ones fails, and is repeated.
        async with self._opening:
            if self._session is None or authority != self._authority:
                context = (
                    await asyncio.to_thread(ssl.create_default_context, cafile=str(self._credentials / "ca.crt"))
                    if authority is not None
                    else True
                )
                await self._close()
                connector = aiohttp.TCPConnector(limit=MAX_GIVEN_UP + 2, keepalive_timeout=KEEP_SECONDS, ssl=context)
                self._session = aiohttp.ClientSession(connector=connector)
                self._authority = authority
            return self._session

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _reason(said: str) -> str:
    try:
        return str(json.loads(said)["reason"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _describe(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        return f"a message is not understood: {error.error_count()} errors, {where}: {first['msg'][:200]}"
    return f"{type(error).__name__}: {error}"[:500]

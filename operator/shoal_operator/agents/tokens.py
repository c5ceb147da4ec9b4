"""Which pod a token belongs to, asking the API server as seldom as is safe.

An answer is kept by the token's hash, at most GOOD_SECONDS and never past the token's own expiry; a refusal only for
moments. Many requests with one token are one question. No token is kept, logged or shown.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .identity import AgentIdentity, Refused, ReviewedToken, ReviewUnavailable, expiry, identify
from .metrics import AgentsMetrics

GOOD_SECONDS = 120.0
BAD_SECONDS = 5.0
MAX_TOKENS = 10_000
MAX_TOKEN_LENGTH = 16_384
MAX_QUESTIONS = 64
"""TokenReviews under way at once: a flood of made-up tokens is turned away, not handed on to the API server."""

Review = Callable[[str], Awaitable[ReviewedToken]]
"""Asks about one token. Raises ReviewUnavailable when there was no answer."""


@dataclass(frozen=True, slots=True)
class _Known:
    until: float
    answer: AgentIdentity | Refused


class Tokens:
    """``await identity(token)``: an AgentIdentity, or Refused (401), or ReviewUnavailable."""

    def __init__(
        self,
        review: Review,
        audience: str,
        metrics: AgentsMetrics,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._review = review
        self._audience = audience
        self._metrics = metrics
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[AgentIdentity | Refused]] = {}

    async def identity(self, token: str) -> AgentIdentity:
        if len(token) > MAX_TOKEN_LENGTH:
            raise Refused(401, "TokenInvalid", "the token is longer than any service-account token: send the pod's")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known.until:
            answer = known.answer
        else:
            answer = await self._ask(digest, token)
        if isinstance(answer, Refused):
            # A fresh one each time: a raised exception collects its traceback.
            raise Refused(answer.status, answer.reason, str(answer))
        return answer

    async def _ask(self, digest: bytes, token: str) -> AgentIdentity | Refused:
        asking = self._asking.get(digest)
        if asking is None:
            if len(self._asking) >= MAX_QUESTIONS:
                raise ReviewUnavailable("too many tokens are being checked at once")
            asking = asyncio.create_task(self._ask_once(digest, token), name="token-review")
            self._asking[digest] = asking
            asking.add_done_callback(lambda task: self._asked(digest, task))
        # One caller that hangs up must not end the question for the others.
        return await asyncio.shield(asking)

    def _asked(self, digest: bytes, task: asyncio.Task[AgentIdentity | Refused]) -> None:
        self._asking.pop(digest, None)
        if not task.cancelled():
            task.exception()  # seen, even when every caller has hung up meanwhile

    async def _ask_once(self, digest: bytes, token: str) -> AgentIdentity | Refused:
        answer: AgentIdentity | Refused
        try:
            reviewed = await self._review(token)
        except ReviewUnavailable:
            self._metrics.reviews.labels("unavailable").inc()
            raise
        now = self._clock()
        try:
            answer = identify(reviewed, self._audience)
            until = now + GOOD_SECONDS
            expires = expiry(token)
            if expires is not None:
                until = min(until, expires)
        except Refused as refused:
            answer, until = refused.with_traceback(None), now + BAD_SECONDS
        self._metrics.reviews.labels("refused" if isinstance(answer, Refused) else "accepted").inc()
        self._known[digest] = _Known(until, answer)
        self._known.move_to_end(digest)
        if len(self._known) > MAX_TOKENS:
            self._known.popitem(last=False)
        return answer

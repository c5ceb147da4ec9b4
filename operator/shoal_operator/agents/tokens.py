"""Which pod a token belongs to, asking the API server as seldom as is safe.

What a token claims is read first: one that does not claim to be a pod's, for us and for now, costs no question. An
answer is kept by the token's hash, at most GOOD_SECONDS and never past the token's own expiry; while the API server
does not answer, a token that it has vouched for goes on being believed until it expires. A refusal is kept for moments.
Many requests with one token are one question. No token is kept, logged or shown.

Whose questions wait for whose: a pod that state knows, calling from its own address, has a lane of its own, and at most
one question in it; all others share those of their source address. Made-up tokens keep nobody but their sender waiting.
"""

import asyncio
import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shoal_operator.connections.rates import Rates

from .identity import AgentIdentity, Claims, Refused, ReviewedToken, ReviewUnavailable, claims, identify
from .metrics import AgentsMetrics

GOOD_SECONDS = 120.0
BAD_SECONDS = 5.0
AGAIN_SECONDS = 10.0
"""How long a token is believed without a question after one that was not answered."""
REVIEW_SECONDS = 3.0
"""How long an API server that hangs keeps an agent waiting that it has vouched for before."""
MAX_TOKENS = 20_000
MAX_TOKENS_OF_A_POD = 3
"""The kubelet's former one and its newer one, and one more."""
MAX_REFUSALS = 2_000
MAX_TOKEN_LENGTH = 16_384
MAX_QUESTIONS = 64
"""TokenReviews under way at once, of known pods. More wait for their turn."""
MAX_FOREIGN_QUESTIONS = 16
MAX_QUESTIONS_OF_A_SOURCE = 4
"""The same of all others, of whom more are turned away."""
ATTEMPTS_PER_SECOND = 20.0
ATTEMPTS_BURST = 100.0
"""Tokens of one source address that nothing is known of."""
QUESTIONS_PER_SECOND = 2.0
QUESTIONS_BURST = 10.0
"""TokenReviews for one known pod, or for one source address."""

Review = Callable[[str], Awaitable[ReviewedToken]]
"""Asks about one token. Raises ReviewUnavailable when there was no answer."""
Address = Callable[[str, str, str], str | None]
"""IP of the pod with that namespace, name and UID; None when state knows no such pod."""


@dataclass(slots=True)
class _Vouched:
    """``until``: asked again then. ``expires``: the token's own end."""

    identity: AgentIdentity
    until: float
    expires: float


@dataclass(frozen=True, slots=True)
class _Refusal:
    until: float
    answer: Refused


class Tokens:
    """``await identity(token, source)``: an AgentIdentity, or Refused (401, 429), or ReviewUnavailable."""

    def __init__(
        self,
        review: Review,
        audience: str,
        metrics: AgentsMetrics,
        address: Address = lambda namespace, pod, uid: None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._review = review
        self._audience = audience
        self._metrics = metrics
        self._address = address
        self._clock = clock
        self._vouched: OrderedDict[bytes, _Vouched] = OrderedDict()
        self._of_pod: dict[str, list[bytes]] = {}
        self._refused: OrderedDict[bytes, _Refusal] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[AgentIdentity]] = {}
        self._turns = asyncio.Semaphore(MAX_QUESTIONS)
        self._own: set[str] = set()  # pods that have a question under way
        self._foreign: Counter[str] = Counter()  # questions under way by source
        self._attempts = Rates(ATTEMPTS_PER_SECOND, ATTEMPTS_BURST)
        self._questions = Rates(QUESTIONS_PER_SECOND, QUESTIONS_BURST)

    async def identity(self, token: str, source: str = "") -> AgentIdentity:
        """The pod that the token is bound to; ``source``: the caller's address."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        now = self._clock()
        vouched = self._vouched.get(digest)
        if vouched is not None and now >= vouched.expires:
            self._forget(digest)
            vouched = None
        if vouched is not None:
            if now >= vouched.until:
                return await self._once_more(digest, token, source, vouched)
            return vouched.identity
        if not self._attempts.take(source, now):
            raise Refused(429, "TooManyTokens", "too many tokens from this address: send the pod's current one")
        refusal = self._refused.get(digest)
        if refusal is not None and now < refusal.until:
            # A fresh one each time: a raised exception collects its traceback.
            raise Refused(refusal.answer.status, refusal.answer.reason, str(refusal.answer))
        return await self._ask(digest, token, source)

    async def _once_more(self, digest: bytes, token: str, source: str, vouched: _Vouched) -> AgentIdentity:
        """Ask again about a token that was good; believe it meanwhile if nobody answers."""
        try:
            async with asyncio.timeout(REVIEW_SECONDS):
                return await self._ask(digest, token, source)
        except (ReviewUnavailable, TimeoutError):
            vouched.until = self._clock() + AGAIN_SECONDS
            self._metrics.reviews.labels("believed").inc()
            return vouched.identity

    async def _ask(self, digest: bytes, token: str, source: str) -> AgentIdentity:
        asking = self._asking.get(digest)
        if asking is None:
            if len(token) > MAX_TOKEN_LENGTH:
                raise Refused(401, "TokenInvalid", "the token is longer than any service-account token: send the pod's")
            said = claims(token, self._audience, self._clock())
            own = bool(source) and self._address(said.namespace, said.pod, said.pod_uid) == source
            lane = said.pod_uid if own else source
            self._enter(lane, own)
            asking = asyncio.create_task(self._ask_once(digest, token, said, own), name="token-review")
            self._asking[digest] = asking
            asking.add_done_callback(lambda task: self._asked(digest, lane, own, task))
        # One caller that hangs up must not end the question for the others.
        return await asyncio.shield(asking)

    def _enter(self, lane: str, own: bool) -> None:
        """Take a place for a question. Raises ReviewUnavailable when there is none."""
        if own:
            full = lane in self._own
        else:
            full = self._foreign[lane] >= MAX_QUESTIONS_OF_A_SOURCE or self._foreign.total() >= MAX_FOREIGN_QUESTIONS
        if full or not self._questions.take(("pod", lane) if own else ("source", lane), self._clock()):
            raise ReviewUnavailable("too many tokens of this pod or address are being checked at once")
        if own:
            self._own.add(lane)
        else:
            self._foreign[lane] += 1

    def _asked(self, digest: bytes, lane: str, own: bool, task: asyncio.Task[AgentIdentity]) -> None:
        self._asking.pop(digest, None)
        if own:
            self._own.discard(lane)
        else:
            self._foreign[lane] -= 1
            if not self._foreign[lane]:
                del self._foreign[lane]
        if not task.cancelled():
            task.exception()  # seen, even when every caller has hung up meanwhile

    async def _ask_once(self, digest: bytes, token: str, said: Claims, own: bool) -> AgentIdentity:
        try:
            if own:
                async with self._turns:
                    reviewed = await self._review(token)
            else:
                reviewed = await self._review(token)
        except ReviewUnavailable:
            self._metrics.reviews.labels("unavailable").inc()
            raise
        now = self._clock()
        try:
            identity = identify(reviewed, self._audience)
        except Refused as refused:
            self._metrics.reviews.labels("refused").inc()
            self._forget(digest)
            self._refused[digest] = _Refusal(now + BAD_SECONDS, refused.with_traceback(None))
            if len(self._refused) > MAX_REFUSALS:
                self._refused.popitem(last=False)
            raise
        self._metrics.reviews.labels("accepted").inc()
        self._remember(digest, _Vouched(identity, min(now + GOOD_SECONDS, said.expires), said.expires))
        return identity

    def _remember(self, digest: bytes, vouched: _Vouched) -> None:
        self._forget(digest)
        mine = self._of_pod.setdefault(vouched.identity.pod_uid, [])
        while len(mine) >= MAX_TOKENS_OF_A_POD:
            self._forget(mine[0])
            mine = self._of_pod.setdefault(vouched.identity.pod_uid, [])
        mine.append(digest)
        self._vouched[digest] = vouched
        if len(self._vouched) > MAX_TOKENS:
            self._forget(next(iter(self._vouched)))

    def _forget(self, digest: bytes) -> None:
        vouched = self._vouched.pop(digest, None)
        if vouched is not None:
            mine = self._of_pod[vouched.identity.pod_uid]
            mine.remove(digest)
            if not mine:
                del self._of_pod[vouched.identity.pod_uid]

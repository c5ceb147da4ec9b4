"""``POST /v1/sync`` over HTTPS, as ``shoal_api.messages`` describes it.

What an agent observes is handed to the backend (the state machine, through main.py); what its pod should hold is
answered as soon as it differs from what the agent has, or when the agent's wait is over.
"""

import asyncio
import json
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol, cast
from weakref import WeakKeyDictionary

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from shoal_api.messages import MAX_REQUEST_BYTES, ModelMetadata, SyncRequest, SyncResponse
from shoal_api.names import AGENT_AUDIENCE, AGENT_PORT

from shoal_operator.connections import TOKEN_SECONDS, Listener, as_kubernetes_writes
from shoal_operator.logs import OncePer
from shoal_operator.state.pods.limits import Known
from shoal_operator.state.world.report import AgentReport

from . import border
from .answer import keep
from .bodies import LargeBodies
from .border import body_limit
from .identity import AgentIdentity, Refused, ReviewUnavailable, check
from .metrics import AgentsMetrics
from .polls import HUNG_UP_SECONDS, MAX_AGENTS, SILENT_SECONDS, Poll, Polls
from .reach import Reach, Where
from .tokens import Review, Tokens

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 25.0
LARGE_BODY_BYTES = 256 * 1024
BODY_SECONDS = 5.0
BODY_BYTES_PER_SECOND = 1024 * 1024
"""A body may take BODY_SECONDS, and as long again as its pod's limit takes at this speed."""
DRAINED_AGAIN_SECONDS = 1.0
DRAINED_LOOK_SECONDS = 0.25
RETRY_AFTER_SECONDS = 2
STOP_SECONDS = 3.0
IDLE_SECONDS = 75.0
"""A connection without a request, once it has shown a good token. Agents give theirs up sooner."""
ADDRESSES_SECONDS = 1.0
"""How long it is remembered which addresses are pods': they are all gone through to know it."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Backend(Protocol):
    """What the server asks of the state machine. All calls are made on the event loop and must not block."""

    def known(self, pod_uid: str) -> Known | None:
        """What the border needs to know of a pod; None while the watch has not shown it."""

    def addresses(self) -> Collection[str]:
        """Of all pods that the watch has shown."""

    def epoch_limit(self) -> int:
        """The highest epoch that an agent is believed to have obeyed."""

    def report(self, report: AgentReport) -> int | None:
        """Take in what an agent observes; the version that its next delta may start from, 0 to ask for everything.
        None: the pod is not known."""

    def answer(self, report: AgentReport, acknowledged: int) -> SyncResponse:
        """What the agent is to be told now; ``acknowledged``: what ``report`` returned."""

    def lost(self, pod_uid: str, session: str) -> bool:
        """The agent hung up and did not come back in time; whether that is news, and not the end of its pod."""

    def reached(self, pod_uid: str, *, reached: bool) -> None:
        """Whether the pod of an agent that is not heard any more can be reached; may be told again."""


class AgentsServer:
    """Serve with ``start``; call ``wake`` when a pod's desired list or its being drained has changed.

    ``described``: told what agents say of models that their servers hold.
    """

    def __init__(
        self,
        backend: Backend,
        review: Review,
        registry: CollectorRegistry = REGISTRY,
        *,
        audience: str = AGENT_AUDIENCE,
        hung_up_seconds: float = HUNG_UP_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
        max_agents: int = MAX_AGENTS,
        agent_port: int = AGENT_PORT,
        token_seconds: float = TOKEN_SECONDS,
        described: Callable[[AgentIdentity, Sequence[ModelMetadata]], None] = lambda identity, metadata: None,
    ) -> None:
        self._backend = backend
        self._described = described
        self._token_seconds = token_seconds
        self._addresses: frozenset[str] = frozenset()
        self._addresses_until = 0.0
        self._metrics = AgentsMetrics(registry)
        self._tokens = Tokens(review, audience, self._metrics, self._address)
        self._agent_port = agent_port
        self._reach = Reach(
            self._where, lambda pod_uid, reached: backend.reached(pod_uid, reached=reached), self._metrics
        )
        self._polls = Polls(
            backend.lost,
            self._metrics,
            hung_up_seconds=hung_up_seconds,
            silent_seconds=silent_seconds,
            max_agents=max_agents,
            listening=self._reach,
        )
        self._large_bodies = LargeBodies()
        self._log_again = OncePer(60)
        self._stopping = False
        self._generation = 0
        self._generations: WeakKeyDictionary[object, int] = WeakKeyDictionary()  # of connections
        self._runner: web.AppRunner | None = None
        self._connections: Listener | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Listen, and return the port (which differs when 0 was asked for). Raises OSError when it is taken."""
        app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[self._errors_as_json])
        app.router.add_post("/v1/sync", self._sync)
        # handler_cancellation: an agent that hangs up ends its poll at once, not when the wait is over.
        runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=STOP_SECONDS,
            keepalive_timeout=IDLE_SECONDS,
            auto_decompress=False,
        )
        await runner.setup()
        self._runner = runner
        self._connections = Listener(
            "the agents API",
            cast("web.Server", runner.server),
            self._is_pods,
            self._metrics.turned_away.inc,
            token_seconds=self._token_seconds,
        )
        bound = await self._connections.start(host, port, tls)
        log.info("the agents API listens", extra={"event": "AgentsListening", "port": bound})
        return bound

    def wake(self, pod_uid: str) -> None:
        """The pod's desired list, or its being drained, changed."""
        self._polls.wake(pod_uid)

    def ask(self, pod_uid: str) -> None:
        """Have the pod's agent come again at once; what it sends then is answered anew."""
        self._polls.answer(pod_uid)

    def wake_all(self) -> None:
        """All may have changed: recovery is over."""
        self._polls.wake_all()

    def let_go(self) -> None:
        """Another operator may lead: have agents come by new connections, which lead to whomever the Service selects.
        Polls that wait are answered now; each connection that there is ends with its next answer."""
        self._generation += 1
        self._polls.wake_all()

    async def close(self) -> None:
        """Answer those who wait, so that they come back to the next operator, and stop."""
        self._stopping = True
        self._polls.close()
        await self._reach.close()
        if self._connections is not None:
            await self._connections.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _sync(self, request: web.Request) -> web.Response:
        started = time.perf_counter()
        _notice_a_dead_peer(request)
        generation = self._generations.setdefault(request.transport or request, self._generation)
        identity = await self._tokens.identity(_bearer(request), _source(request))
        if self._connections is not None and not self._connections.vouched(request.protocol, identity.pod_uid):
            raise Refused(429, "TooManyConnections", "this pod has too many connections: close those that are not used")
        self._polls.admit(identity.pod_uid)
        message, report = await self._read(request, identity)
        acknowledged = self._backend.report(report)
        self._metrics.seconds.observe(time.perf_counter() - started)
        if acknowledged is None:
            raise Refused(
                503,
                "PodUnknown",
                f"pod {message.namespace}/{message.pod} has not been seen by the operator's watch yet: try again",
            )
        if message.metadata:
            self._described(identity, message.metadata)
        with self._polls.answering(report.pod_uid, report.session) as poll:
            response = await self._wait(message, report, acknowledged, poll, generation)
        self._metrics.syncs.labels(_outcome(response, poll)).inc()
        answer = web.Response(
            body=response.model_dump_json(exclude_defaults=True).encode(), content_type="application/json"
        )
        if generation < self._generation:
            answer.force_close()
        return answer

    async def _wait(
        self, message: SyncRequest, report: AgentReport, acknowledged: int, poll: Poll, generation: int
    ) -> SyncResponse:
        """Until there is something to answer, the wait is over, or the agent has asked again."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        deadline = started + min(message.wait_seconds, MAX_WAIT_SECONDS)
        if acknowledged == 0 and report.observed_base is not None:
            deadline = started  # everything is asked for, and wanted now
        while True:
            response = self._backend.answer(report, acknowledged)
            if response.drained:
                # Said at once, then about once a second: the agent may have missed it, and must not spin.
                deadline = min(deadline, started + DRAINED_AGAIN_SECONDS if poll.told_drained else started)
            left = deadline - loop.time()
            urgent = response.desired_version is not None or response.use_now
            if urgent or poll.superseded or left <= 0 or self._stopping or generation < self._generation:
                poll.told_drained = response.drained
                return keep(response) if poll.superseded else response
            # Being drained follows from what Envoys and other pods do: it is looked at, not only waited for.
            await poll.wait(min(left, DRAINED_LOOK_SECONDS) if report.draining else left)

    async def _read(self, request: web.Request, identity: AgentIdentity) -> tuple[SyncRequest, AgentReport]:
        """The request's facts, from its own pod, and within bounds. Raises Refused."""
        known = self._backend.known(identity.pod_uid)
        limit = body_limit(known)
        body = await self._body(request, identity.namespace, limit)
        self._polls.weigh(identity.pod_uid, len(body) / limit)
        read = border.read(body, known)
        check(identity, read.message)
        highest = self._backend.epoch_limit()
        if read.report.epoch > highest:
            raise Refused(
                409,
                "EpochTooFar",
                f"the agent of pod {identity.namespace}/{identity.pod} says that it has obeyed epoch "
                f"{read.report.epoch}; by Lease and store none above {highest} can have been. If it has, delete the "
                "pod; if all agents say so, delete Lease shoal-operator and restart the operator",
            )
        if read.dropped:
            self._metrics.strays.inc(read.dropped)
            if self._log_again.ready(("StraySlots", identity.pod_uid)):
                log.warning(
                    "an agent reports slots that were not wanted of its pod; those beyond a number are not noted",
                    extra={"event": "StraySlots", "pod": f"{identity.namespace}/{identity.pod}", "more": read.dropped},
                )
        return read.message, read.report

    async def _body(self, request: web.Request, namespace: str, limit: int) -> bytes:
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            raise Refused(415, "EncodingNotSupported", f"the report is sent as {encoding[:20]!r}: send it as it is")
        length = request.content_length
        if length is not None and length > limit:
            raise Refused(413, "RequestTooLarge", f"the report has {length} bytes; this pod's may have {limit}")
        seconds = BODY_SECONDS + limit / BODY_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(seconds):
                if length is not None and length <= LARGE_BODY_BYTES:
                    return await request.read()
                async with self._large_bodies.place(namespace):
                    body = bytearray()
                    async for chunk in request.content.iter_any():
                        body += chunk
                        if len(body) > limit:
                            raise Refused(413, "RequestTooLarge", f"the report has more than {limit} bytes")
                    return bytes(body)
        except TimeoutError:
            raise Refused(408, "BodyTooSlow", f"the report did not arrive within {seconds:.0f} s") from None

    def _is_pods(self, address: str) -> bool:
        now = time.monotonic()
        if now >= self._addresses_until:
            self._addresses, self._addresses_until = frozenset(self._backend.addresses()), now + ADDRESSES_SECONDS
        return address in self._addresses

    def _where(self, pod_uid: str) -> Where | None:
        known = self._backend.known(pod_uid)
        return (known.ip, self._agent_port) if known is not None and known.ip else None

    def _address(self, namespace: str, pod: str, uid: str) -> str | None:
        known = self._backend.known(uid)
        return known.ip if known is not None and (known.namespace, known.name) == (namespace, pod) else None

    @web.middleware
    async def _errors_as_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return self._refuse(request, refused.status, refused.reason, str(refused))
        except ReviewUnavailable as unavailable:
            return self._refuse(request, 503, "TokenReviewUnavailable", f"{unavailable}: try again")
        except web.HTTPException as error:
            if error.status == 413:
                what = f"the report is larger than {MAX_REQUEST_BYTES} bytes"
                return self._refuse(request, 413, "RequestTooLarge", what)
            return self._refuse(request, error.status, "NotServed", "only POST /v1/sync is served here")
        except ConnectionError:
            raise  # the agent is gone: there is nobody to answer
        except Exception as error:
            if self._log_again.ready(("SyncFailed", type(error), request.remote)):
                log.exception("a sync failed", extra={"event": "SyncFailed"})
            return self._refuse(request, 500, "Internal", "the operator failed on this request: see its log")

    def _refuse(self, request: web.Request, status: int, reason: str, message: str) -> web.Response:
        self._metrics.syncs.labels(reason).inc()
        if self._log_again.ready((reason, request.remote)):
            log.warning(
                "a sync was refused: %s",
                message,
                extra={"event": "SyncRefused", "reason": reason, "status": status, "from": request.remote},
            )
        headers: dict[str, str] = {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if status in (429, 503):
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        response = web.json_response(
            {"reason": reason, "message": message}, status=status, headers=headers, dumps=json.dumps
        )
        stranger = self._connections is not None and self._connections.is_strangers(request.protocol)
        if stranger and status != 503:
            response.force_close()
        return response


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refused(401, "TokenMissing", "send the pod's projected token as 'Authorization: Bearer <token>'")
    return token


def _source(request: web.Request) -> str:
    """The caller's address, as Kubernetes writes it."""
    return as_kubernetes_writes(request.remote or "")


def _outcome(response: SyncResponse, poll: Poll) -> str:
    if poll.superseded:
        return "superseded"
    if response.desired_version is None:
        return "unchanged"
    return "full" if response.desired_base is None else "delta"


def _notice_a_dead_peer(request: web.Request) -> None:
    """Have the kernel end the connection of a pod that was cut off, within about 3 s."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if connection is None or not hasattr(socket, "TCP_KEEPIDLE"):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)

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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from pydantic import ValidationError
from shoal_api.messages import PROTOCOL_VERSION, SyncRequest, SyncResponse
from shoal_api.names import AGENT_AUDIENCE

from shoal_operator.logs import OncePer
from shoal_operator.state.desired import DesiredChange, DesiredList

from .identity import Refused, ReviewUnavailable, check
from .metrics import AgentsMetrics
from .polls import HUNG_UP_SECONDS, MAX_AGENTS, SILENT_SECONDS, Poll, Polls
from .tokens import Review, Tokens

log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 25.0
MAX_BODY_BYTES = 16 * 1024 * 1024
LARGE_BODY_BYTES = 256 * 1024
LARGE_BODIES = 4
"""Large reports that are read at once; the rest queue, so that a restart of all pods is no flood of memory."""
BODY_SECONDS = 20.0
DRAINED_AGAIN_SECONDS = 1.0
DRAINED_LOOK_SECONDS = 0.25
RETRY_AFTER_SECONDS = 2
STOP_SECONDS = 3.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ReportResult:
    """What became of a report.

    ``acknowledged``: the version that the agent's next delta may start from, 0 to ask for everything. ``known``:
    False while the watch has not shown this pod, whose agent is then told to come again.
    """

    acknowledged: int
    known: bool = True


class Backend(Protocol):
    """What the server asks of the state machine. All calls are made on the event loop and must not block."""

    def report(self, request: SyncRequest) -> ReportResult:
        """Take in what an agent observes; its pod's UID has been verified."""

    def desired(self, pod_uid: str) -> DesiredList | None:
        """What the pod should hold; None while that is not known: the agent keeps what it has."""

    def drained(self, pod_uid: str) -> bool:
        """The pod asked to be emptied and no model is left to move."""

    def epoch(self) -> int:
        """The epoch that this operator has claimed; 0 before."""

    def use_seconds(self, pod_uid: str) -> float:
        """How often the pod's agent should tell which models were used."""

    def use_now(self, pod_uid: str) -> bool:
        """The pod's agent should tell use at once."""

    def lost(self, pod_uid: str, session: str) -> None:
        """The agent hung up and did not come back in time."""


class AgentsServer:
    """Serve with ``start``; call ``wake`` when a pod's desired list or its being drained has changed."""

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
    ) -> None:
        self._backend = backend
        self._metrics = AgentsMetrics(registry)
        self._tokens = Tokens(review, audience, self._metrics)
        self._polls = Polls(
            backend.lost,
            self._metrics,
            hung_up_seconds=hung_up_seconds,
            silent_seconds=silent_seconds,
            max_agents=max_agents,
        )
        self._large_bodies = asyncio.Semaphore(LARGE_BODIES)
        self._log_again = OncePer(60)
        self._stopping = False
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Listen, and return the port (which differs when 0 was asked for)."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._errors_as_json])
        app.router.add_post("/v1/sync", self._sync)
        # handler_cancellation: an agent that hangs up ends its poll at once, not when the wait is over.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        self._runner = runner
        bound: int = runner.addresses[0][1]
        log.info("the agents API listens", extra={"event": "AgentsListening", "port": bound})
        return bound

    def wake(self, pod_uid: str) -> None:
        """The pod's desired list, or its being drained, changed."""
        self._polls.wake(pod_uid)

    def wake_all(self) -> None:
        """All may have changed: recovery is over."""
        self._polls.wake_all()

    async def close(self) -> None:
        """Answer those who wait, so that they come back to the next operator, and stop."""
        self._stopping = True
        self._polls.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _sync(self, request: web.Request) -> web.Response:
        started = time.perf_counter()
        _notice_a_dead_peer(request)
        identity = await self._tokens.identity(_bearer(request))
        self._polls.admit(identity.pod_uid)
        message = await self._message(request)
        check(identity, message)
        result = self._backend.report(message)
        self._metrics.seconds.observe(time.perf_counter() - started)
        if not result.known:
            raise Refused(
                503,
                "PodUnknown",
                f"pod {message.namespace}/{message.pod} has not been seen by the operator's watch yet: try again",
            )
        with self._polls.answering(message.pod_uid, message.session) as poll:
            change, drained = await self._wait(message, result, poll)
        self._metrics.syncs.labels(_outcome(change, poll)).inc()
        response = SyncResponse(
            epoch=self._backend.epoch(),
            observed_acknowledged=result.acknowledged,
            desired_version=change.version if change else None,
            desired_base=change.base if change else None,
            desired=list(change.intents) if change else [],
            desired_gone=list(change.gone) if change else [],
            use_seconds=self._backend.use_seconds(message.pod_uid),
            use_now=self._backend.use_now(message.pod_uid),
            drained=drained,
        )
        return web.Response(
            body=response.model_dump_json(exclude_defaults=True).encode(), content_type="application/json"
        )

    async def _wait(self, message: SyncRequest, result: ReportResult, poll: Poll) -> tuple[DesiredChange | None, bool]:
        """Until there is something to answer, the wait is over, or the agent has asked again."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        deadline = started + _wait_seconds(message)
        if result.acknowledged == 0 and message.observed_base is not None:
            deadline = started  # everything is asked for, and wanted now
        while True:
            change = self._change(message)
            drained = message.draining and self._backend.drained(message.pod_uid)
            if drained:
                # Said at once, then about once a second: the agent may have missed it, and must not spin.
                deadline = min(deadline, started + DRAINED_AGAIN_SECONDS if poll.told_drained else started)
            left = deadline - loop.time()
            asks = self._backend.use_now(message.pod_uid)
            if change is not None or asks or poll.superseded or left <= 0 or self._stopping:
                poll.told_drained = drained
                return (None if poll.superseded else change), drained
            # Being drained follows from what Envoys and other pods do: it is looked at, not only waited for.
            await poll.wait(min(left, DRAINED_LOOK_SECONDS) if message.draining else left)

    def _change(self, message: SyncRequest) -> DesiredChange | None:
        if message.epoch > self._backend.epoch():
            return None  # it has obeyed a later operator; the backend claims a higher epoch first
        desired = self._backend.desired(message.pod_uid)
        return None if desired is None else desired.since(message.desired_version)

    async def _message(self, request: web.Request) -> SyncRequest:
        length = request.content_length
        try:
            async with asyncio.timeout(BODY_SECONDS):
                if length is not None and length <= LARGE_BODY_BYTES:
                    body = await request.read()
                else:
                    async with self._large_bodies:
                        body = await request.read()
        except TimeoutError:
            raise Refused(408, "BodyTooSlow", f"the report did not arrive within {BODY_SECONDS:.0f} s") from None
        try:
            message = SyncRequest.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])[:200]
            raise Refused(
                400, "RequestInvalid", f"the request is not a SyncRequest: {where or 'body'}: {first['msg'][:200]}"
            ) from None
        if message.protocol != PROTOCOL_VERSION:
            raise Refused(
                400,
                "ProtocolUnsupported",
                f"the agent speaks protocol {message.protocol}, this operator {PROTOCOL_VERSION}: "
                "let the operator roll the pods to its own agent",
            )
        return message

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
                what = f"the report is larger than {MAX_BODY_BYTES} bytes"
                return self._refuse(request, 413, "RequestTooLarge", what)
            return self._refuse(request, error.status, "NotServed", "only POST /v1/sync is served here")
        except ConnectionError:
            raise  # the agent is gone: there is nobody to answer
        except Exception:
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
        return web.json_response(
            {"reason": reason, "message": message}, status=status, headers=headers, dumps=json.dumps
        )


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refused(401, "TokenMissing", "send the pod's projected token as 'Authorization: Bearer <token>'")
    return token


def _wait_seconds(message: SyncRequest) -> float:
    """As asked, within bounds; what is no number counts as no wait."""
    return min(message.wait_seconds, MAX_WAIT_SECONDS) if message.wait_seconds > 0 else 0.0


def _outcome(change: DesiredChange | None, poll: Poll) -> str:
    if poll.superseded:
        return "superseded"
    if change is None:
        return "unchanged"
    return "full" if change.base is None else "delta"


def _notice_a_dead_peer(request: web.Request) -> None:
    """Have the kernel end the connection of a pod that was cut off, within about 5 s."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if connection is None or not hasattr(socket, "TCP_KEEPIDLE"):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

"""GET and HEAD of ``/healthz``, ``/readyz``, ``/metrics``, ``/explain/<namespace>/<model>`` and ``/models``.

The last two tell of a tenant's models, so ``access`` says who may read them. Without TLS anybody may connect and nobody
shows a token, so a connection carries one request and has an end; probes and port-forward have places of their own.
"""

import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from shoal_api.grammar import MODEL_NAME, NAMESPACE, SERVICE_NAME
from shoal_api.quantity import whole_number

from shoal_operator.connections import TOKEN_SECONDS, Listener, Places
from shoal_operator.state.world.values import Problem

from .access import Access, Reader, Refused
from .metrics import PortMetrics
from .node import is_loopback

log = logging.getLogger(__name__)

STOP_SECONDS = 2.0
LIFE_SECONDS = 15.0
"""Of a connection without TLS: from its beginning until its answer is read."""
PLAIN_PER_SECOND, PLAIN_BURST = 100.0, 200.0
"""Such connections of one address. The API server's proxy and the node's probes may come from the same one."""
MAX_PAGE, PAGE = 1000, 500
_USAGE = "GET /explain/<namespace>/<name of a TrainedModel>"
_LIST_USAGE = (
    "GET /models?namespace=<namespace>, and if wanted &service=<InferenceService>, &limit=<1 to 1000>, "
    "&continue=<as the page before says>"
)

Ready = Callable[[], tuple[bool, str]]
"""Whether the operator does its work, and why not."""
Explain = Callable[[str, str], Mapping[str, Any] | Problem | None]
"""Everything that is known of a TrainedModel (namespace, name); when there is none the Problem with that, if known."""
Models = Callable[[str, str | None, str, int], Mapping[str, Any]]
"""A page of a namespace's models (namespace, InferenceService or None, name to go on after, at most so many)."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serve with ``start``. ``ready``, ``explain`` and ``models`` are called on the event loop and must not block.

    ``is_own(address)``: whoever connects from there (probes) has places that nobody else can take.
    """

    def __init__(
        self,
        ready: Ready,
        explain: Explain,
        models: Models,
        access: Access,
        registry: CollectorRegistry = REGISTRY,
        *,
        is_own: Callable[[str], bool] = is_loopback,
    ) -> None:
        self._ready = ready
        self._explain = explain
        self._models = models
        self._access = access
        self._registry = registry
        self._runner: web.AppRunner | None = None
        self._is_own = is_own
        self._plain: Listener | None = None
        self._readers: Listener | None = None
        self._metrics_of_ports = PortMetrics(registry)

    async def start(self, host: str, port: int, *, life_seconds: float = LIFE_SECONDS) -> int:
        """Listen, and return the port (which differs when 0 was asked for)."""
        app = web.Application(client_max_size=1024, middlewares=[_errors_as_json])
        # aiohttp answers HEAD where it answers GET, and 405 to the rest.
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/explain/{namespace}/{model}", self._explained)
        app.router.add_get("/explain{rest:.*}", self._explain_usage)
        app.router.add_get("/models", self._listed)
        app.on_response_prepare.append(_one_request_in_clear)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        self._runner = runner
        self._plain = Listener(
            "the operator's HTTP port",
            cast("web.Server", runner.server),
            self._is_own,
            self._metrics_of_ports.plain_turned_away.inc,
            token_seconds=life_seconds,
            places=Places(PLAIN_PER_SECOND, PLAIN_BURST),
        )
        return await self._plain.start(host, port, None)

    async def start_tls(
        self, host: str, port: int, context: ssl.SSLContext, *, token_seconds: float = TOKEN_SECONDS
    ) -> int:
        """Listen over TLS as well, for readers who send a token within so many seconds; returns the port."""
        if self._runner is None:
            raise RuntimeError("start comes first")
        protocol = cast("web.Server", self._runner.server)
        strangers = Listener(
            "the port for readers",
            protocol,
            _no_pods,
            self._metrics_of_ports.readers_turned_away.inc,
            token_seconds=token_seconds,
        )
        bound = await strangers.start(host, port, context)
        self._readers = strangers
        return bound

    async def close(self) -> None:
        for listener in (self._plain, self._readers):
            if listener is not None:
                await listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        """That this is answered says that the event loop turns; nothing else would be cured by a restart."""
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        ready, reason = self._ready()
        return web.json_response({"ready": ready, "reason": reason}, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _explained(self, request: web.Request) -> web.Response:
        for part, grammar in (("namespace", NAMESPACE), ("model", MODEL_NAME)):
            given = request.match_info[part]
            if not grammar.matches(given):
                return _not_found("InvalidName", f"{given[:80]!a} is no {part}'s name; ask {_USAGE}")
        namespace, model = request.match_info["namespace"], request.match_info["model"]
        refused = await self._refusal(request, namespace)
        if refused is not None:
            return _refused(refused)
        explained = self._explain(namespace, model)
        if explained is None:
            return _not_found(
                "NotFound", f"no TrainedModel {namespace}/{model} is known: see kubectl get tm -n {namespace}"
            )
        if isinstance(explained, Problem):
            return _not_found(explained.reason, explained.message)
        return web.json_response(explained, dumps=_dumps)

    async def _listed(self, request: web.Request) -> web.Response:
        """What is loaded now, and where: what a status would have to be written for with each load."""
        query = request.query
        namespace, service, after = query.get("namespace", ""), query.get("service"), query.get("continue", "")
        given = ((NAMESPACE, namespace), (SERVICE_NAME, service), (MODEL_NAME, after or None))
        limit = query.get("limit", str(PAGE))
        wrong = any(value is not None and not grammar.matches(value) for grammar, value in given)
        if wrong or not whole_number(limit, MAX_PAGE):
            return web.json_response({"reason": "InvalidQuery", "message": f"Ask {_LIST_USAGE}."}, status=400)
        refused = await self._refusal(request, namespace)
        if refused is not None:
            return _refused(refused)
        return web.json_response(self._models(namespace, service, after, int(limit)), dumps=_dumps)

    async def _refusal(self, request: web.Request, namespace: str) -> Refused | None:
        reader = _reader(request)
        refused = await self._access.refusal(reader, namespace)
        if refused is None and self._readers is not None and not self._readers.vouched(request.protocol, reader.peer):
            return Refused(429, Problem("TooManyConnections", "Your address has too many connections: close some."))
        return refused

    async def _explain_usage(self, request: web.Request) -> web.Response:
        return _not_found("NotFound", f"a namespace and a TrainedModel's name are needed: {_USAGE}")


def _no_pods(address: str) -> bool:
    """No pod has a place of its own here."""
    return False


async def _one_request_in_clear(request: web.Request, response: web.StreamResponse) -> None:
    if not request.secure:
        response.force_close()
        response.headers["Connection"] = "close"


def _reader(request: web.Request) -> Reader:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return Reader(request.remote or "", request.secure, token.strip() if scheme.lower() == "bearer" else "")


def _refused(refused: Refused) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
    body = {"reason": refused.problem.reason, "message": refused.problem.message}
    return web.json_response(body, status=refused.status, headers=headers)


def _not_found(reason: str, message: str) -> web.Response:
    return web.json_response({"reason": reason, "message": message}, status=404)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        reason = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status, "NotServed")
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        body = {"reason": reason, "message": error.text or error.reason}
        return web.json_response(body, status=error.status, headers=headers)
    except Exception:
        log.exception("a request failed", extra={"event": "HttpFailed", "path": request.path[:200]})
        return web.json_response({"reason": "Internal", "message": "see the operator's log"}, status=500)


def _dumps(value: object) -> str:
    return json.dumps(value, indent=2, default=str) + "\n"

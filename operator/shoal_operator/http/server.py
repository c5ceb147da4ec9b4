"""GET and HEAD of ``/healthz``, ``/readyz``, ``/metrics`` and ``/explain/<namespace>/<model>``."""

import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

from shoal_operator.state.values import Problem

log = logging.getLogger(__name__)

STOP_SECONDS = 2.0
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_USAGE = "GET /explain/<namespace>/<name of a TrainedModel>"

Ready = Callable[[], tuple[bool, str]]
"""Whether the operator does its work, and why not."""
Explain = Callable[[str, str], Mapping[str, Any] | Problem | None]
"""Everything that is known of a TrainedModel (namespace, name); when there is none the Problem with that, if known."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serve with ``start``. ``ready`` and ``explain`` are called on the event loop and must not block."""

    def __init__(self, ready: Ready, explain: Explain, registry: CollectorRegistry = REGISTRY) -> None:
        self._ready = ready
        self._explain = explain
        self._registry = registry
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (which differs when 0 was asked for)."""
        app = web.Application(client_max_size=1024, middlewares=[_errors_as_json])
        # aiohttp answers HEAD where it answers GET, and 405 to the rest.
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/explain/{namespace}/{model}", self._explained)
        app.router.add_get("/explain{rest:.*}", self._explain_usage)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        self._runner = runner
        bound: int = runner.addresses[0][1]
        return bound

    async def close(self) -> None:
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
        for part in ("namespace", "model"):
            given = request.match_info[part]
            if not _NAME.fullmatch(given):
                return _not_found("InvalidName", f"{given[:80]!a} is no {part}'s name; ask {_USAGE}")
        namespace, model = request.match_info["namespace"], request.match_info["model"]
        explained = self._explain(namespace, model)
        if explained is None:
            return _not_found(
                "NotFound", f"no TrainedModel {namespace}/{model} is known: see kubectl get tm -n {namespace}"
            )
        if isinstance(explained, Problem):
            return _not_found(explained.reason, explained.message)
        return web.json_response(explained, dumps=_dumps)

    async def _explain_usage(self, request: web.Request) -> web.Response:
        return _not_found("NotFound", f"a namespace and a TrainedModel's name are needed: {_USAGE}")


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

"""The agent's own port in the pod: health for the kubelet, metrics, and the drain that the server's preStop calls."""

from collections.abc import Awaitable, Callable

from aiohttp import web


def application(
    ready: Callable[[], bool],
    metrics: Callable[[], Awaitable[bytes]],
    drain: Callable[[], Awaitable[bool]],
) -> web.Application:
    """``GET /healthz``, ``/readyz`` (the shared volume is laid out), ``/metrics``; ``GET`` or ``POST /drain``, which
    answers when the pod is empty (200) or the time for it is over (504)."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="laying out the volume\n")

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=await metrics(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def start_drain(_: web.Request) -> web.Response:
        if await drain():
            return web.Response(text="drained\n")
        return web.Response(status=504, text="not drained in time\n")

    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/metrics", show_metrics),
            web.get("/drain", start_drain),
            web.post("/drain", start_drain),
        ]
    )
    return app

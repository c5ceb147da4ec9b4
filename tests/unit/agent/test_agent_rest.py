"""HTTP to a server's management: which calls share a connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from shoal_agent.model_server import rest
from shoal_agent.model_server.rest import Rest


@asynccontextmanager
async def _server(connections: list[object]) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        if request.transport not in connections:
            connections.append(request.transport)
        return web.json_response({"path": request.path})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.53.1", 0)
    await site.start()
    try:
        yield f"http://127.0.53.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_load_and_the_look_after_it_share_a_connection() -> None:
    connections: list[object] = []
    async with _server(connections) as url:
        server = Rest("Toy", url)
        assert (await server.call("POST", "/load", 5))[0] == 200
        assert await server.json("/state") == (200, {"path": "/state"})
        await server.close()
    assert len(connections) == 1


async def test_one_that_was_idle_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "IDLE_SECONDS", 0.05)
    connections: list[object] = []
    async with _server(connections) as url:
        server = Rest("Toy", url)
        await server.call("POST", "/load", 5)
        await asyncio.sleep(0.1)
        await server.call("POST", "/load", 5)
        await server.close()
    assert len(connections) == 2

"""Servers that close idle connections: no request is sent into one that is being closed, and none is sent twice."""

import asyncio
import random

import aiohttp
import pytest
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged

from .test_cold_rest import HOST, INFER
from .world import SERVICE, Envoy, World

pytestmark = pytest.mark.component


class ClosingServer:
    """HTTP/1.1 that closes a connection unannounced once it was idle for ``keep_alive`` seconds, as gunicorn after 2.

    ``seen``: the bodies of the requests that it has read.
    """

    def __init__(self, keep_alive: float) -> None:
        self.keep_alive = keep_alive
        self.seen: list[str] = []
        self.answers = True
        self.connections: set[asyncio.StreamWriter] = set()

    async def start(self, host: str) -> "ClosingServer":
        self._server = await asyncio.start_server(self._serve, host, 0)
        self.host, self.port = self._server.sockets[0].getsockname()
        return self

    async def stop(self) -> None:
        self.close_connections()
        self._server.close()

    def close_connections(self) -> None:
        for writer in self.connections:
            writer.close()
        self.connections.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while True:
                async with asyncio.timeout(self.keep_alive):
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                _, _, rest = head.partition("content-length:")
                body = await reader.readexactly(int(rest.split("\r\n")[0]) if rest else 0)
                self.seen.append(body.decode())
                if not self.answers:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()


async def routed(world: World, keep_alive: float) -> ClosingServer:
    server = await ClosingServer(keep_alive).start("127.0.41.200")
    world.gateway.apply([PodEndpointChanged("closing", server.host, server.port, 1, service=SERVICE)])
    sequence = next(world.sequence)
    world.gateway.apply([RouteChanged(SERVICE, "m1", sequence, frozenset({"closing"}))])
    await world.applied(sequence)
    return server


async def test_no_request_meets_a_connection_that_its_server_is_closing(
    world: World, http: aiohttp.ClientSession
) -> None:
    server = await routed(world, keep_alive=2.0)
    chance = random.Random(8)

    async def client(number: int) -> list[int]:
        statuses = []
        for turn in range(4):
            async with http.post(INFER, data=f"{number}-{turn}") as response:
                statuses.append(response.status)
            await asyncio.sleep(2.0 + chance.uniform(-0.02, 0.02))
        return statuses

    assert await asyncio.gather(*(client(number) for number in range(100))) == [[200] * 4] * 100
    assert len(server.seen) == len(set(server.seen)) == 400
    await server.stop()


async def cut_off(server: ClosingServer, envoy: Envoy, path: str) -> tuple[bytes, int]:
    """Envoy reads a request and the end of the pod's connection in one turn. Its answer's first line, and how many
    requests the pod has seen for it."""
    reader, writer = await asyncio.open_connection(envoy.options.host, envoy.options.port)
    request = f"{path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode()
    writer.write(request)
    answer = await reader.readuntil(b"ok")
    assert b" 200 " in answer
    before = len(server.seen)
    envoy.signal("STOP")
    writer.write(request)
    await asyncio.sleep(0.05)
    server.close_connections()
    await asyncio.sleep(0.05)
    envoy.signal("CONT")
    line = await reader.readuntil(b"\r\n")
    writer.close()
    return line.strip(), len(server.seen) - before


async def test_a_question_is_asked_again_when_the_connection_closes(world: World, envoy: Envoy) -> None:
    server = await routed(world, keep_alive=60)
    for _ in range(3):
        assert await cut_off(server, envoy, "GET /v2/models/m1/ready") == (b"HTTP/1.1 200 OK", 1)
    await server.stop()


async def test_a_post_is_not_sent_again_when_the_connection_closes(world: World, envoy: Envoy) -> None:
    """Envoy does not know whether a server that died has read it: it is its client's to say."""
    server = await routed(world, keep_alive=60)
    lost, noticed_in_time = (b"HTTP/1.1 503 Service Unavailable", 0), (b"HTTP/1.1 200 OK", 1)
    seen = set()
    for _ in range(20):  # which of the two Envoy reads first is the kernel's to say
        seen.add(await cut_off(server, envoy, f"POST {INFER}"))
        if lost in seen:
            break
    assert lost in seen
    assert seen <= {lost, noticed_in_time}
    await server.stop()


async def test_a_request_that_a_dying_server_has_read_is_not_sent_again(
    world: World, http: aiohttp.ClientSession
) -> None:
    server = await routed(world, keep_alive=60)
    server.answers = False
    async with http.post(INFER, data="dear") as response:
        assert (response.status, (await response.json())["reason"]) == (503, "PodUnreachable")
    assert server.seen == ["dear"]
    await server.stop()

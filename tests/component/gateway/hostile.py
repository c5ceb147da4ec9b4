"""Hostile clients of a gateway, in a process of their own: ``python -m tests.component.gateway.hostile HOST PORT``.

A bounded number of connections on loopback, until ended. Each kind is a coroutine that goes on for ever, and begins
anew when the gateway ends what it does.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import sys
from collections.abc import Awaitable, Callable

from .raw_http2 import RawHttp2, grpc_headers, message_head

MIBIBYTE = 1024 * 1024
HOSTS = ("evil.tenant-b", "iris.default")
COLD = "mine"
"""A model of both InferenceServices that is cold and never loads."""

_NAMES = (
    "x" * 300,
    "x" * 20_000,
    "%00",
    "..%2f..",
    "%f0%9f%90%9f",
    "a b",
    "m1%0d%0ax:%20y",
    "-",
    "!",
    "~gate",
    "{}",
    "",
)


class Hostile:
    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._random = random.Random(1)

    async def run(self) -> None:
        kinds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (60, self.silent),
            (30, self.slow_headers),
            (30, self.idle_after_a_request),
            (10, self.unfinished_messages),
            (4, self.large_headers),
            (4, self.resets),
            (4, self.held),
            (6, self.made_up_names),
        ]
        async with asyncio.TaskGroup() as group:
            for count, kind in kinds:
                for _ in range(count):
                    group.create_task(self._again(kind))

    async def _again(self, kind: Callable[[], Awaitable[None]]) -> None:
        while True:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await kind()
            await asyncio.sleep(0.1)

    async def silent(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            await reader.read()
        finally:
            writer.close()

    async def slow_headers(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(b"POST /v2/models/m1/infer HTTP/1.1\r\nHost: iris.default\r\nx: ")
        try:
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await reader.read(1000)
        finally:
            writer.close()

    async def idle_after_a_request(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(b"GET /v2/models/nobody HTTP/1.1\r\nHost: iris.default\r\n\r\n")
            await reader.read()
        finally:
            writer.close()

    async def unfinished_messages(self) -> None:
        """Just below what may be held to read a name, on as many streams as one may have."""
        client = await RawHttp2.connect(self.host, self.port)
        try:
            for number in range(100):
                stream = client.start(grpc_headers("ModelInfer", HOSTS[number % 2]))
                await asyncio.wait_for(client.data(stream, 4 * MIBIBYTE - 1000, message_head("m1", 5 * MIBIBYTE)), 5)
                if client.closed:
                    return
            await asyncio.sleep(5)
        except TimeoutError:
            return
        finally:
            await client.close()

    async def large_headers(self) -> None:
        for size in (20_000, 31_000, 33_000, 70_000, 300_000):
            await self._ask("/v2/models/mine", b"x: " + b"x" * size + b"\r\n")
        for count in (90, 98, 99, 500):
            await self._ask("/v2/models/mine", b"".join(b"h%d: x\r\n" % number for number in range(count)))
        client = await RawHttp2.connect(self.host, self.port)
        for number in range(200):
            model = ("mm-model-id", (COLD, "m1", "nobody")[number % 3])
            client.start([*grpc_headers("ModelInfer", HOSTS[0]), model, ("x", "x" * 15_000)])
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        await client.close()

    async def resets(self) -> None:
        client = await RawHttp2.connect(self.host, self.port)
        for number in itertools.count():
            if client.closed:
                break
            model = ("m1", COLD, "nobody")[number % 3]
            client.reset(client.start([*grpc_headers("ModelInfer", HOSTS[number % 2]), ("mm-model-id", model)]))
            if number % 20 == 0:
                await asyncio.sleep(0.02)
        await client.close()

    async def held(self) -> None:
        """Requests to a cold model with large bodies, on all streams of a connection. Of their own InferenceService:
        who shares one shares what it may have held."""
        client = await RawHttp2.connect(self.host, self.port)
        try:
            for _ in range(500):
                headers = [*grpc_headers("ModelInfer", HOSTS[0]), ("mm-model-id", COLD)]
                stream = client.start(headers)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(client.data(stream, 2 * MIBIBYTE), 0.05)
                if client.closed:
                    return
            await asyncio.sleep(5)
        finally:
            await client.close()

    async def made_up_names(self) -> None:
        for name in _NAMES:
            await self._ask(f"/v2/models/{name}/infer")
            await self._ask(f"/tenant-b/evil/v1/models/{name}:predict")
            await self._ask("/v2/models/m1", f"mm-model-id: {name}\r\n".encode())
            await self._ask("/v2/models/" + "".join(chr(self._random.randrange(33, 127)) for _ in range(60)))
            await asyncio.sleep(0.01)

    async def _ask(self, path: str, headers: bytes = b"") -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            host = self._random.choice((*HOSTS, "nobody.nowhere", "x" * 3000, "IRIS.Default:80"))
            writer.write(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: " + host.encode() + b"\r\n" + headers + b"\r\n")
            async with asyncio.timeout(0.3):
                await reader.read(500)
        except TimeoutError:
            pass
        finally:
            writer.close()


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # that connections end is what is wanted
    asyncio.run(Hostile(sys.argv[1], int(sys.argv[2])).run())

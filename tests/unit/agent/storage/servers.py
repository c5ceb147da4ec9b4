"""A web server that answers whatever bytes a test wants, correct or not, and as slowly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

HOST = "127.0.0.1"
Write = Callable[[bytes], Awaitable[None]]
Respond = Callable[[str, Write], Awaitable[None]]
"""Answers one request of that path. The connection is closed afterwards."""


@contextlib.asynccontextmanager
async def serving(respond: Respond) -> AsyncIterator[int]:
    """Its port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(content: bytes) -> None:
            writer.write(content)
            await writer.drain()

        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            await respond(head.split()[1].decode(), write)
        writer.close()

    server = await asyncio.start_server(talk, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def answer(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> bytes:
    """Headers may hold bytes that are no UTF-8, as surrogates."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode(errors="surrogateescape") + body

"""What asks servers over HTTP is not held up by one of them, nor filled."""

import asyncio
from pathlib import Path

import pytest
from shoal_agent.storage import StorageError, web_client
from shoal_agent.storage.web_access import WebAccess
from shoal_agent.storage.web_addresses import Allowed
from shoal_agent.storage.web_client import WebClient
from shoal_agent.storage.web_json import MAX_VALUES, parse
from yarl import URL

from .servers import HOST, Respond, Write, serving

NOBODY = WebAccess("nobody")
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


def client(connections: int = 4) -> WebClient:
    return WebClient(connections, authority="somewhere", allowed=Allowed(loopback=True))


async def drip(write: Write, what: bytes) -> None:
    while True:
        await write(what)
        await asyncio.sleep(0.02)


async def head(path: str, write: Write) -> None:
    await write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    await drip(write, b"x")


async def provisional(path: str, write: Write) -> None:
    """Each is a whole answer, after which the real one may come."""
    await drip(write, b"HTTP/1.1 103 Early Hints\r\n\r\n")


async def body(path: str, write: Write) -> None:
    await write(LONG)
    await drip(write, b"x")


@pytest.mark.parametrize("respond", [head, provisional, body])
async def test_an_answer_that_drips_is_given_up(respond: Respond, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_client, "ANSWER_SECONDS", 0.3)
    async with serving(respond) as port:
        made = client()
        try:
            with pytest.raises(StorageError, match="did not answer within") as caught:
                async with asyncio.timeout(10):
                    await made.body(await made.ask("GET", URL(f"http://{HOST}:{port}/"), NOBODY, {}), 1 << 20)
        finally:
            await made.close()
    assert caught.value.reason == "StorageUnavailable"


async def test_of_large_answers_a_few_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four that stop at their last byte would be hundreds of megabytes."""
    monkeypatch.setattr(web_client, "_SMALL", 100)
    monkeypatch.setattr(web_client, "_LARGE_AT_ONCE", 1)
    go = asyncio.Event()

    async def respond(path: str, write: Write) -> None:
        size = 10 if path == "/small" else 1000
        await write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * (size - 1))
        if path == "/stops":
            await go.wait()
        await write(b"x")

    async with serving(respond) as port:
        made = client()

        async def get(path: str) -> int:
            answer = await made.ask("GET", URL(f"http://{HOST}:{port}/{path}"), NOBODY, {})
            try:
                return len(await made.body(answer, 10_000))
            finally:
                answer.close()

        try:
            stops = asyncio.create_task(get("stops"))
            await asyncio.sleep(0.2)
            large = asyncio.create_task(get("large"))
            assert await asyncio.wait_for(get("small"), 10) == 10
            await asyncio.sleep(0.2)
            assert not large.done()
            go.set()
            assert await asyncio.wait_for(stops, 10) == await asyncio.wait_for(large, 10) == 1000
        finally:
            await made.close()


async def test_a_listing_does_not_wait_for_files_that_are_long_in_coming() -> None:
    async with serving(body) as port:
        made = client(connections=1)
        try:
            url = URL(f"http://{HOST}:{port}/")
            first = await made.ask("GET", url, NOBODY, {})
            second = await asyncio.wait_for(made.ask("GET", url, NOBODY, {}), 10)
            first.close()
            second.close()
        finally:
            await made.close()


async def test_authorities_that_are_exchanged_again_and_again_leave_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_client, "_context", lambda authority: True)
    monkeypatch.setattr(web_client, "_MAX_SESSIONS", 3)

    async def respond(path: str, write: Write) -> None:
        await write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(respond) as port:
        made = client()
        try:
            for number in range(10):
                for authority in (None, Path(f"/secrets/{number}/ca.crt")):
                    access = WebAccess("nobody", authority=authority)
                    (await made.ask("GET", URL(f"http://{HOST}:{port}/"), access, {})).close()
            assert len(made._sessions) == 3
            assert None in made._sessions
        finally:
            await made.close()


def test_json_that_would_fill_the_memory_is_not_read() -> None:
    for many in (b"{},", b"[],", b'"ab",', b"1,"):
        assert parse(b"[" + many * MAX_VALUES + b"1]") is None
    page = [
        {"type": "file", "path": f"a/b/{number}", "oid": "x", "size": 1, "lfs": {"oid": "y"}} for number in range(9)
    ]
    assert parse(repr(page * 1000).replace("'", '"').encode()) == page * 1000

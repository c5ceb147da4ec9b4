"""What comes without JSON's content type is read as JSON; gzip and deflate are unpacked, within bounds."""

import asyncio
import gzip
import zlib
from typing import Any

import pytest
from shoal_mlserver import bodies
from shoal_mlserver.bodies import BadBody, Bodies

Headers = list[tuple[bytes, bytes]]


def seen(headers: Headers, method: str = "POST", kind: str = "http") -> Headers:
    """The headers with which a request reaches the application."""
    scopes: list[Any] = []

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        scopes.append(scope)

    async def nothing(*_: Any) -> None: ...

    asyncio.run(Bodies(application)({"type": kind, "method": method, "headers": headers}, nothing, nothing))
    return list(scopes[0]["headers"])


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"text/plain; charset=utf-8")],
        [(b"content-type", b"Application/X-WWW-Form-urlencoded; charset=utf-8")],
        [],
    ],
)
def test_a_body_that_does_not_say_that_it_is_json_is_taken_for_it(headers: Headers) -> None:
    host = (b"host", b"shop.default")
    assert seen([host, *headers]) == [host, (b"content-type", b"application/json")]


@pytest.mark.parametrize("said", [b"application/json", b"multipart/form-data; boundary=x"])
def test_what_says_something_else_is_left_alone(said: bytes) -> None:
    assert seen([(b"content-type", said)]) == [(b"content-type", said)]


def test_requests_without_a_body_are_left_alone() -> None:
    assert seen([], method="GET") == []


def received(parts: list[bytes], encoding: bytes = b"gzip") -> tuple[bytes, Headers]:
    """The body that reaches the application, in however many messages it comes, and its headers."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False
    read: list[bytes] = []
    headers: Headers = []

    async def application(scope: Any, receive: Any, _send: Any) -> None:
        headers.extend(scope["headers"])
        more = True
        while more:
            message = await receive()
            read.append(message["body"])
            more = message["more_body"]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(_: Any) -> None: ...

    given = [(b"content-type", b"application/json"), (b"content-encoding", encoding), (b"content-length", b"7")]
    asyncio.run(Bodies(application)({"type": "http", "method": "POST", "headers": given}, receive, send))
    return b"".join(read), headers


BODY = b"0123456789" * 50


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (b"gzip", gzip.compress(BODY)),
        (b"deflate", zlib.compress(BODY)),
        (b"deflate", zlib.compress(BODY)[2:-4]),
    ],
    ids=["gzip", "deflate", "deflate without its frame"],
)
def test_a_packed_body_is_unpacked_in_whatever_parts_it_comes(encoding: bytes, packed: bytes, size: int) -> None:
    body = BODY
    unpacked, headers = received([packed[at : at + size] for at in range(0, len(packed), size)], encoding)
    assert unpacked == body
    assert dict(headers) == {b"content-type": b"application/json", b"content-length": b"500"}


def test_identity_is_left_alone() -> None:
    assert received([b"a", b"b"], b"identity")[0] == b"ab"


@pytest.mark.parametrize(
    ("encoding", "body", "status", "words"),
    [
        (b"gzip", b"not gzip", 400, "not gzip"),
        (b"gzip", gzip.compress(b"x" * 1000)[:15], 400, "cut off"),
        (b"gzip", b"", 400, "cut off"),
        (b"br", b"x", 415, "send gzip"),
        (b"deflate", b"not deflate", 400, "not deflate"),
        (b"deflate", zlib.compress(b"x" * 1000)[:9], 400, "cut off"),
        (b"gzip, gzip", gzip.compress(gzip.compress(b"x")), 415, "send gzip"),
    ],
)
def test_what_cannot_be_unpacked_is_said(encoding: bytes, body: bytes, status: int, words: str) -> None:
    with pytest.raises(BadBody, match=words) as error:
        received([body], encoding)
    assert error.value.status == status


def test_a_small_body_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_UNPACKED_BYTES", 1 << 20)
    assert received([gzip.compress(bytes(1 << 20))])[0] == bytes(1 << 20)
    with pytest.raises(BadBody) as error:
        received([gzip.compress(bytes((1 << 20) + 1))])
    assert error.value.status == 413

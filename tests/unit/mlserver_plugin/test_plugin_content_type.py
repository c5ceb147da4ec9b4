"""What `curl -d` and clients without a content type send is read as JSON; nothing else is changed."""

import asyncio
from typing import Any

import pytest
from shoal_mlserver.content_type import JsonBodies

Headers = list[tuple[bytes, bytes]]


def seen(headers: Headers, method: str = "POST", kind: str = "http") -> Headers:
    """The headers with which a request reaches the application."""
    scopes: list[Any] = []

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        scopes.append(scope)

    async def nothing(*_: Any) -> None: ...

    asyncio.run(JsonBodies(application)({"type": kind, "method": method, "headers": headers}, nothing, nothing))
    return list(scopes[0]["headers"])


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"Application/X-WWW-Form-urlencoded; charset=utf-8")],
        [],
    ],
)
def test_a_body_that_does_not_say_that_it_is_json_is_taken_for_it(headers: Headers) -> None:
    host = (b"host", b"shop.default")
    assert seen([host, *headers]) == [host, (b"content-type", b"application/json")]


@pytest.mark.parametrize("said", [b"application/json", b"application/octet-stream", b"multipart/form-data; boundary=x"])
def test_what_says_something_else_is_left_alone(said: bytes) -> None:
    assert seen([(b"content-type", said)]) == [(b"content-type", said)]


def test_requests_without_a_body_are_left_alone() -> None:
    assert seen([], method="GET") == []

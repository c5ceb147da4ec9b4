"""One JSON line an event: parseable, bounded, and without secrets whichever way they got in."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from shoal_operator import logs

TOKEN = "eyJhbGciOiJSUzI1NiIsImtpZCI6Im.eyJhdWQiOlsic2hvYWwiXX0.c2lnbmF0dXJl"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIL5\n-----END EC PRIVATE KEY-----"


class Written:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def written() -> Iterator[Written]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    written = Written()
    logs.setup("info", written.stream)
    yield written
    root.handlers[:], level = before
    root.setLevel(level)


log = logging.getLogger("shoal_operator.test")


def test_an_event_is_one_line_with_its_fields(written: Written) -> None:
    log.info("model %s\nplaced", "m1", extra={"event": "Placed", "model": "m1", "pods": {"b"}, "bytes": 12})
    (line,) = written.lines
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "shoal_operator.test",
        "event": "Placed",
        "message": "model m1\nplaced",
        "model": "m1",
        "pods": ["b"],
        "bytes": 12,
    }


def test_the_level_is_obeyed_and_an_unknown_one_is_refused(written: Written) -> None:
    log.debug("not shown")
    assert written.lines == []
    with pytest.raises(ValueError, match="LOUD"):
        logs.setup("loud", written.stream)


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        f"Bearer {TOKEN}",
        "Bearer abcdefghij0123456789",
        PEM,
        PEM[:50],
        "postgresql://shoal:hunter2hunter2@db:5432/shoal",
        "https://b.s3/x?X-Amz-Signature=0123456789abcdef&a=b",
        "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key=wJalrXUtnFEMIK7MDENG",
    ],
)
def test_secrets_are_hidden_in_messages_fields_and_traces(written: Written, secret: str) -> None:
    log.warning("it was %s", secret, extra={"deep": {"list": [{"x": secret}]}})
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        log.exception("failed")
    hot = {"hunter2hunter2", "0123456789", "MHcCAQEE", "c2lnbmF0dXJl", "IOSFODNN7", "wJalrXUtn"}
    assert not [part for part in hot if part in written.text]
    assert len(written.lines) == 2
    assert logs.HIDDEN in written.text


def test_a_field_named_like_a_secret_is_hidden_but_a_count_is_not(written: Written) -> None:
    log.info("x", extra={"agent_token": "plain", "s3": {"secretAccessKey": "plain"}, "token_reviews": 3})
    (line,) = written.lines
    assert (line["agent_token"], line["s3"], line["token_reviews"]) == (
        logs.HIDDEN,
        {"secretAccessKey": logs.HIDDEN},
        3,
    )


def test_lines_are_bounded(written: Written) -> None:
    log.error("m" * 10**6, extra={"event": "Big", **{f"f{n}": "v" * 10**5 for n in range(40)}})
    assert len(written.text) < logs.MAX_LINE_LENGTH * 1.2
    (line,) = written.lines
    assert line["event"] == "Big"
    assert line["fields_left_out"] > 0


def test_once_per_period_and_key() -> None:
    now = 0.0
    once = logs.OncePer(60, clock=lambda: now, max_keys=2)
    assert [once.ready("a"), once.ready("a"), once.ready("b"), once.ready("c")] == [True, False, True, False]
    now = 61.0
    assert [once.ready("a"), once.ready("c")] == [True, True]
    once.reset("a")
    assert once.ready("a")


def test_what_strangers_can_provoke_is_said_seldom(written: Written) -> None:
    """aiohttp logs a trace for whatever it cannot read as HTTP, and anybody who reaches a port can send that."""
    server = logging.getLogger("aiohttp.server")
    for number in range(100):
        try:
            raise ValueError(f"not HTTP {number}")
        except ValueError:
            server.exception("Error handling request from %s", f"10.0.0.{number}")
    server.warning("another thing")
    assert [line["message"] for line in written.lines] == ["Error handling request from 10.0.0.0", "another thing"]

"""Headers of an answer: what no connection could carry, or would be ruled by, is left out."""

from types import SimpleNamespace
from typing import Any

import pytest
from shoal_mlserver.said_headers import MAX_BYTES, MAX_HEADERS, MAX_VALUE, carried


def left(headers: Any) -> Any:
    """Of these headers, those that go with the answer."""
    return carried(SimpleNamespace(parameters=SimpleNamespace(headers=headers))).parameters.headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Ce-Id", "a\r\nX-Other: b"),
        ("Ce-Id", "a\n"),
        ("Ce-Id", "\x00"),
        ("Ce-Id", " a"),
        ("Ce-Id", "日本"),
        ("Ce-Id", "x" * (MAX_VALUE + 1)),
        ("Ce-Id", 5),
        ("x y", "a"),
        ("x:", "a"),
        ("", "a"),
        ("x\n", "a"),
        ("x" * 129, "a"),
        (5, "a"),
        ("Content-Length", "3"),
        ("content-encoding", "gzip"),
        ("Transfer-Encoding", "chunked"),
        ("CONNECTION", "close"),
        ("x-model-not-loaded", "true"),
        ("X-Shoal-Not-Sent", "true"),
        ("grpc-status", "0"),
        ("x-bin", "a"),
    ],
)
def test_what_cannot_be_sent_is_left_out_and_nothing_else(name: Any, value: Any) -> None:
    assert left({"X-Own": "kept, a b", name: value}) == {"X-Own": "kept, a b"}


def test_what_can_be_sent_goes_along_up_to_a_number() -> None:
    fit = {f"X-{number}": "x" for number in range(MAX_HEADERS)}
    assert left(fit) == fit
    assert left({**fit, "X-More": "1"}) == fit
    large = {f"X-{number}": "x" * MAX_VALUE for number in range(MAX_HEADERS)}
    assert left({"X-Long": "x" * MAX_VALUE}) == {"X-Long": "x" * MAX_VALUE}
    assert sum(len(name) + len(value) for name, value in left(large).items()) <= MAX_BYTES
    assert left({"X-Empty": "", "X-One": "a"}) == {"X-Empty": "", "X-One": "a"}


@pytest.mark.parametrize("response", [SimpleNamespace(parameters=None), SimpleNamespace(), 5])
def test_an_answer_without_any_stays_as_it_is(response: Any) -> None:
    assert carried(response) is response

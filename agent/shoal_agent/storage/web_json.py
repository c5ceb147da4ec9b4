"""JSON of servers that may be anybody's: what it takes in memory and time is bounded before it is read. Pure.

A byte may be worth much: eight megabytes of ``{},`` are hundreds once they are objects, and seconds of the event loop.
"""

import json
from typing import Any, Final

MAX_VALUES: Final = 500_000
"""Values, at most, by the signs before or behind each; the hub's longest pages have some twenty thousand. These take
some 50 MiB."""
_SIGNS: Final = b"[{,:"


def parse(text: bytes) -> Any:
    """What it says; None: it is no JSON, or of more than so many values."""
    if sum(text.count(sign) for sign in _SIGNS) > MAX_VALUES:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def text_of(value: Any) -> str:
    """A text; empty where it is none. Nothing else is made one: what is nested as deep as it can be read ends in an
    error when it is written."""
    return value if isinstance(value, str) else ""


def size_of(value: Any) -> int | None:
    """A number of bytes; None: it is none that anything has."""
    return value if type(value) is int and 0 <= value < 1 << 53 else None

"""Headers that an answer brings along: only what HTTP and gRPC can carry, and nothing that rules the connection.

MLServer makes headers of the request's ``id`` (``Ce-Id``), and of whatever a model puts into ``parameters.headers``. A
line end in one of them, or 100 kB, ends the connection in the middle of the answer, and with it the next request on it,
another model's; a false length has it read as a part of this one. The id itself stays in the body, whatever it is.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

MAX_VALUE = 1024
MAX_HEADERS = 64
MAX_BYTES = 4096

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""What both HTTP and gRPC allow as a name."""
_VALUE = re.compile(rf"(?:[!-~](?:[ -~]{{0,{MAX_VALUE - 2}}}[!-~])?)?")
_RULING = re.compile(
    r"content-.*|transfer-encoding|connection|proxy-connection|keep-alive|upgrade|trailer|te|grpc-.*|.*-bin"
    r"|x-model-not-loaded|x-envoy-.*|x-shoal-.*",
    re.IGNORECASE,
)
"""Names that the server, the gateway or gRPC say something with: not an answer's to choose."""


def carried(response: Any) -> Any:
    """The same answer, without headers that cannot be sent."""
    written = getattr(getattr(response, "parameters", None), "headers", None)
    if isinstance(written, dict):
        response.parameters.headers = dict(_first(item for item in written.items() if _fits(*item)))
    return response


def _first(items: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """As many as may be, and no more bytes of them than a client of gRPC takes by default, beside its own."""
    left = MAX_BYTES
    for name, value in islice(items, MAX_HEADERS):
        left -= len(name) + len(value)
        if left < 0:
            return
        yield name, value


def _fits(name: Any, value: Any) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    named = _NAME.fullmatch(name) is not None and _RULING.fullmatch(name) is None
    return named and _VALUE.fullmatch(value) is not None

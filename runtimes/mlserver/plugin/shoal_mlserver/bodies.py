"""What a request's body says of itself, put right before MLServer reads it. ASGI middleware.

- No content type, plain text, bytes (tritonclient.http.aio, and whoever sends binary tensors) or a form's (what
  `curl -d` sends): no path of the Open Inference Protocol takes those, so the body can only be JSON, with tensors
  behind it or not, and is read as such. MLServer answers those with 422 and a riddle.
- ``Content-Encoding: gzip`` and ``deflate`` are unpacked, up to MAX_UNPACKED_BYTES: MLServer would unpack a small body
  to whatever fills the pod's memory, and take all its models along. What cannot be unpacked is 400, another encoding
  is 415.
"""

import zlib
from typing import Any

from .asgi import Application, Receive, Scope, Send

MAX_UNPACKED_BYTES = 64 << 20

_TYPE, _ENCODING, _LENGTH = b"content-type", b"content-encoding", b"content-length"
_JSON_ALL_THE_SAME = (b"application/x-www-form-urlencoded", b"text/plain", b"application/octet-stream")
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


class BadBody(Exception):
    """The body cannot be read; ``status`` is the HTTP status that says so."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Bodies:
    """ASGI middleware; inside of what makes error objects (``errors.ErrorObjects``)."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            said = _header(scope, _TYPE)
            if not said or said.startswith(_JSON_ALL_THE_SAME):
                scope = _with(scope, (_TYPE, b"application/json"))
            encoding = _header(scope, _ENCODING)
            if encoding not in (b"", b"identity"):
                body = await _unpacked(encoding, receive)
                scope = _with(scope, (_LENGTH, str(len(body)).encode()), without=_ENCODING)
                receive = _replay(body, receive)
        await self._app(scope, receive, send)


async def _unpacked(encoding: bytes, receive: Receive) -> bytes:
    """The whole body, unpacked. Raises BadBody (400, 413, 415), after the body was read: else the connection ends."""
    named, parts, room, more = encoding.decode("latin-1"), [], MAX_UNPACKED_BYTES, True
    unpack, error = zlib.decompressobj(_WINDOW_BITS.get(encoding, zlib.MAX_WBITS)), None
    if encoding not in _WINDOW_BITS:
        error = BadBody("Content-Encoding is not offered: send gzip, deflate, or none.", 415)
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadBody("The request's body ended early.", 400)
        more = message.get("more_body", False)
        if error is not None:
            continue
        chunk = message.get("body", b"")
        if encoding == b"deflate" and chunk and not parts and not _is_zlib(chunk):
            unpack = zlib.decompressobj(-zlib.MAX_WBITS)  # some clients leave out the frame that RFC 9110 wants
        try:
            part = unpack.decompress(chunk, room + 1)
        except zlib.error as said:
            error = BadBody(f"The body is not {named}, as Content-Encoding says: {said}.", 400)
            continue
        parts.append(part)
        room -= len(part)
        if room < 0:
            parts.clear()
            error = BadBody(f"The body is larger than {MAX_UNPACKED_BYTES >> 20} MiB when unpacked.", 413)
    if error is None and not unpack.eof:
        error = BadBody(f"The body is cut off: its {named} stream has no end.", 400)
    if error is not None:
        raise error
    return b"".join(parts)


def _is_zlib(begin: bytes) -> bool:
    return begin[0] & 0x0F == zlib.DEFLATED and (len(begin) < 2 or (begin[0] << 8 | begin[1]) % 31 == 0)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replayed() -> Any:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _header(scope: Scope, name: bytes) -> bytes:
    found: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return found.strip().lower()


def _with(scope: Scope, header: tuple[bytes, bytes], without: bytes = b"") -> Scope:
    others = [(name, value) for name, value in scope["headers"] if name not in (header[0], without)]
    return {**scope, "headers": [*others, header]}

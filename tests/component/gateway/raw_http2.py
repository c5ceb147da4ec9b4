"""An HTTP/2 client that does what no library lets one do: half messages, floods, resets. No more than tests need."""

import asyncio
import contextlib
import struct
from typing import Self

from shoal_operator.gateway.vocabulary import GRPC_SERVICE

Headers = list[tuple[str, str]]

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_INITIAL_WINDOW = 65_535
_CHUNK = 16_384


class RawHttp2:
    """One connection. ``closed`` once the other side ended it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.closed = False
        self._reader, self._writer = reader, writer
        self._next = 1
        self._window = self._initial = _INITIAL_WINDOW
        self._windows: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0))
        return cls(reader, writer)

    async def close(self) -> None:
        self._reading.cancel()
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def start(self, headers: Headers, *, end: bool = False) -> int:
        """Open a stream; returns its number."""
        stream, self._next = self._next, self._next + 2
        self._windows[stream] = self._initial
        block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)
        self._write(_frame(_HEADERS, _END_HEADERS | (_END_STREAM if end else 0), stream, block))
        return stream

    def reset(self, stream: int) -> None:
        """CANCEL."""
        self._windows.pop(stream, None)
        self._write(_frame(_RST_STREAM, 0, stream, struct.pack(">I", 8)))

    async def data(self, stream: int, size: int, head: bytes = b"") -> None:
        """Send ``head`` and zeros, ``size`` bytes in all, as fast as flow control lets it. The stream stays open."""
        sent = 0
        while sent < size and not self.closed and stream in self._windows:
            room = min(self._window, self._windows[stream], _CHUNK, size - sent)
            if room <= 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            self._window -= room
            self._windows[stream] -= room
            piece = head[sent : sent + room]
            self._write(_frame(_DATA, 0, stream, piece + bytes(room - len(piece))))
            sent += room
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    def _write(self, data: bytes) -> None:
        if not self.closed:
            self._writer.write(data)

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(9)
                length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                self._take(kind, flags, int.from_bytes(head[5:], "big"), await self._reader.readexactly(length))
                self._changed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed = True
            self._changed.set()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for at in range(0, len(payload), 6):
                setting, value = struct.unpack(">HI", payload[at : at + 6])
                if setting == 4:  # INITIAL_WINDOW_SIZE
                    self._windows = {each: size + value - self._initial for each, size in self._windows.items()}
                    self._initial = value
            self._write(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._write(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if not stream:
                self._window += more
            elif stream in self._windows:
                self._windows[stream] += more
        elif kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
            self._windows.pop(stream, None)


def grpc_headers(method: str, host: str) -> Headers:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/{GRPC_SERVICE}/{method}"),
        (":authority", host),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]


def message_head(model: str, size: int) -> bytes:
    """The beginning of a gRPC message of ``size`` bytes: its model's name, and a long field that goes on to its end."""
    name = string_field(1, model.encode())
    return b"\x00" + struct.pack(">I", size) + name + b"\x2a" + _varint(size - len(name) - 6)


def string_field(number: int, value: bytes) -> bytes:
    """A field of protobuf's kind 2."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(text: str) -> bytes:
    """HPACK without Huffman code."""
    data = text.encode("latin-1")
    return (bytes([len(data)]) if len(data) < 127 else b"\x7f" + _varint(len(data) - 127)) + data


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

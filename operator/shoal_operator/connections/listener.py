"""A socket: who is let in, and how long a connection may go without a good token.

A connection is counted before its TLS handshake, which costs most of all that a stranger can have us do; asyncio's own
servers and aiohttp's count nothing, and wait for a first request for ever.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from shoal_operator.logs import OncePer

from .places import Place, Places

log = logging.getLogger(__name__)

BACKLOG = 1_024
HANDSHAKE_SECONDS = 5.0
TOKEN_SECONDS = 10.0
"""From a connection's beginning until a request of it has shown a good token; a body may take longer."""
OUT_OF_FILES_SECONDS = 0.5

Protocol = asyncio.Protocol


class _Counted(asyncio.Protocol):
    """Around the protocol that speaks HTTP: notices the end."""

    def __init__(self, inner: Protocol, ended: Callable[[], None]) -> None:
        self._inner = inner
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended()
        self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class Listener:
    """Accepts connections for ``protocol()``s that speak HTTP. ``name``: of what listens, for the log.

    ``is_pods(address)``: a pod that is known has it, or whoever else has places of its own. ``turned_away()``: a
    connection was closed for want of a place, or of a good token in time; where no request is ever ``vouched`` for,
    each connection ends after ``token_seconds``.
    """

    def __init__(
        self,
        name: str,
        protocol: Callable[[], Protocol],
        is_pods: Callable[[str], bool],
        turned_away: Callable[[], None],
        *,
        token_seconds: float = TOKEN_SECONDS,
        places: Places | None = None,
    ) -> None:
        self._protocol = protocol
        self._is_pods = is_pods
        self._name = name
        self._turned_away = turned_away
        self._token_seconds = token_seconds
        self._places = places or Places()
        self._place_of: dict[object, Place] = {}  # by the protocol that speaks HTTP
        self._log_again = OncePer(60)
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._places)

    def vouched(self, protocol: object, pod_uid: str) -> bool:
        """A request of this connection has shown a good token. False: the pod has too many connections."""
        place = self._place_of.get(protocol)
        return place is None or self._places.vouched(place, pod_uid)

    def is_strangers(self, protocol: object) -> bool:
        """No good token has come by this connection so far."""
        place = self._place_of.get(protocol)
        return place is not None and not place.pod

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Listen; returns the port. Raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        self._listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self._run(self._accept(self._listener, tls))
        bound: int = self._listener.getsockname()[1]
        return bound

    async def close(self) -> None:
        """No more connections. Those that are there are their protocols' to end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    async def _accept(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:  # out of files, or the caller has gone already
                if self._log_again.ready("accept"):
                    log.warning("%s cannot take a connection: %s", self._name, error, extra={"event": "AcceptFailed"})
                await asyncio.sleep(OUT_OF_FILES_SECONDS)
                continue
            source = as_kubernetes_writes(address[0])
            place = self._places.enter(source, own=self._is_pods(source), now=loop.time())
            if place is None:
                connection.close()
                self._turned_away()
                if self._log_again.ready(source):
                    log.warning(
                        "connections to %s are turned away: too many, or too fast",
                        self._name,
                        extra={"event": "ConnectionsRefused", "from": source},
                    )
                continue
            self._run(self._serve(connection, place, tls))

    async def _serve(self, connection: socket.socket, place: Place, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        inner = self._protocol()
        self._place_of[inner] = place

        def ended() -> None:
            if self._place_of.pop(inner, None) is not None:
                self._places.leave(place)

        secure: dict[str, Any] = {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_SECONDS} if tls is not None else {}
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: _Counted(inner, ended), connection, **secure)
        except (OSError, TimeoutError):  # no handshake, as health checks and scanners do; ssl's errors are OSErrors
            ended()
            connection.close()
            return
        except asyncio.CancelledError:
            ended()
            connection.close()
            raise

        def look() -> None:
            if inner in self._place_of and not place.pod:
                self._turned_away()
                transport.abort()

        loop.call_at(began + self._token_seconds, look)

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def as_kubernetes_writes(address: str) -> str:
    """An IPv4 address is one, also where the socket speaks IPv6."""
    return address.removeprefix("::ffff:")

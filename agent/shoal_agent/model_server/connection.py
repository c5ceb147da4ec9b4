"""A TCP connection held open and unused: the kernel ends it the moment the server's process ends, however it ends."""

import asyncio
import socket
import uuid

from . import ServerGone

CONNECT_SECONDS = 2.0


class TcpConnection:
    """Made with ``connect``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int) -> "TcpConnection":
        """Raises ServerGone."""
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_SECONDS)
            # The server may have gone again by now, and its socket with it: an OSError as well.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:  # TimeoutError is one
            raise ServerGone(f"{host}:{port}: {error or 'timed out'}") from error
        return cls(reader, writer)

    async def ended(self) -> None:
        """The server says nothing on a connection that asked for nothing, so any end of the read is the end."""
        try:
            while await self._reader.read(1024):
                pass
        except OSError:
            pass

    def close(self) -> None:
        self._writer.close()


class Process:
    """For servers that do not name their process: ``boot`` stays while connections can be made, since between two
    processes nobody listens; a server that only closed a connection is the same one. It is another one also where
    ``loaded`` says that nothing is left of what there was."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._loaded: frozenset[str] = frozenset()
        self.boot = uuid.uuid4().hex

    async def hold(self) -> TcpConnection:
        """Raises ServerGone."""
        try:
            return await TcpConnection.connect(self._host, self._port)
        except ServerGone:
            self._renew()
            raise

    def loaded(self, names: frozenset[str]) -> None:
        """Tell, before ``boot`` is read, what the server lists."""
        if self._loaded and not names:
            self._renew()
        self._loaded = names

    def unloaded(self, name: str) -> None:
        """It was unloaded by a call: that it is not listed any more says nothing."""
        self._loaded -= {name}

    def _renew(self) -> None:
        self.boot, self._loaded = uuid.uuid4().hex, frozenset()

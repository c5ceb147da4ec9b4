"""Tells one process of Triton from the next, which it does not itself.

Triton never ends a connection on which nothing is asked, so the end of the one that is held is the end of the process.
That the port takes connections again says nothing: another process may be there at once. What lives on of the former
for a second, its Python models, has its connections open until then.
"""

import uuid
from dataclasses import dataclass

from shoal_agent.model_server import ServerGone
from shoal_agent.model_server.connection import TcpConnection


class Process:
    """``boot``: another one for each process, as far as somebody held a connection to it."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.boot = uuid.uuid4().hex

    async def hold(self) -> "Held":
        """Raises ServerGone."""
        try:
            return Held(await TcpConnection.connect(self._host, self._port), self)
        except ServerGone:
            self.gone()
            raise

    def gone(self) -> None:
        """There is another one now, or none."""
        self.boot = uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Held:
    """A connection to the process."""

    connection: TcpConnection
    process: Process

    async def ended(self) -> None:
        """Returns when the process is gone; ``boot`` is another one by then."""
        await self.connection.ended()
        self.process.gone()

    def close(self) -> None:
        self.connection.close()

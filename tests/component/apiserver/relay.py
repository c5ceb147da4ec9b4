"""What lies between the operator and an API server: it can break, refuse, or fall silent."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit


class Line(Enum):
    OPEN = "Open"
    CUT = "Cut"  # connections are closed, and new ones at once
    SILENT = "Silent"  # connections are accepted and stay, and nothing passes


class Relay:
    """``kubeconfig`` leads through it."""

    def __init__(self, port: int, target: tuple[str, int], kubeconfig: Path) -> None:
        self.port = port
        self.kubeconfig = kubeconfig
        self._target = target
        self._line = Line.OPEN
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    def becomes(self, line: Line) -> None:
        """From now on. A connection that was silent stays so."""
        self._line = line
        if line is Line.CUT:
            for task in self._tasks:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            if self._line is Line.CUT:
                return
            there, back = await asyncio.open_connection(*self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, back))
                    group.create_task(self._pass(there, writer))
            finally:
                back.close()
        except (asyncio.CancelledError, ExceptionGroup, OSError):
            pass  # an end like any other
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._line is Line.SILENT:
                await asyncio.Event().wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


@contextlib.asynccontextmanager
async def relay(kubeconfig: Path, folder: Path) -> AsyncIterator[Relay]:
    """A relay to the API server that ``kubeconfig`` (JSON) names; its own is in ``folder``."""
    config = json.loads(await asyncio.to_thread(kubeconfig.read_text))
    cluster = config["clusters"][0]["cluster"]
    target = urlsplit(cluster["server"])
    assert target.hostname
    assert target.port
    one = Relay(0, (target.hostname, target.port), folder / "kubeconfig-relay")
    server = await asyncio.start_server(one._serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    cluster["server"] = f"https://127.0.0.1:{one.port}"
    await asyncio.to_thread(one.kubeconfig.write_text, json.dumps(config))
    try:
        yield one
    finally:
        server.close()
        one.becomes(Line.CUT)

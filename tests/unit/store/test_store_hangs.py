"""A database that accepts connections and never answers: a start is not held up by it."""

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.store import store as module
from shoal_operator.store.store import Store


async def test_a_start_waits_for_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow store used up, time and again, what agents have to say what they hold."""
    monkeypatch.setattr(module, "START_SECONDS", 2.0)
    writers: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    begun = time.monotonic()
    store = await Store.open(f"postgresql://u:p@127.0.0.1:{port}/db", CollectorRegistry())
    assert await store.epoch() == 0
    await store.claim_epoch(3)
    assert await store.load() == ()
    assert len(writers) == 1, "not tried again for each of them"
    assert time.monotonic() - begun < 12.0, "not the driver's own patience"
    server.close()
    for writer in writers:
        writer.close()
    await store.close()
    await asyncio.sleep(0.5)  # the thread that was connecting notices

"""A database that is damaged, full or away costs a log line, never the operator."""

import asyncio
import gc
import json
import logging
import resource
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.logs import EventFormatter
from shoal_operator.state.world.effects import CopyForgotten, CopyStored
from shoal_operator.state.world.values import ModelKey
from shoal_operator.store import Store

from tests.component.store.postgres import Postgres

pytestmark = pytest.mark.component
QUICK = (0.05, 0.2)


def stored(number: int) -> CopyStored:
    return CopyStored(ModelKey("team", f"m{number}"), f"uid-{number}", "c" * 64, "isvc", "pod-1")


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, object]]:
    lines = [json.loads(EventFormatter().format(record)) for record in caplog.records]
    return [line for line in lines if line.get("event") == name]


async def names(store: Store) -> set[str]:
    return {copy.model.name for copy in await store.load()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shoal.db"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


async def write(path: Path, registry: CollectorRegistry, *, first: int = 0, rows: int = 50, epoch: int = 1) -> None:
    store = await Store.open(f"sqlite:///{path}", registry)
    await store.claim_epoch(epoch)
    for number in range(first, first + rows):
        store.put(stored(number))
    assert await store.flush()
    await store.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 500)


def torn(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    path.write_bytes(data)


def readable_but_wrong(path: Path) -> None:
    """Every row can still be read, and the next writes would make it worse."""
    data = bytearray(path.read_bytes())
    data[4096 * 5 + 8 : 4096 * 5 + 28] = b"\x0f" * 20
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def others(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE copies (something_else TEXT)")
    connection.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()


def without_a_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE copies")
    connection.close()


@pytest.mark.parametrize("damage", [garbage, torn, readable_but_wrong, cut_short, others, newer, without_a_table])
async def test_a_file_of_no_use_is_moved_aside_and_a_fresh_one_begun(
    path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    await write(path, CollectorRegistry(), rows=500)
    assert callable(damage)
    damage(path)
    caplog.set_level(logging.INFO)
    store = await Store.open(f"sqlite:///{path}", CollectorRegistry())
    assert await store.load() == ()
    await store.claim_epoch(2)
    store.put(stored(1))
    assert await store.flush()
    assert await names(store) == {"m1"}
    await store.close()
    (moved,) = events(caplog, "StoreMovedAside")
    assert moved["moved_to"] == f"{path}.broken"
    assert path.with_name("shoal.db.broken").is_file()


def blocked(path: Path) -> None:
    """No file can be opened there."""
    path.mkdir()


def still_blocked(path: Path) -> bool:
    return path.is_dir()


def unblocked(path: Path) -> None:
    path.rmdir()


async def test_a_folder_in_the_files_place_is_left_alone(
    path: Path, caplog: pytest.LogCaptureFixture, registry: CollectorRegistry
) -> None:
    blocked(path)
    store = await Store.open(f"sqlite:///{path}", registry, retry_seconds=QUICK)
    assert await store.load() == ()
    await store.claim_epoch(1)
    store.put(stored(1))
    assert not await store.flush(0.4)
    assert still_blocked(path)
    assert len(events(caplog, "StoreUnavailable")) == 1
    unblocked(path)
    assert await store.flush()
    assert await names(store) == {"m1"}
    await store.close()


async def test_corruption_while_running_begins_a_fresh_file(path: Path, registry: CollectorRegistry) -> None:
    store = await Store.open(f"sqlite:///{path}", registry, retry_seconds=QUICK)
    await store.claim_epoch(1)
    store.put(stored(1))
    assert await store.flush()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    garbage(path)
    for number in range(100, 700):
        store.put(stored(number))
    assert await store.flush(10)
    assert "m699" in await names(store)
    await store.close()


async def test_the_file_deleted_while_running_comes_back_at_the_next_start(path: Path) -> None:
    store = await Store.open(f"sqlite:///{path}", CollectorRegistry(), retry_seconds=QUICK)
    await store.claim_epoch(1)
    store.put(stored(1))
    assert await store.flush()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    store.put(stored(2))
    assert await store.flush(10)
    await store.close()
    await write(path, CollectorRegistry(), first=10, rows=1, epoch=2)


@pytest.fixture
def file_size() -> Iterator[object]:
    """Sets how large any file of this process may grow: the disk is full for larger ones."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or before[1], before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_is_waited_out(
    path: Path, caplog: pytest.LogCaptureFixture, registry: CollectorRegistry, file_size: object
) -> None:
    assert callable(file_size)
    store = await Store.open(f"sqlite:///{path}", registry, retry_seconds=QUICK)
    await store.claim_epoch(1)
    store.put(stored(0))
    assert await store.flush()
    file_size(100_000)
    for number in range(1, 3000):
        store.put(stored(number))
    assert not await store.flush(1.5)
    assert 0 < store.waiting < 3000
    file_size(0)
    assert await store.flush(10)
    assert len(await store.load()) == 3000
    assert len(events(caplog, "StoreUnavailable")) == 1
    assert sum(s.value for m in registry.collect() if m.name == "shoal_store_errors" for s in m.samples) > 1
    await store.close()


async def test_postgresql_away_and_back(
    postgres: Postgres, postgres_url: str, caplog: pytest.LogCaptureFixture, registry: CollectorRegistry
) -> None:
    store = await Store.open(postgres_url, registry, retry_seconds=QUICK)
    await store.claim_epoch(1)
    store.put(stored(1))
    assert await store.flush()
    postgres.stop()
    store.put(stored(2))
    store.forget(CopyForgotten("uid-1", "pod-1"))
    assert not await store.flush(1)
    postgres.start()
    assert await store.flush(20)
    assert await names(store) == {"m2"}
    assert len(events(caplog, "StoreUnavailable")) == 1
    await store.close()


async def test_rows_that_a_start_without_the_database_never_saw_are_swept(
    postgres: Postgres, postgres_url: str
) -> None:
    before = await Store.open(postgres_url, CollectorRegistry())
    await before.claim_epoch(1)
    before.put(stored(1))
    await before.close()

    postgres.stop()
    store = await Store.open(postgres_url, CollectorRegistry(), retry_seconds=QUICK)
    assert await store.load() == ()
    await store.claim_epoch(2)
    store.put(stored(2))
    postgres.start()
    assert await store.flush(20)
    assert await names(store) == {"m2"}
    await store.close()


async def test_a_schema_from_the_future_is_left_alone(
    postgres: Postgres, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = await Store.open(postgres_url, CollectorRegistry())
    await store.close()
    database = postgres_url.rsplit("/", 1)[1]
    postgres.run("UPDATE alembic_version SET version_num = '9999'", database)
    store = await Store.open(postgres_url, CollectorRegistry())
    assert await store.load() == ()
    await store.close()
    assert events(caplog, "StoreUnavailable")[0]["reason"] == "SchemaNewer"
    assert postgres.run("SELECT version_num FROM alembic_version", database) == "9999"


async def test_memory_is_bounded_while_the_database_is_away(path: Path, registry: CollectorRegistry) -> None:
    blocked(path)
    store = await Store.open(f"sqlite:///{path}", registry, max_waiting=100, retry_seconds=QUICK)
    await store.claim_epoch(1)
    for number in range(1000):
        store.put(stored(number))
    assert store.waiting == 100
    assert registry.get_sample_value("shoal_store_dropped_rows_total", {"reason": "TooManyWaiting"}) == 900
    unblocked(path)
    assert await store.flush()
    assert await names(store) == {f"m{number}" for number in range(900, 1000)}
    await store.close()


async def test_closing_does_not_hang_when_the_database_is_away(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked(path)
    store = await Store.open(f"sqlite:///{path}", CollectorRegistry())
    await store.claim_epoch(1)
    store.put(stored(1))
    started = time.monotonic()
    await store.close()
    assert time.monotonic() - started < 6
    assert events(caplog, "StoreClosedUnwritten")


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """A collection goes through all that a thousand tests before have left, which is none of this one's time."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage")
async def test_no_turn_of_the_event_loop_is_long(path: Path) -> None:
    """20,000 writes; CPU seconds of the loop's thread, because other programs' share of the machine is not ours."""
    store = await Store.open(f"sqlite:///{path}", CollectorRegistry())
    await store.claim_epoch(1)
    turns: list[float] = []

    async def watch() -> None:
        while True:
            started = time.thread_time()
            await asyncio.sleep(0.001)
            turns.append(time.thread_time() - started)

    watcher = asyncio.create_task(watch())
    for number in range(20_000):
        store.put(stored(number))
        if number % 100 == 0:
            await asyncio.sleep(0)
    assert await store.flush(60)
    assert len(await store.load()) == 20_000
    watcher.cancel()
    await store.close()
    assert max(turns) < 0.5  # 0.25 was seen on a busy machine, where a CPU second does less

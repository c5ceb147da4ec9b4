"""What the store promises, on a real SQLite and a real PostgreSQL alike."""

import asyncio
import sys
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from prometheus_client import CollectorRegistry
from shoal_operator.state.world.effects import CopyForgotten, CopyStored
from shoal_operator.state.world.events import StoredCopy
from shoal_operator.state.world.values import ModelKey
from shoal_operator.store import EpochSuperseded, Store, database
from shoal_operator.store.tables import metadata
from sqlalchemy import Connection

pytestmark = pytest.mark.component


def stored(number: int, pod: str = "pod-1", content: str = "c1") -> CopyStored:
    return CopyStored(ModelKey("team", f"m{number}"), f"uid-{number}", content, "isvc", pod)


def row(number: int, pod: str = "pod-1", content: str = "c1") -> StoredCopy:
    return StoredCopy(ModelKey("team", f"m{number}"), f"uid-{number}", content, "isvc", pod)


async def opened(url: str, epoch: int | None = 1, **options: Any) -> Store:
    store = await Store.open(url, CollectorRegistry(), **options)
    if epoch is not None:
        await store.claim_epoch(epoch)
    return store


async def test_what_was_put_is_there_after_a_restart_and_what_was_forgotten_is_not(url: str) -> None:
    store = await opened(url)
    assert await store.load() == ()
    for number in range(1200):
        store.put(stored(number))
    store.put(stored(1, "pod-2"))
    store.put(stored(2, content="c2"))  # the same copy, new content
    store.forget(CopyForgotten("uid-3", "pod-1"))
    store.forget(CopyForgotten("uid-4", "pod-9"))  # never there
    await store.close()

    again = await opened(url, epoch=None)
    expected = {row(number) for number in range(1200) if number not in (2, 3)}
    assert set(await again.load()) == expected | {row(1, "pod-2"), row(2, content="c2")}
    assert await again.epoch() == 1
    await again.close()


async def test_the_last_word_on_a_copy_wins_however_fast_they_come(url: str) -> None:
    store = await opened(url)
    for _ in range(3):
        store.put(stored(1))
        store.forget(CopyForgotten("uid-1", "pod-1"))
        store.forget(CopyForgotten("uid-2", "pod-1"))
        store.put(stored(2))
        await asyncio.sleep(0)
    assert await store.flush()
    assert await store.load() == (row(2),)
    store.forget(CopyForgotten("uid-2", "pod-1"))
    assert await store.flush()
    assert await store.load() == ()
    await store.close()


async def test_a_change_during_its_own_transaction_is_not_lost(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(url)
    write = Store._write

    async def slow_write(self: Store, *arguments: Any) -> None:
        await write(self, *arguments)
        if len(changes) > 0:
            self.put(changes.pop())

    changes = [stored(1, content="c3"), stored(1, content="c2")]
    monkeypatch.setattr(Store, "_write", slow_write)
    store.put(stored(1))
    assert await store.flush()
    assert await store.load() == (row(1, content="c3"),)
    await store.close()


async def test_nothing_is_written_before_an_epoch_is_claimed(url: str) -> None:
    store = await opened(url, epoch=None)
    store.put(stored(1))
    assert not await store.flush(0.3)
    assert await store.load() == ()
    await store.claim_epoch(7)
    assert await store.flush()
    assert await store.load() == (row(1),)
    await store.close()


async def test_an_older_epoch_cannot_be_claimed(url: str) -> None:
    store = await opened(url, epoch=5)
    await store.close()
    late = await opened(url, epoch=None)
    with pytest.raises(EpochSuperseded) as refusal:
        await late.claim_epoch(4)
    assert refusal.value.stored == 5
    late.put(stored(1))
    assert await late.flush()
    assert await late.load() == ()
    await late.claim_epoch(6)
    late.put(stored(1))
    assert await late.flush()
    assert await late.load() == (row(1),)
    await late.close()


async def test_a_deposed_operator_writes_no_more(url: str) -> None:
    old = await opened(url, epoch=1)
    old.put(stored(1))
    assert await old.flush()
    new = await opened(url, epoch=2)
    old.put(stored(2))
    assert await old.flush()
    old.put(stored(3))
    new.put(stored(4))
    assert await new.flush()
    assert set(await new.load()) == {row(1), row(4)}
    await old.close()
    await new.close()


async def test_migrations_agree_with_the_tables(url: str) -> None:
    engine = await database.connect(database.parse(url))

    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_operators_that_start_at_once_all_find_the_schema(url: str) -> None:
    code = (
        "import asyncio, sys; from shoal_operator.store import database; "
        "asyncio.run(database.connect(database.parse(sys.argv[1])))"
    )
    starting = [await asyncio.create_subprocess_exec(sys.executable, "-c", code, url) for _ in range(3)]
    assert [await process.wait() for process in starting] == [0, 0, 0]
    store = await opened(url)
    store.put(stored(1))
    assert await store.flush()
    assert await store.load() == (row(1),)
    await store.close()


async def test_names_that_look_like_sql_are_only_names(url: str) -> None:
    store = await opened(url)
    key = ModelKey("team", "'); DROP TABLE copies; --")
    store.put(CopyStored(key, "uid-'\"", "c", "isvc", "pod-1"))
    assert await store.flush()
    assert await store.load() == (StoredCopy(key, "uid-'\"", "c", "isvc", "pod-1"),)
    await store.close()

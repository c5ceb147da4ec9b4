"""The store as the operator uses it: read once at start, then written behind, in batches.

Nothing that is wrong with a database stops the operator. Writes wait in memory (coalesced by copy, bounded), are
tried again with backoff, and are dropped, counted, when there are too many: the agents' reports and the API server
rebuild what the store has lost.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from sqlalchemy import URL, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shoal_operator.logs import OncePer
from shoal_operator.state.world.effects import CopyForgotten, CopyStored
from shoal_operator.state.world.events import StoredCopy
from shoal_operator.state.world.values import ModelKey

from . import database
from .metrics import StoreMetrics
from .tables import copies
from .tables import epoch as epoch_table

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.05
BATCH_ROWS = 500
MAX_WAITING_ROWS = 200_000
LOG_SECONDS = 60.0
READ_ROWS = 1_000
CLOSE_SECONDS = 5.0
OPEN_SECONDS = 60.0
START_SECONDS = 5.0
"""For each of what a start waits for; a database that has hung so long is not asked again while it starts."""

Write = CopyStored | CopyForgotten
CopyKey = tuple[str, str]


class EpochSuperseded(Exception):
    """The database holds a higher epoch: another operator leads, and this one must not write."""

    def __init__(self, stored: int, ours: int) -> None:
        super().__init__(f"the store holds epoch {stored}, above ours, {ours}: another operator leads")
        self.stored = stored


class Store:
    """Open with ``Store.open``; ``put`` and ``forget`` never block; nothing is written before ``claim_epoch``."""

    def __init__(
        self,
        url: URL,
        metrics: StoreMetrics,
        *,
        clock: Callable[[], float] = time.time,
        max_waiting: int = MAX_WAITING_ROWS,
        retry_seconds: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        self._url = url
        self._shown_url = url.render_as_string(hide_password=True)
        self._metrics = metrics
        self._clock = clock
        self._max_waiting = max_waiting
        self._retry_seconds = retry_seconds
        self._engine: AsyncEngine | None = None
        self._connecting = asyncio.Lock()
        self._epoch: int | None = None
        self._superseded = False
        self._opened = False
        self._hung_until = float("-inf")
        self._troubled = False
        self._load_failed = False
        self._waiting: dict[CopyKey, Write] = {}  # oldest first
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = asyncio.Event()
        self._log_again = OncePer(LOG_SECONDS)
        self._writer: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, registry: CollectorRegistry = REGISTRY, **options: Any) -> "Store":
        """Connect, migrate, and start the writer.

        A database that is away now is tried again for every read and write. Raises ValueError for a URL that
        cannot be meant.
        """
        store = cls(database.parse(url), StoreMetrics(registry), **options)
        with contextlib.suppress(_Away):
            await store._connected(START_SECONDS)
        store._writer = asyncio.create_task(store._write_behind(), name="store-writer")
        return store

    @property
    def waiting(self) -> int:
        """Rows that are not on disk yet."""
        return len(self._waiting)

    async def load(self) -> tuple[StoredCopy, ...]:
        """All placements; none when the database cannot be read (then the agents' reports are all there is)."""
        rows: list[StoredCopy] = []
        try:
            engine = await self._connected(START_SECONDS)
            async with asyncio.timeout(START_SECONDS), engine.connect() as connection:
                result = await connection.stream(
                    select(
                        copies.c.namespace,
                        copies.c.name,
                        copies.c.uid,
                        copies.c.content,
                        copies.c.service,
                        copies.c.pod_uid,
                    ).execution_options(yield_per=READ_ROWS)
                )
                async for batch in result.partitions():
                    rows += [StoredCopy(ModelKey(r[0], r[1]), r[2], r[3], r[4], r[5]) for r in batch]
        except _Away:
            self._load_failed = True
            return ()
        except Exception as error:
            self._load_failed = True
            await self._trouble("reading placements", error)
            return ()
        self._load_failed = False
        return tuple(rows)

    async def epoch(self) -> int:
        """The highest epoch written; 0 when there is none, or it cannot be read."""
        try:
            engine = await self._connected(START_SECONDS)
            async with asyncio.timeout(START_SECONDS), engine.connect() as connection:
                return await _stored_epoch(connection)
        except _Away:
            return 0
        except Exception as error:
            await self._trouble("reading the epoch", error)
            return 0

    async def claim_epoch(self, epoch: int) -> None:
        """Write in this epoch from now on. Raises EpochSuperseded when a higher one is stored.

        With the database away the claim is made with the first write that gets through.
        """
        if self._epoch is not None and epoch < self._epoch:
            raise EpochSuperseded(self._epoch, epoch)
        self._epoch = epoch
        self._superseded = False
        self._wanted.set()
        try:
            engine = await self._connected(START_SECONDS)
            async with asyncio.timeout(START_SECONDS), engine.begin() as connection:
                await self._assert_epoch(connection, epoch)
        except EpochSuperseded:
            self._stand_down()
            raise
        except _Away:
            pass
        except Exception as error:
            await self._trouble("claiming the epoch", error)

    def put(self, effect: CopyStored) -> None:
        """Remember a placement, a moment later."""
        self._enqueue((effect.uid, effect.pod_uid), effect)

    def forget(self, effect: CopyForgotten) -> None:
        """Remove a placement, a moment later."""
        self._enqueue((effect.uid, effect.pod_uid), effect)

    async def flush(self, timeout_seconds: float = CLOSE_SECONDS) -> bool:
        """Wait until all is written; False when that took too long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Write what waits, within CLOSE_SECONDS, and let go of the database."""
        self._closing.set()
        self._wanted.set()
        if self._writer is not None:
            with contextlib.suppress(TimeoutError):  # the timeout has cancelled the writer
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._writer
        if self._waiting:
            log.warning(
                "the store was closed with placements unwritten; they are rebuilt from the agents",
                extra={"event": "StoreClosedUnwritten", "rows": len(self._waiting)},
            )
        await self._disconnect()

    def _enqueue(self, key: CopyKey, write: Write) -> None:
        if self._superseded:
            self._metrics.dropped.labels("Superseded").inc()
            return
        self._waiting.pop(key, None)  # only the last word on a copy is written
        if len(self._waiting) >= self._max_waiting:
            self._waiting.pop(next(iter(self._waiting)))
            self._metrics.dropped.labels("TooManyWaiting").inc()
        self._waiting[key] = write
        self._count_waiting()
        self._wanted.set()

    async def _write_behind(self) -> None:
        """Write what waits, a transaction at a time, until closed and empty."""
        first, longest = self._retry_seconds
        pause = first
        while True:
            await self._wanted.wait()
            if not self._closing.is_set() and len(self._waiting) < BATCH_ROWS:
                await self._pause(BATCH_SECONDS)
            if not self._waiting or self._epoch is None:
                if self._closing.is_set():
                    return
                self._wanted.clear()
                continue
            if await self._write_once(self._epoch):
                pause = first
                continue
            if self._closing.is_set():
                return  # one try is enough: what is lost is rebuilt
            await self._pause(pause)
            pause = min(pause * 2, longest)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not past the moment that the store is closed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _write_once(self, epoch: int) -> bool:
        """One transaction; False when it should be tried again later."""
        batch = {key: self._waiting[key] for key, _ in zip(self._waiting, range(BATCH_ROWS), strict=False)}
        started = time.perf_counter()
        try:
            engine = await self._connected()
            async with asyncio.timeout(database.STATEMENT_SECONDS), engine.begin() as connection:
                await self._assert_epoch(connection, epoch)
                if self._load_failed:
                    # What an earlier operator wrote was never seen by this one: it is not placement any more.
                    await connection.execute(delete(copies).where(copies.c.epoch < epoch))
                await self._write(connection, epoch, batch.values())
        except _Away:
            return False
        except EpochSuperseded as superseded:
            log.error(
                "this operator no longer writes to the store",
                extra={"event": "StoreEpochSuperseded", "cause": str(superseded)},
            )
            self._stand_down()
            return True
        except (DataError, IntegrityError) as error:
            # These rows will never be taken: trying again would hold up all others.
            self._metrics.dropped.labels("Refused").inc(len(batch))
            await self._trouble("writing placements that the database refuses", error)
        except Exception as error:
            await self._trouble("writing placements", error)
            return False
        else:
            self._load_failed = False
            self._metrics.written.inc(len(batch))
            self._metrics.seconds.observe(time.perf_counter() - started)
        for key, write in batch.items():
            if self._waiting.get(key) is write:  # else it has changed again meanwhile
                del self._waiting[key]
        self._count_waiting()
        if self._troubled and not self._waiting:
            self._troubled = False
            if self._log_again.ready("recovered"):  # a database that comes and goes is told of once a minute
                log.info("the store has everything again", extra={"event": "StoreRecovered"})
        return True

    async def _write(self, connection: AsyncConnection, epoch: int, batch: Iterable[Write]) -> None:
        now = self._clock()
        stored: list[dict[str, object]] = []
        forgotten: list[dict[str, object]] = []
        for write in batch:
            if isinstance(write, CopyForgotten):
                forgotten.append({"gone_uid": write.uid, "gone_pod_uid": write.pod_uid})
            else:
                stored.append(
                    {
                        "uid": write.uid,
                        "pod_uid": write.pod_uid,
                        "namespace": write.model.namespace,
                        "name": write.model.name,
                        "service": write.service,
                        "content": write.content,
                        "epoch": epoch,
                        "updated": now,
                    }
                )
        if stored:
            upsert = (postgresql if self._url.get_backend_name() == "postgresql" else sqlite).insert(copies)
            changed = {c.name: upsert.excluded[c.name] for c in copies.columns if not c.primary_key}
            await connection.execute(
                upsert.on_conflict_do_update(index_elements=["uid", "pod_uid"], set_=changed), stored
            )
        if forgotten:
            from_row = (copies.c.uid == bindparam("gone_uid")) & (copies.c.pod_uid == bindparam("gone_pod_uid"))
            await connection.execute(delete(copies).where(from_row), forgotten)

    async def _assert_epoch(self, connection: AsyncConnection, epoch: int) -> None:
        stored = await _stored_epoch(connection, lock=True)
        if stored > epoch:
            raise EpochSuperseded(stored, epoch)
        values = {"epoch": epoch, "updated": self._clock()}
        if stored == 0:
            await connection.execute(insert(epoch_table).values(id=1, **values))
        elif stored < epoch:
            await connection.execute(update(epoch_table).where(epoch_table.c.id == 1).values(**values))

    def _stand_down(self) -> None:
        self._superseded = True
        self._metrics.dropped.labels("Superseded").inc(len(self._waiting))
        self._waiting.clear()
        self._count_waiting()

    def _count_waiting(self) -> None:
        self._metrics.waiting.set(len(self._waiting))
        if self._waiting:
            self._idle.clear()
        else:
            self._idle.set()

    async def _connected(self, patience: float = OPEN_SECONDS) -> AsyncEngine:
        """The engine, connecting first when there is none. Raises _Away, after saying why, also for a database that
        does not answer within ``patience`` seconds; that one is left alone for a while."""
        if self._engine is None and time.monotonic() < self._hung_until:
            raise _Away
        try:
            async with asyncio.timeout(patience), self._connecting:
                return self._engine or await self._connect()
        except TimeoutError as error:
            self._hung_until = time.monotonic() + START_SECONDS
            await self._trouble("opening it", error)
            raise _Away from None

    async def _connect(self) -> AsyncEngine:
        try:
            engine = self._engine = await database.connect(self._url)
        except Exception as error:
            await self._trouble("opening it", error)
            raise _Away from None
        if not self._opened:
            self._opened = True
            log.info("the store is open", extra={"event": "StoreOpened", "url": self._shown_url})
        return engine

    async def _disconnect(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            with contextlib.suppress(Exception):  # it is being given up
                await asyncio.wait_for(engine.dispose(), CLOSE_SECONDS)

    async def _trouble(self, doing: str, error: Exception) -> None:
        """Count it, say it once a minute, and begin with a new connection next time."""
        reason = error.reason if isinstance(error, database.Unusable) else type(error).__name__
        self._metrics.errors.labels(reason).inc()
        self._troubled = True
        if self._log_again.ready():
            log.error(
                "the store failed while %s; the operator goes on without it and tries again",
                doing,
                extra={
                    "event": "StoreUnavailable",
                    "reason": reason,
                    "cause": str(error) if isinstance(error, database.Unusable) else database.describe(error),
                    "url": self._shown_url,
                    "waiting_rows": len(self._waiting),
                },
            )
        await self._disconnect()


class _Away(Exception):
    """There is no database now; that was counted and logged."""


async def _stored_epoch(connection: AsyncConnection, lock: bool = False) -> int:
    query = select(epoch_table.c.epoch).where(epoch_table.c.id == 1)
    # On PostgreSQL the lock keeps an older operator's batch from slipping past a newer one's claim.
    value = (await connection.execute(query.with_for_update() if lock else query)).scalar()
    return int(value or 0)

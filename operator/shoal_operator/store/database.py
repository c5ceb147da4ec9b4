"""From a URL to an engine whose schema is the newest, with a damaged SQLite file moved out of the way."""

import asyncio
import contextlib
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import URL, Connection, event, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from .tables import metadata

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 5.0
CONNECT_SECONDS = 10.0
STATEMENT_SECONDS = 30.0
_ADVISORY_LOCK = 0x5348_4F41  # of PostgreSQL: one operator migrates at a time
_ALEMBIC = threading.Lock()  # its context is global to the process
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}

# SQLite result codes after which the file itself is the trouble, not the disk or another process.
_DAMAGED = frozenset(
    {
        sqlite3.SQLITE_ERROR,  # tables of ours that are not as our migrations left them
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_NOTADB,
    }
)


class Unusable(Exception):
    """The database cannot be used. ``reason`` is CamelCase and stable; the text says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def parse(url: str) -> URL:
    """``sqlite:////var/lib/shoal/shoal.db`` or ``postgresql://user:password@host/database``.

    Raises ValueError for anything else; the text names no password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError(
            "the store's URL does not parse: write sqlite:////path/shoal.db or postgresql://user:password@host/database"
        ) from None
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise ValueError(f"the store's URL names {backend!r}, which is not supported: use sqlite:// or postgresql://")
    return parsed.set(drivername=_DRIVERS[backend])


async def connect(url: URL) -> AsyncEngine:
    """An engine on a migrated database.

    A SQLite file that is damaged, or that a newer version wrote, is renamed to ``<file>.broken`` (replacing the one
    before) and a fresh one begun. Raises Unusable when there is no database to be had now.
    """
    try:
        await _migrate(url)
    except Unusable as unusable:
        if not await asyncio.to_thread(_move_aside, url, unusable):
            raise
        await _migrate(url)
    return _engine(url)


def describe(error: BaseException) -> str:
    """The database's own words, short: no SQL, no parameters, no password."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300]}"


async def _migrate(url: URL) -> None:
    """Bring the schema to the newest version, in a thread: Alembic reads files and blocks."""
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        with contextlib.suppress(OSError):  # what is wrong shows when the file is opened
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    try:
        await asyncio.to_thread(lambda: asyncio.run(_upgrade(url)))
    except Unusable:
        raise
    except CommandError as error:
        raise Unusable(
            "SchemaNewer",
            f"the store's schema is not one that this version knows ({error}): run the newer operator again, "
            "or give this one an empty database",
        ) from None
    except Exception as error:  # asyncpg and aiosqlite raise their own, OSError and TimeoutError when connecting
        reason = "StoreDamaged" if _is_damage(error) else "StoreUnavailable"
        raise Unusable(reason, describe(error)) from error


async def _upgrade(url: URL) -> None:
    engine = _engine(url, poolclass=NullPool)
    try:
        async with asyncio.timeout(STATEMENT_SECONDS * 4), engine.begin() as connection:
            if url.get_backend_name() == "sqlite":
                await connection.execute(text("BEGIN IMMEDIATE"))  # one operator migrates at a time
                verdict = (await connection.execute(text("PRAGMA quick_check(1)"))).scalar()
                if verdict != "ok":
                    raise Unusable("StoreDamaged", f"SQLite's quick_check says: {str(verdict)[:300]}")
            else:
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            await connection.run_sync(_run_alembic)
            for table in metadata.sorted_tables:  # a table that was dropped or altered by hand shows here
                await connection.execute(select(table).limit(0))
    finally:
        await engine.dispose()


def _run_alembic(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, "head")


def _engine(url: URL, **options: Any) -> AsyncEngine:
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, connect_args={"timeout": BUSY_SECONDS}, **options)
        event.listen(engine.sync_engine, "connect", _set_pragmas)
        return engine
    if "poolclass" not in options:
        options |= {"pool_size": 2, "max_overflow": 0, "pool_pre_ping": True, "pool_timeout": CONNECT_SECONDS}
    arguments = {"timeout": CONNECT_SECONDS, "command_timeout": STATEMENT_SECONDS}
    return create_async_engine(url, connect_args=arguments, **options)


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last batches, never the file
    cursor.execute("PRAGMA journal_size_limit=67108864")
    cursor.close()


def _is_damage(error: BaseException | None) -> bool:
    while error is not None:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None:
            return (code & 0xFF) in _DAMAGED
        error = getattr(error, "orig", None) or error.__cause__
    return False


def _move_aside(url: URL, unusable: Unusable) -> bool:
    """Rename a SQLite file that is of no use; False when the trouble is elsewhere, or the file cannot be moved."""
    if url.get_backend_name() != "sqlite" or unusable.reason == "StoreUnavailable":
        return False
    path = Path(str(url.database))
    aside = path.with_name(path.name + ".broken")
    try:
        if not path.is_file():
            return False
        path.replace(aside)
        for suffix in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        log.error(
            "the store's file cannot be moved out of the way: make its folder writable",
            extra={"event": "StoreNotMovable", "path": str(path), "cause": str(error)},
        )
        return False
    log.warning(
        "the store's file was of no use and was moved aside; a fresh one is filled from the agents' reports",
        extra={
            "event": "StoreMovedAside",
            "path": str(path),
            "moved_to": str(aside),
            "reason": unusable.reason,
            "cause": str(unusable),
        },
    )
    return True

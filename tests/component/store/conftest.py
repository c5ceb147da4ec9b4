"""Databases for the store's tests: a SQLite file, and a real PostgreSQL."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.store import postgres as postgres_server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Postgres]:
    server = postgres_server.create()
    yield server
    postgres_server.remove(server)


@pytest.fixture
def postgres_url(postgres: postgres_server.Postgres) -> str:
    if postgres.process is None:
        postgres.start()
    name = f"shoal_{next(_numbers)}"
    postgres.run(f"CREATE DATABASE {name}")
    return postgres.url(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'shoal.db'}"
    return str(request.getfixturevalue("postgres_url"))

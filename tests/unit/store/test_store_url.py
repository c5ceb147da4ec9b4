"""The store's URL: two kinds of database, and no password in an error."""

import pytest
from shoal_operator.store import database


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////var/lib/shoal/shoal.db", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite:////var/lib/shoal/shoal.db", "sqlite+aiosqlite"),
        ("postgresql://shoal:pw@db/shoal", "postgresql+asyncpg"),
        ("postgresql+psycopg://shoal:pw@db/shoal", "postgresql+asyncpg"),
    ],
)
def test_urls_as_users_write_them(url: str, driver: str) -> None:
    assert database.parse(url).drivername == driver


@pytest.mark.parametrize("url", ["", "/var/lib/shoal.db", "mysql://root:hunter2@db/shoal", "postgresql//hunter2@db"])
def test_an_url_that_cannot_be_meant_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite://") as refusal:
        database.parse(url)
    assert "hunter2" not in str(refusal.value)

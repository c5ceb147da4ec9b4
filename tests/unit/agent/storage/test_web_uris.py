"""Whatever somebody writes as a web server's URI ends in a reason of storage, never in an error of the agent's."""

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st
from shoal_agent.storage import Limits, StorageError
from shoal_agent.storage.web import WebSource
from shoal_api.storage_uri import StorageUriError, parse_storage_uri

HOSTS = st.one_of(
    st.from_regex(r"[A-Za-z0-9.-]{1,70}", fullmatch=True),
    st.from_regex(r"\[[0-9A-Fa-f:.]{2,45}\]", fullmatch=True),
    st.text("aé٣xn-.:[]@%", max_size=80),
)
PORTS = st.one_of(st.just(""), st.integers(0, 99_999).map(lambda port: f":{port}"))
PATHS = st.text(max_size=40).map(lambda path: f"/{path}")


class Nowhere(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise OSError("there is nothing of that name")

    async def close(self) -> None:
        """Nothing."""


@settings(max_examples=300, deadline=None)
@given(scheme=st.sampled_from(("http", "https")), host=HOSTS, port=PORTS, path=PATHS)
def test_a_uri_ends_in_a_reason(scheme: str, host: str, port: str, path: str) -> None:
    try:
        uri = parse_storage_uri(f"{scheme}://{host}{port}{path}")
    except StorageUriError:
        return

    async def find() -> None:
        source = WebSource(Path("/nowhere"), Path("/nowhere"), 8, resolver=Nowhere)
        try:
            with pytest.raises(StorageError) as said:
                await source.find(uri, Limits(1, 1))
        finally:
            await source.close()
        assert len(said.value.message) < 4000

    asyncio.run(find())

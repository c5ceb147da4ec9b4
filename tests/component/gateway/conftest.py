"""Fixtures: a world with Envoy, and clients."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from .world import Envoy, World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Discovery service listening and open, no Envoy yet."""
    world = World()
    await world.serve()
    world.gateway.open()
    yield world
    await world.close()


@pytest.fixture
async def envoy(world: World) -> Envoy:
    return await world.envoy()


@pytest.fixture
async def http(envoy: Envoy) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        base_url=envoy.base,
        headers={"Host": "iris.default.example.com"},
        skip_auto_headers={"User-Agent"},
        connector=aiohttp.TCPConnector(limit=0),
    ) as session:
        yield session

"""A running agents API on a port of its own, without TLS."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from shoal_api.messages import ModelMetadata
from shoal_operator.agents import AgentsServer

from tests.unit.agents.agents_parts import MUTE, Client, DictionaryBackend, Running, ScriptedReviews, mute


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def running(registry: CollectorRegistry) -> AsyncIterator[Running]:
    backend, reviews = DictionaryBackend(), ScriptedReviews()
    described: list[tuple[str, ModelMetadata]] = []
    with mute(MUTE) as agent_port:
        server = AgentsServer(
            backend,
            reviews,
            registry,
            hung_up_seconds=0.6,
            silent_seconds=1.5,
            max_agents=20,
            agent_port=agent_port,
            described=lambda agent, metadata: described.extend((agent.pod_uid, each) for each in metadata),
        )
        port = await server.start("127.0.0.1", 0, None)
        async with aiohttp.ClientSession() as session:
            yield Running(backend, reviews, server, Client(f"http://127.0.0.1:{port}", session), described)
        await server.close()

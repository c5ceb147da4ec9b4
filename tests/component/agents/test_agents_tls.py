"""A certificate that is renewed while agents are connected."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.agents import AgentsServer
from shoal_operator.certificates import Certificates, MemorySecrets

from tests.unit.agents.agents_parts import Client, DictionaryBackend, ScriptedReviews, message


async def served_certificate(port: int) -> str:
    """What a client is shown now."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))


async def test_a_renewal_reaches_new_connections_and_leaves_old_ones_alone() -> None:
    age = timedelta(days=250)
    certificates = await Certificates.open(
        MemorySecrets(), "shoal-system", "shoal-operator", "cluster.local", lambda: datetime.now(UTC) - age
    )
    server = AgentsServer(DictionaryBackend(), ScriptedReviews(), CollectorRegistry())
    port = await server.start("127.0.0.1", 0, certificates.server_ssl_context())
    trust = ssl.create_default_context(cadata=certificates.ca_pem.decode())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        client = Client(f"https://localhost:{port}", session)
        assert (await client.sync(message())).epoch == 1
        before = await served_certificate(port)
        age = timedelta()
        assert await certificates.refresh()
        assert await served_certificate(port) != before
        assert (await client.sync(message())).epoch == 1
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        assert (await Client(f"https://localhost:{port}", session).sync(message())).epoch == 1
    await server.close()


async def test_who_does_not_trust_our_authority_does_not_connect() -> None:
    ours, theirs = await Certificates.in_memory(), await Certificates.in_memory()
    server = AgentsServer(DictionaryBackend(), ScriptedReviews(), CollectorRegistry())
    port = await server.start("127.0.0.1", 0, ours.server_ssl_context())
    trust = ssl.create_default_context(cadata=theirs.ca_pem.decode())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await Client(f"https://localhost:{port}", session).sync(message())
    await server.close()

"""The TLS port for readers: who says nothing, or shows nothing, keeps nobody out."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.certificates import Certificates
from shoal_operator.connections import listener
from shoal_operator.connections.places import PLACES_OF_A_SOURCE
from shoal_operator.http import Access, HttpServer
from shoal_operator.state.world.values import Problem

HOSTILE, READER = "127.0.62.66", "127.0.62.1"
SECONDS = 1.5


class ApiServer:
    """As kube.Kube, for a cluster where whoever has a token may read."""

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        return {"status": {"authenticated": True, "allowed": True, "user": {"username": "reader"}}}


class Strict(Access):
    """Loopback is as good as any address here."""

    async def refusal(self, reader: Any, namespace: str) -> Any:
        return await self._reviewed(reader, namespace) if reader.token else await super().refusal(reader, namespace)


@dataclass
class Port:
    number: int
    trust: ssl.SSLContext
    registry: CollectorRegistry

    async def open(self, *, tls: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        secure = {"ssl": self.trust, "server_hostname": "localhost"} if tls else {}
        return await asyncio.open_connection("127.0.0.1", self.number, local_addr=(HOSTILE, 0), **secure)  # type: ignore[arg-type]  # either

    async def ask(self) -> int:
        connector = aiohttp.TCPConnector(ssl=self.trust, local_addr=(READER, 0))
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(
                f"https://localhost:{self.number}/models?namespace=demo", headers={"Authorization": "Bearer good"}
            ) as response,
        ):
            return response.status

    def refused(self) -> float:
        return self.registry.get_sample_value("shoal_readers_connections_refused_total") or 0.0


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Port]:
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", SECONDS)
    registry, certificates = CollectorRegistry(), await Certificates.in_memory()

    def explain(namespace: str, model: str) -> Mapping[str, Any] | Problem | None:
        return None

    def models(namespace: str, service: str | None, after: str, limit: int) -> Mapping[str, Any]:
        return {"items": []}

    server = HttpServer(lambda: (True, ""), explain, models, Strict(ApiServer(), lambda: 0.0, 0), registry)  # type: ignore[arg-type]
    await server.start("127.0.0.1", 0)
    number = await server.start_tls("127.0.0.1", 0, certificates.server_ssl_context(), token_seconds=SECONDS)
    yield Port(number, ssl.create_default_context(cadata=certificates.ca_pem.decode()), registry)
    await server.close()


@pytest.mark.parametrize("tls", [False, True], ids=["no handshake", "no request"])
async def test_a_silent_connection_has_an_end(port: Port, tls: bool) -> None:
    reader, _ = await port.open(tls=tls)
    assert await port.ask() == 200
    async with asyncio.timeout(10):
        assert await reader.read(-1) == b""


async def test_one_address_has_a_share_and_others_come_in(port: Port) -> None:
    opened = [await port.open(tls=False) for _ in range(PLACES_OF_A_SOURCE + 20)]
    assert await port.ask() == 200
    assert port.refused() >= 20
    for _, writer in opened:
        writer.close()

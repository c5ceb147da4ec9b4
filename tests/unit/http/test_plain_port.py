"""The port for probes and scrapes: anybody may connect, nobody shows a token, and nobody keeps the probes out."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge
from shoal_operator.connections.places import PLACES_OF_A_SOURCE
from shoal_operator.http import HttpServer
from shoal_operator.http.node import gateways, nodes

STRANGER, OTHER, NODE = "127.0.63.66", "127.0.63.2", "127.0.63.1"
SECONDS = 1.0
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: operator\r\n\r\n"


class Nobody:
    async def refusal(self, reader: object, namespace: str) -> None:
        return None


@dataclass
class Port:
    number: int
    registry: CollectorRegistry

    async def open(self, source: str = STRANGER) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.number, local_addr=(source, 0))

    async def alive(self, source: str) -> bool:
        reader, writer = await self.open(source)
        try:
            writer.write(REQUEST)
            async with asyncio.timeout(5):
                answer = await reader.read(-1)
        except ConnectionError:
            return False
        finally:
            writer.close()
        return answer.startswith(b"HTTP/1.1 200 ")

    def refused(self) -> float:
        return self.registry.get_sample_value("shoal_http_connections_refused_total") or 0.0


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    registry = CollectorRegistry()
    server = HttpServer(
        lambda: (True, ""),
        lambda namespace, name: None,
        lambda namespace, service, after, limit: {},
        Nobody(),  # type: ignore[arg-type]  # everybody may read
        registry,
        is_own=lambda address: address == NODE,
    )
    yield Port(await server.start("127.0.0.1", 0, life_seconds=SECONDS), registry)
    await server.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(10):
            await reader.read(-1)
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("said", [b"", REQUEST[:20]], ids=["silent", "half a header"])
async def test_who_asks_nothing_is_closed(port: Port, said: bytes) -> None:
    reader, writer = await port.open()
    writer.write(said)
    assert await ended(reader)
    assert port.refused() == 1


async def test_a_connection_carries_one_request(port: Port) -> None:
    """What idles between requests would have a place for ever."""
    reader, writer = await port.open()
    writer.write(REQUEST)
    assert b"Connection: close" in await reader.read(-1)


async def test_who_reads_no_answer_is_closed(port: Port) -> None:
    """A large answer that is not read stays in memory until its connection ends."""
    many = Gauge("shoal_tests", "Tests.", ["name"], registry=port.registry)
    for number in range(20_000):
        many.labels("x" * 1_000 + str(number)).set(1)
    reader, writer = await port.open()
    writer.write(REQUEST.replace(b"healthz", b"metrics"))
    await asyncio.sleep(3 * SECONDS)
    assert port.refused() == 1
    assert await ended(reader)


async def test_strangers_have_some_places_and_probes_their_own(port: Port) -> None:
    held = [await port.open() for _ in range(PLACES_OF_A_SOURCE + 20)]
    assert await port.alive(OTHER)
    assert await port.alive(NODE)
    assert port.refused() >= 20
    for _, writer in held:
        writer.close()


async def test_probes_come_in_whatever_strangers_have(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal_operator.connections.places.FOREIGN_PLACES", 4)
    held = [await port.open() for _ in range(10)]
    assert not await port.alive(OTHER)
    assert await port.alive(NODE)
    for _, writer in held:
        writer.close()


def test_the_nodes_addresses(tmp_path: Path) -> None:
    ipv4, ipv6 = tmp_path / "route", tmp_path / "ipv6_route"
    ipv4.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    zero, gateway = "0" * 32, "fd000000000000000000000000000001"
    ipv6.write_text(
        f"{zero} 00 {zero} 00 {gateway} 00000400 00000001 00000000 00000003     eth0\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
    )
    assert gateways(ipv4, ipv6) == {"10.244.0.1", "fd00::1"}
    assert gateways(tmp_path / "none", tmp_path / "none") == frozenset()
    own = nodes("192.0.2.7")
    assert all(own(address) for address in ("192.0.2.7", "127.0.0.1", "::1"))
    assert not any(own(address) for address in ("192.0.2.8", "", "10.244.7.9"))

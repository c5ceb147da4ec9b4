"""A hostile pod in the cluster and the agents API's socket: silence, floods, trickles; agents notice nothing of it.

Everybody has an address of his own here, as in a cluster: any in 127.0.0.0/8.
"""

import asyncio
import contextlib
import resource
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.agents import AgentsServer
from shoal_operator.certificates import Certificates
from shoal_operator.connections import listener, places

from tests.unit.agents.agents_parts import Client, DictionaryBackend, ScriptedReviews, message, token

pytestmark = pytest.mark.component

POD, HOSTILE, NAT = "127.0.61.1", "127.0.61.66", "127.0.61.99"
SECONDS = 1.5


class Api:
    def __init__(self, server: AgentsServer, port: int, trust: ssl.SSLContext, backend: DictionaryBackend) -> None:
        self.server, self.port, self.trust, self.backend = server, port, trust, backend

    def agent(self, address: str) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self.trust, local_addr=(address, 0))
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10))

    async def sync(self, session: aiohttp.ClientSession, pod: str = "pod-1") -> None:
        assert (await Client(f"https://localhost:{self.port}", session).sync(message(pod))).epoch == 1

    async def open(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))

    async def open_tls(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, server_hostname="localhost", local_addr=(address, 0)
        )

    @property
    def places(self) -> int:
        assert self.server._connections is not None
        return len(self.server._connections)


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", SECONDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    certificates = await Certificates.in_memory()
    backend = DictionaryBackend(address=POD)
    server = AgentsServer(backend, ScriptedReviews(), CollectorRegistry(), token_seconds=SECONDS)
    port = await server.start("127.0.0.1", 0, certificates.server_ssl_context())
    yield Api(server, port, ssl.create_default_context(cadata=certificates.ca_pem.decode()), backend)
    await server.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def ended(reader: asyncio.StreamReader, seconds: float = 10) -> bytes:
    """What was said until the other side closed."""
    async with asyncio.timeout(seconds):
        try:
            return await reader.read(-1)
        except (ConnectionError, ssl.SSLError):
            return b""


async def test_five_thousand_silent_connections_keep_no_agent_out(api: Api) -> None:
    async with api.agent(POD) as connected, api.agent(POD) as new:
        await api.sync(connected)
        silent = []
        for _ in range(5_000):
            silent.append(await api.open(HOSTILE))
        assert api.places <= places.PLACES_OF_A_SOURCE + 1
        await api.sync(connected)
        await api.sync(new, "pod-2")
        await asyncio.gather(*(ended(reader) for reader, _ in silent))
        await api.sync(connected)
    for _, writer in silent:
        writer.close()

    async def nobody() -> None:
        while api.places:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    await asyncio.wait_for(nobody(), 5)


async def test_many_hostile_addresses_take_strangers_places_only(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "FOREIGN_PLACES", 100)
    silent = [await api.open(f"127.0.62.{number % 100 + 1}") for number in range(1_000)]
    assert api.places == 100
    async with api.agent(POD) as agent:
        await api.sync(agent)
    for _, writer in silent:
        writer.close()


async def test_who_says_nothing_or_little_is_ended_in_time(api: Api) -> None:
    """Each of them in its own way: no handshake, half of one, no request, headers without end."""
    started = time.monotonic()
    silent, _ = await api.open(HOSTILE)
    half, writer = await api.open(HOSTILE)
    writer.write(b"\x16\x03\x01\x02\x00\x01")
    idle, _ = await api.open_tls(HOSTILE)
    trickling, slow = await api.open_tls(HOSTILE)
    slow.write(b"POST /v1/sync HTTP/1.1\r\nHost: x\r\n")
    body, unfinished = await api.open_tls(HOSTILE)
    unfinished.write(b"POST /v1/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{")

    async def trickle() -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while True:
                slow.write(b"x")
                await slow.drain()
                await asyncio.sleep(0.05)

    going = asyncio.create_task(trickle())
    said = await asyncio.gather(*(ended(each) for each in (silent, half, idle, trickling, body)))
    assert time.monotonic() - started < SECONDS + 5
    assert b"401" in said[-1].split(b"\r\n")[0]
    going.cancel()


async def test_a_wrong_token_ends_the_connection_and_a_right_one_keeps_it(api: Api) -> None:
    async def post(writer: asyncio.StreamWriter, bearer: str, pod: str) -> None:
        body = message(pod).model_dump_json()
        head = f"POST /v1/sync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\nContent-Length: {len(body)}"
        writer.write(f"{head}\r\n\r\n{body}".encode())

    for bearer, status in ((token(seconds=-5), b"401"), ("nonsense", b"401"), (token()[:-4] + "nope", b"401")):
        reader, writer = await api.open_tls(HOSTILE)
        await post(writer, bearer, "pod-1")
        assert status in (await ended(reader, 1)).split(b"\r\n")[0]
    reader, writer = await api.open_tls(NAT)
    await post(writer, token(), "pod-1")
    assert b"200" in await reader.readline()
    await asyncio.sleep(SECONDS + 0.5)
    await post(writer, token(), "pod-1")
    answer = b""
    while b"HTTP/1.1 200" not in answer:
        answer = await asyncio.wait_for(reader.read(65536), 5)
        assert answer, "the agent's connection was ended"
    writer.close()


async def test_one_pods_token_opens_so_many_connections_and_no_more(api: Api) -> None:
    statuses: Counter[int] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        for number in range(places.PLACES_OF_A_POD + 8):
            session = await stack.enter_async_context(api.agent(f"127.0.63.{number + 1}"))
            async with await Client(f"https://localhost:{api.port}", session).post(message()) as response:
                statuses[response.status] += 1
        assert statuses == {200: places.PLACES_OF_A_POD, 429: 8}
        other = await stack.enter_async_context(api.agent(POD))
        await api.sync(other, "pod-2")


async def test_while_the_watch_has_shown_nothing_agents_come_in_beside_a_hostile_pod(api: Api) -> None:
    """As after the operator's start."""
    api.backend.unknown.add("*")
    silent = [await api.open(HOSTILE) for _ in range(500)]
    async with api.agent(POD) as agent:
        async with await Client(f"https://localhost:{api.port}", agent).post(message()) as response:
            assert (response.status, (await response.json())["reason"]) == (503, "PodUnknown")
        api.backend.unknown.clear()
        await api.sync(agent)
    for _, writer in silent:
        writer.close()

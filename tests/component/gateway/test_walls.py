"""What one client, service or model does to requests that are held: nothing that others notice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import grpc
import pytest
from shoal_operator.gateway.vocabulary import GRPC_SERVICE
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import ServiceKey

from .raw_http2 import RawHttp2, grpc_headers, string_field
from .world import Envoy, World, eventually

pytestmark = pytest.mark.component

EVIL = ServiceKey("tenant-b", "evil")
EVIL_HOST = "evil.tenant-b"
HELD = 30


@pytest.fixture
async def held(world: World, envoy: Envoy, http: aiohttp.ClientSession) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Thirty requests of innocent clients wait for a cold model; all must be answered by its pod in the end."""
    pod = await world.pod("a")
    world.service(pod)
    world.service(pod, service=EVIL)
    world.bounds = {"timeout": 60.0}
    world.route("mine", unavailable=Unavailable.COLD, service=EVIL)
    await world.applied(world.route("cold", unavailable=Unavailable.COLD))

    async def innocent() -> int:
        async with http.post("/v2/models/cold/infer", data=b"x" * 1000) as response:
            return response.status

    waiting = [asyncio.create_task(innocent()) for _ in range(HELD)]

    async def all_wait() -> bool:
        return world.metric("shoal_cold_requests_held") == HELD

    await eventually(all_wait, 20, "not all are held")

    async def untouched() -> None:
        await asyncio.sleep(0.3)
        assert [each.result() for each in waiting if each.done()] == []

    yield untouched
    await untouched()
    world.route("cold", pod)
    assert await asyncio.gather(*waiting) == [200] * HELD


async def test_names_in_messages_never_reach_others(held: Callable[[], Awaitable[None]], envoy: Envoy) -> None:
    """Names become headers, which end the connection that they come by when it finds them wrong."""
    names = [b"mine/" + b"x" * 80_000, b"mine/" + b"x" * 300_000, b"mine\r\nx: y", b"mine\x00", b"\xff\xfe", b"m/../n"]
    for name in names:
        options = [("grpc.default_authority", EVIL_HOST), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(envoy.address, options=options) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{GRPC_SERVICE}/ModelInfer")
            for _ in range(6):
                with pytest.raises(grpc.aio.AioRpcError, match="not a model's name") as caught:
                    await call(string_field(1, name), timeout=10)
                assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await held()


@pytest.mark.parametrize("count", [90, 95, 97, 98, 99, 100, 200])
async def test_many_headers_never_reach_others(held: Callable[[], Awaitable[None]], envoy: Envoy, count: int) -> None:
    await _send(envoy, b"".join(b"h%d: x\r\n" % number for number in range(count)))
    await held()


@pytest.mark.parametrize("size", [30_000, 32_000, 32_500, 60_000, 61_300, 200_000])
async def test_large_headers_never_reach_others(held: Callable[[], Awaitable[None]], envoy: Envoy, size: int) -> None:
    for name in (b"h", b"x-forwarded-for", b"mm-model-id"):
        await _send(envoy, name + b": " + b"x" * size + b"\r\n")
    await held()


@pytest.mark.parametrize("host", [EVIL_HOST, "iris.default"])
@pytest.mark.parametrize("of_the_same_model", [False, True])
async def test_who_gives_up_a_thousand_times_never_reaches_others(
    held: Callable[[], Awaitable[None]], envoy: Envoy, host: str, of_the_same_model: bool
) -> None:
    """Envoy ends a connection of which most streams were reset at once."""
    model = "cold" if of_the_same_model and host != EVIL_HOST else "mine"
    client = await RawHttp2.connect(envoy.options.host, envoy.options.port)
    for number in range(1500):
        if client.closed:  # by Envoy, which is right: its own connection only
            client = await RawHttp2.connect(envoy.options.host, envoy.options.port)
        stream = client.start([*grpc_headers("ModelInfer", host), ("mm-model-id", model)])
        if number % 10 == 9:
            await asyncio.sleep(0.01)  # so that they reach the activator
        client.reset(stream)
    await client.close()
    await held()


async def _send(envoy: Envoy, headers: bytes) -> None:
    """A request to a cold model of another tenant, on the way of those that are held; whatever becomes of it."""
    reader, writer = await asyncio.open_connection(envoy.options.host, envoy.options.port)
    request = b"POST /v2/models/mine/infer HTTP/1.1\r\nContent-Length: 0\r\nHost: " + EVIL_HOST.encode() + b"\r\n"
    writer.write(request + headers + b"\r\n")
    try:
        async with asyncio.timeout(0.5):
            await reader.readline()
    except (TimeoutError, ConnectionError):
        pass
    writer.close()

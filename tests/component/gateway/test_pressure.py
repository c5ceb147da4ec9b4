"""A real gateway held at its limits by hostile clients, while good requests go on: none of those fails.

What hostile clients can send between two of Envoy's looks at its heap depends on how the machine shares its processors
out: where that is more than what is left, a request may be told to come again (``GatewayOverloaded``, one in a hundred
at most). Nothing else may happen to one.

30 s of it, more where the machine is too busy for the hostile ones to get there in that time; SHOAL_SOAK_SECONDS=3600
for an hour.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import grpc
import pytest
from shoal_operator.gateway import bootstrap, limits
from shoal_operator.gateway.limits import HEAP_SHARE, Limits
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import ServiceKey
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as stubs

from . import hostile
from .load import Load
from .world import ENVOY_HOST, Envoy, World, eventually

pytestmark = pytest.mark.component

SECONDS = float(os.environ.get("SHOAL_SOAK_SECONDS", "30"))
PATIENCE_SECONDS = 120.0
MEMORY_BYTES = 224 * 1024 * 1024
LIMITS = Limits(
    heap_bytes=int(MEMORY_BYTES * HEAP_SHARE),
    connections=300,
    streams=512,
    idle_seconds=3,
    header_seconds=2,
    held_requests=MEMORY_BYTES // 2**18,
)
REFUSED_AT_MOST = 0.01
EVIL = ServiceKey("tenant-b", "evil")


async def test_good_requests_go_on_beside_hostile_ones(small: World) -> None:
    world, envoy = small, small.envoys[0]
    good = Good(world, envoy)
    async with _hostile(envoy), Load(envoy, ["m1", "m2"], rate=30) as load:
        watched = await good.go_on(SECONDS)
    assert set(load.outcomes) <= {"ok", "503"}, (load.outcomes, load.wrong)
    assert all("GatewayOverloaded" in each for each in load.wrong), load.wrong
    assert load.outcomes["503"] <= REFUSED_AT_MOST * load.outcomes["ok"], (load.outcomes, max(watched.pressure))
    assert good.wrong == []
    assert good.right["refused"] <= REFUSED_AT_MOST * good.right.total(), good.right
    assert min(good.right[kind] for kind in ("header", "message", "cold", "probe")) > SECONDS / 4, good.right
    # They were at the limits, not just there.
    assert watched.at_the_limit, (max(watched.pressure), watched.resets)
    assert max(watched.memory) < MEMORY_BYTES, max(watched.memory)

    # And when they are gone, so is what they held.
    async def given_back() -> bool:
        return await _pressure(envoy) < 60

    await eventually(given_back, 20, "memory is not given back")


async def test_silent_connections_end_and_never_lock_others_out(small: World) -> None:
    envoy = small.envoys[0]

    async def status(port: int | None, path: str) -> int:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(f"http://{ENVOY_HOST}:{port}{path}", headers={"Host": "iris.default"}) as response,
        ):
            return response.status

    silent = [await asyncio.open_connection(ENVOY_HOST, envoy.options.port) for _ in range(320)]
    begun = silent[:20]
    for _, writer in begun:
        writer.write(b"GET /v2/models/m1 HTTP/1.1\r\nHost: iris.default\r\nx: ")
    for _ in range(5):
        assert await status(envoy.options.probes_port, "/ready") == 200
        assert await status(envoy.options.probes_port, "/stats/prometheus") == 200
    for reader, _ in silent:
        await asyncio.wait_for(reader.read(), 15)  # ended by Envoy
    assert await status(envoy.options.port, "/v2/models/m1/ready") == 200
    for _, writer in silent:
        writer.close()


async def test_probes_have_a_limit_of_their_own(small: World) -> None:
    """Who reaches their port takes nothing from clients."""
    envoy = small.envoys[0]
    assert envoy.options.probes_port is not None
    silent = [await asyncio.open_connection(ENVOY_HOST, envoy.options.probes_port) for _ in range(400)]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{envoy.base}/v2/models/m1/ready", headers={"Host": "iris.default"}) as response,
    ):
        assert response.status == 200
    for reader, _ in silent:
        await asyncio.wait_for(reader.read(), 15)
    assert await envoy.is_ready()
    for _, writer in silent:
        writer.close()


async def test_connections_without_a_request_make_way_as_others_get_scarce(small: World) -> None:
    envoy = await small.envoy(limits=replace(LIMITS, connections=100, idle_seconds=600))
    idle = []
    for _ in range(97):
        reader, writer = await asyncio.open_connection(ENVOY_HOST, envoy.options.port)
        writer.write(b"GET /v2/models/m1/ready HTTP/1.1\r\nHost: iris.default\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        idle.append(asyncio.create_task(reader.read(-1)))
    done, rest = await asyncio.wait(idle, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert done, "none of 97 silent connections made way at a limit of 100"
    for each in rest:
        each.cancel()


async def test_a_refused_request_says_so(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a heap that is full from the start; connections are let in, or there were nothing to say it to."""
    manager = limits.overload_manager(Limits(heap_bytes=4 * 1024 * 1024))
    manager["actions"] = [each for each in manager["actions"] if "reject" not in each["name"]]
    monkeypatch.setattr(bootstrap, "overload_manager", lambda _: manager)
    envoy = await small.envoy(wait=False)

    async def refused() -> bool:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{envoy.base}/v2/models/m1/ready", headers={"Host": "iris.default"}) as response,
            ):
                said = await response.json()
                return (response.status, said.get("reason"), "retry-after" in response.headers) == (
                    503,
                    "GatewayOverloaded",
                    True,
                )
        except aiohttp.ClientError:
            return False

    await eventually(refused, 20, "not refused with 503")


@pytest.fixture
async def small(world: World) -> AsyncIterator[World]:
    """A gateway with little memory; models m1 and m2 loaded, ``mine`` cold for ever in two InferenceServices."""
    await world.close()
    small = World(memory_bytes=MEMORY_BYTES)
    await small.serve()
    small.gateway.open()
    pod = await small.pod("a")
    small.bounds = {"timeout": 20.0}
    small.service(pod, service=EVIL)
    small.service(pod)
    small.route(hostile.COLD, unavailable=Unavailable.COLD, service=EVIL)
    small.route(hostile.COLD, unavailable=Unavailable.COLD)
    small.route("m1", pod)
    await small.envoy(limits=LIMITS)
    await small.applied(small.route("m2", pod))
    yield small
    await small.close()


@asynccontextmanager
async def _hostile(envoy: Envoy) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", "5", sys.executable, "-m", hostile.__name__, envoy.options.host, str(envoy.options.port))
    )
    try:
        yield
        assert process.returncode is None, "the hostile clients ended by themselves"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Watched:
    def __init__(self) -> None:
        self.pressure: list[int] = []  # of the heap, in percent of what it may have
        self.memory: list[int] = []
        self.resets = 0  # of streams that held much of it

    @property
    def at_the_limit(self) -> bool:
        return max(self.pressure, default=0) >= 60 and self.resets > 0


class Good:
    """Clients that do what clients do; ``right`` counts by kind, ``wrong`` is what went wrong."""

    def __init__(self, world: World, envoy: Envoy) -> None:
        self.right: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._world, self._envoy = world, envoy

    async def go_on(self, seconds: float) -> Watched:
        watched = Watched()
        options = [("grpc.default_authority", "iris.default")]
        async with (
            grpc.aio.insecure_channel(self._envoy.address, options=options) as channel,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
        ):
            stub = stubs.GRPCInferenceServiceStub(channel)
            request = messages.ModelInferRequest(model_name="m1", raw_input_contents=[bytes(100_000)])

            async def header() -> None:
                await stub.ModelInfer(request, metadata=(("mm-model-id", "m1"),), timeout=30)

            async def message() -> None:
                await stub.ModelInfer(request, timeout=30)

            async def cold() -> None:
                name = f"cold-{self.right['cold']}"
                await self._world.applied(self._world.route(name, unavailable=Unavailable.COLD))
                asyncio.get_running_loop().call_later(1.0, self._world.route, name, self._world.pods[0])
                async with session.post(
                    f"{self._envoy.base}/v2/models/{name}/infer", data=b"{}", headers={"Host": "iris.default"}
                ) as response:
                    assert response.status == 200, await response.text()

            async def probe() -> None:
                await get(f"http://{ENVOY_HOST}:{self._envoy.options.probes_port}/ready")

            async def get(url: str) -> None:
                async with session.get(url, headers={"Host": "iris.default"}) as response:
                    assert response.status == 200, await response.text()

            async def watch() -> None:
                watched.pressure.append(await _pressure(self._envoy))
                watched.memory.append(self._envoy.anonymous_bytes())
                watched.resets = await self._envoy.stat("envoy.overload_actions.reset_high_memory_stream.count")

            clock = asyncio.get_running_loop().time
            start = clock()

            def on() -> bool:
                took = clock() - start
                return took < seconds or (not watched.at_the_limit and took < seconds + PATIENCE_SECONDS)

            async with asyncio.TaskGroup() as group:
                for kind in (header, message, cold, probe, watch):
                    group.create_task(self._repeat(kind, on))
        return watched

    async def _repeat(self, kind: Callable[[], Awaitable[None]], on: Callable[[], bool]) -> None:
        while on():
            try:
                await kind()
                self.right[kind.__name__] += 1
            except Exception as error:  # whatever a good client may not see
                if "GatewayOverloaded" in str(error):
                    self.right["refused"] += 1
                else:
                    self.wrong.append(f"{kind.__name__}: {error!r}"[:300])
            await asyncio.sleep(0.1)


async def _pressure(envoy: Envoy) -> int:
    return await envoy.stat("overload.envoy.resource_monitors.fixed_heap.pressure")

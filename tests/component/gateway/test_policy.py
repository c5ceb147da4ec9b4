"""What an InferenceService may set about its requests, each with the real Envoy; and that a change holds at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
from shoal_operator.gateway import bootstrap
from shoal_operator.gateway.main_listener import main_listener
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import RoutePolicy, ServiceKey
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as stubs

from tests.patience import BUSY

from .test_cold_rest import INFER
from .world import Envoy, World

pytestmark = pytest.mark.component

PATH = "/default/iris" + INFER
BOTH = pytest.mark.parametrize("metadata", [(), (("mm-model-id", "m1"),)], ids=["from-message", "from-header"])


def stub(envoy: Envoy) -> tuple[grpc.aio.Channel, stubs.GRPCInferenceServiceStub]:
    channel = grpc.aio.insecure_channel(envoy.address, options=[("grpc.default_authority", "iris.default")])
    return channel, stubs.GRPCInferenceServiceStub(channel)


async def test_a_timeout_over_rest(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(timeout=0.4))
    await world.applied(world.route("m1", pod))
    pod.delay = 30
    started = time.monotonic()
    async with http.post(INFER) as response:
        assert (response.status, (await response.json())["reason"]) == (504, "Timeout")
    assert 0.35 <= time.monotonic() - started < BUSY  # Envoy's timers count whole milliseconds
    pod.delay = 0
    async with http.post(INFER) as response:
        assert response.status == 200


async def test_the_timeout_of_a_held_request_begins_when_its_model_is_there(
    world: World, http: aiohttp.ClientSession
) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(timeout=0.5))
    await world.applied(world.route("m1", unavailable=Unavailable.COLD))
    world.loads("m1", pod, after=1.5)
    async with http.post(INFER) as response:
        assert response.status == 200
    world.route("m1", unavailable=Unavailable.COLD)
    pod.delay = 30
    world.loads("m1", pod, after=0.1)
    async with http.post(INFER) as response:
        assert (response.status, (await response.json())["reason"]) == (504, "Timeout")
    assert "x-shoal-timeout" not in pod.headers


@BOTH
async def test_a_call_without_a_deadline_lives_as_long_as_the_policy_says(
    world: World, envoy: Envoy, metadata: tuple[tuple[str, str], ...]
) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(timeout=0.5))
    await world.applied(world.route("m1", pod))
    pod.delay = 30
    channel, server = stub(envoy)
    async with channel:
        for deadline in (None, 20.0):  # a longer deadline does not lift the limit
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.ModelInfer(
                    messages.ModelInferRequest(model_name="m1"), metadata=metadata, timeout=deadline
                )
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        pod.delay = 0
        answer = await server.ModelInfer(messages.ModelInferRequest(model_name="m1"), metadata=metadata)
        assert answer.model_version == "a"


@BOTH
async def test_the_timeout_of_a_held_call_begins_when_its_model_is_there(
    world: World, envoy: Envoy, metadata: tuple[tuple[str, str], ...]
) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(timeout=1.0))
    await world.applied(world.route("m1", unavailable=Unavailable.COLD))
    channel, server = stub(envoy)
    request = messages.ModelInferRequest(model_name="m1")
    async with channel:
        world.loads("m1", pod, after=2.0)
        assert (await server.ModelInfer(request, metadata=metadata, timeout=20)).model_version == "a"
        await world.applied(world.route("m1", unavailable=Unavailable.COLD))
        pod.delay = 30
        world.loads("m1", pod, after=0.1)
        started = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError, match="Timeout: ") as caught:
            await server.ModelInfer(request, metadata=metadata, timeout=20)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - started < 10
    assert "x-shoal-timeout" not in pod.headers


async def test_silence_ends_no_call_before_its_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy itself ends a request that is silent for five minutes, here for a second, where its route says nothing."""
    real = main_listener

    def hasty(*given: Any) -> dict[str, Any]:
        listener: dict[str, Any] = real(*given)
        listener["filter_chains"][0]["filters"][0]["typed_config"]["stream_idle_timeout"] = "1s"
        return listener

    monkeypatch.setattr(bootstrap, "main_listener", hasty)
    pod = await world.pod("a")
    envoy = await world.envoy()
    world.service(pod)
    world.route("cold", unavailable=Unavailable.COLD)
    await world.applied(world.route("m1", pod))
    pod.delay = 3
    world.loads("cold", pod, after=3)
    channel, server = stub(envoy)
    async with channel, aiohttp.ClientSession(envoy.base, headers={"Host": "iris.default"}) as http:

        async def call(model: str, *metadata: tuple[str, str]) -> str:
            request = messages.ModelInferRequest(model_name=model)
            return str((await server.ModelInfer(request, metadata=metadata)).model_version)

        async def post(model: str) -> int:
            async with http.post(f"/v2/models/{model}/infer", data=b"{}") as response:
                return response.status

        calls = [call(model, *named) for model in ("m1", "cold") for named in ((), (("mm-model-id", model),))]
        answers = await asyncio.gather(*calls, post("m1"), post("cold"))
    assert answers == ["a"] * 4 + [200] * 2


async def test_a_stream_lives_while_messages_pass(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(timeout=2))
    await world.applied(world.route("m1", pod))
    channel, server = stub(envoy)

    async def messages_every(seconds: float, count: int) -> AsyncIterator[messages.ModelInferRequest]:
        for _ in range(count):
            yield messages.ModelInferRequest(model_name="m1")
            await asyncio.sleep(seconds)

    async with channel:
        answers = [each async for each in server.ModelStreamInfer(messages_every(0.5, 8))]
        assert len(answers) == 8  # four seconds
        with pytest.raises(grpc.aio.AioRpcError):
            [each async for each in server.ModelStreamInfer(messages_every(30, 2))]


async def test_path_style_can_be_off(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    world.route("m1", pod)
    world.route("m2", unavailable=Unavailable.COLD)
    world.route("m3", unavailable=Unavailable.LOAD_FAILED)
    await world.applied(world.service(pod))
    async with http.post(PATH, headers={"Host": "other.place"}) as response:
        assert response.status == 200
    pod.requests.clear()
    await world.applied(world.service(pod, policy=RoutePolicy(path_style=False)))  # its models are as they were
    for host in ("other.place", "iris.default", "iris.other"):
        for path in (
            INFER,
            "/v1/models/m2:predict",
            "/v2/models/m3/infer",
            "/v2/models/nobody/infer",
            "/v2",
            "/v1/models",
        ):
            async with http.post("/default/iris" + path, headers={"Host": host}) as response:
                assert (path, response.status, (await response.json())["reason"]) == (path, 404, "PathStyleOff")
    assert (pod.requests, world.asked) == ([], [])
    async with http.post(INFER, headers={"x-shoal-path-style": "true"}) as response:  # a client's own means nothing
        assert response.status == 200
    assert "x-shoal-path-style" not in pod.headers


async def test_one_services_policy_is_no_others(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    wine = ServiceKey("default", "wine")
    world.service(pod, policy=RoutePolicy(path_style=False, timeout=0.2, max_request_bytes=65536))
    world.service(pod, service=wine)
    world.route("m1", pod)
    await world.applied(world.route("m1", pod, service=wine))
    pod.delay = 0.6
    async with http.post("/default/wine" + INFER, data=b"x" * 200_000) as response:
        assert response.status == 200


async def test_a_request_size_over_rest(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(max_request_bytes=100_000))
    world.route("m2", unavailable=Unavailable.COLD)
    await world.applied(world.route("m1", pod))

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    async with http.post(INFER, data=b"x" * 100_000) as response:
        assert (await response.json())["bytes"] == 100_000
    pod.requests.clear()
    for path in (INFER, PATH, "/v2/models/m2/infer"):
        async with http.post(path, data=b"x" * 100_001) as response:
            assert (response.status, (await response.json())["reason"]) == (413, "RequestTooLarge")
        async with http.post(path, data=chunks()) as response:
            assert (response.status, (await response.json())["reason"]) == (411, "LengthRequired")
        # Servers read what it is called as JSON all the same; Envoy refuses it as a call of gRPC.
        async with http.post(path, data=chunks(), headers={"Content-Type": "application/grpc"}) as response:
            assert int(response.headers["grpc-status"]) > 0
    assert (pod.requests, world.asked) == ([], [])


@BOTH
async def test_a_request_size_over_grpc(world: World, envoy: Envoy, metadata: tuple[tuple[str, str], ...]) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(max_request_bytes=100_000))
    await world.applied(world.route("m1", pod))
    channel, server = stub(envoy)
    async with channel:
        fits = messages.ModelInferRequest(model_name="m1", raw_input_contents=[b"x" * 90_000])
        assert (await server.ModelInfer(fits, metadata=metadata)).model_version == "a"
        pod.requests.clear()
        large = messages.ModelInferRequest(model_name="m1", raw_input_contents=[b"x" * 300_000])
        with pytest.raises(grpc.aio.AioRpcError, match="RequestTooLarge: ") as caught:
            await server.ModelInfer(large, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert pod.requests == []


async def test_without_retries_nothing_is_sent_twice(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    pod.lacks.add("m1")
    async with http.post(INFER):
        assert len(pod.requests) > 1
    await world.applied(world.service(pod, policy=RoutePolicy(retries=0)))
    pod.requests.clear()
    async with http.post(INFER) as response:
        assert response.status == 503, "a 404 is what a client may take for final"
        assert (await response.json())["reason"] == "ModelNotLoaded"
    assert len(pod.requests) == 1

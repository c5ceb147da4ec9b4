"""gRPC calls for models that are not loaded, with ModelMesh's header and without."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from shoal_operator.state.world.effects import Unavailable
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as stubs
from tritonclient.utils import InferenceServerException

from tests.patience import BUSY

from .test_grpc_routes import HEADER, an_input, client
from .world import Envoy, World, eventually

pytestmark = pytest.mark.component

both = pytest.mark.parametrize("headers", [None, HEADER], ids=["from-message", "from-header"])


@both
@pytest.mark.parametrize("host", ["iris.default.example.com", "IRIS-predictor.default:80"])
async def test_a_call_waits_for_its_model(
    world: World, envoy: Envoy, host: str, headers: dict[str, str] | None
) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.cold("m1", "m2")
    world.loads("m1", b)
    async with client(envoy, host) as server:
        result = await server.infer("m1", [an_input()], headers=headers)
        assert (result.get_response().model_name, result.get_response().model_version) == ("m1", "b")
    assert world.asked == ["m1"]
    assert a.requests == []
    assert not any(name.startswith(("x-shoal", "x-envoy-attempt")) for name in b.headers)


@both
async def test_a_stream_waits_and_then_flows(world: World, envoy: Envoy, headers: dict[str, str] | None) -> None:
    pod = await world.pod("a")
    await world.cold("m1")
    world.loads("m1", pod)
    answered = asyncio.Event()

    async def two() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "m1", "inputs": [an_input()]}
        await answered.wait()  # the second is asked only after the first was answered: nothing is buffered to the end
        yield {"model_name": "m1", "inputs": [an_input()]}

    async with client(envoy) as server:
        versions = []
        async for answer, _ in server.stream_infer(two(), headers=headers):
            versions.append(answer.get_response().model_version)
            answered.set()
    assert versions == ["a", "a"]


@both
async def test_a_large_message_streams_through(world: World, envoy: Envoy, headers: dict[str, str] | None) -> None:
    pod = await world.pod("a")
    await world.cold("m1")
    world.loads("m1", pod)
    async with client(envoy) as server:
        floats = 15_000_000 if headers else 1_000_000  # without the header the message is held whole, so it is bounded
        result = await server.infer("m1", [an_input(floats)], headers=headers)
        assert result.get_response().model_version == "a"


@both
async def test_why_not_is_a_grpc_status(world: World, envoy: Envoy, headers: dict[str, str] | None) -> None:
    world.bounds = {"timeout": 0.3, "max_held": 1}
    await world.cold("m1")
    async with client(envoy) as server:

        async def refusal() -> tuple[str, str]:
            with pytest.raises(InferenceServerException) as caught:
                await server.infer("m1", [an_input()], headers=headers)
            return caught.value.status().removeprefix("StatusCode."), str(caught.value.message())

        waits = asyncio.create_task(refusal())
        await asyncio.sleep(0.15)
        status, text = await refusal()
        assert (status, text.partition(":")[0]) == ("UNAVAILABLE", "TooManyHeldRequests")
        status, text = await waits
        assert (status, text.partition(":")[0]) == ("UNAVAILABLE", "ActivationTimeout")
        world.state_says("m1", unavailable=Unavailable.LOAD_FAILED, message="no module named sklearn")
        assert await refusal() == ("UNAVAILABLE", "LoadFailed: no module named sklearn")
        world.views.clear()
        status, text = await refusal()
        assert (status, text.partition(":")[0]) == ("NOT_FOUND", "ModelNotFound")
        await world.control_plane_gone()
        status, text = await refusal()
        assert (status, text.partition(":")[0]) == ("UNAVAILABLE", "ActivatorUnavailable")


@both
async def test_a_deadline_ends_the_wait(world: World, envoy: Envoy, headers: dict[str, str] | None) -> None:
    await world.cold("m1")
    options = [("grpc.default_authority", "iris.default")]
    metadata = tuple((headers or {}).items())
    async with grpc.aio.insecure_channel(envoy.address, options=options) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        started = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(messages.ModelInferRequest(model_name="m1"), timeout=0.5, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.4 < time.monotonic() - started < BUSY

        async def gone() -> bool:
            return world.metric("shoal_cold_requests_held") == 0

        await eventually(gone, 1, "the call is still held")


async def test_hundreds_of_held_calls_do_not_keep_others_from_passing(world: World, envoy: Envoy) -> None:
    """What they have sent of their messages is more than a connection's flow control has room for by default."""
    world.bounds = {"max_held": 5000}
    pod = await world.pod("a")
    await world.cold("m1", "m2")
    body = messages.ModelInferRequest(model_name="m1", raw_input_contents=[b"x" * 100_000])
    other = messages.ModelInferRequest(model_name="m2", raw_input_contents=[b"x" * 200_000])
    options = [("grpc.default_authority", "iris.default"), ("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(envoy.address, options=options)) for _ in range(6)
        ]
        held_by, *others = [stubs.GRPCInferenceServiceStub(channel) for channel in channels]
        calls = [held_by.ModelInfer(body, metadata=(("mm-model-id", "m1"),)) for _ in range(500)]

        async def held() -> bool:
            return world.metric("shoal_cold_requests_held") == 500

        await eventually(held, 20, "not all are held")
        await asyncio.sleep(0.3)
        world.state_says("m2", pod)
        for stub in others:  # connections of both of Envoy's workers
            answer = await stub.ModelInfer(other, metadata=(("mm-model-id", "m2"),), timeout=5)
            assert answer.model_version == "a"
        world.route("m1", pod)
        assert {(await call).model_version for call in calls} == {"a"}
    assert world.asked.count("m1") < 20

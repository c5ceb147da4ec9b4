"""gRPC from an unmodified tritonclient: with ModelMesh's header, and without it (the name is read from the message)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from shoal_operator.state.world.effects import Unavailable
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as stubs
from tritonclient.utils import InferenceServerException

from .world import Envoy, World

pytestmark = pytest.mark.component

HEADER = {"mm-model-id": "m1"}


@asynccontextmanager
async def client(envoy: Envoy, host: str = "iris.default.example.com") -> AsyncIterator[Any]:
    arguments = [
        ("grpc.default_authority", host),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
    ]
    async with triton.InferenceServerClient(envoy.address, channel_args=arguments) as connected:
        yield connected


def an_input(size: int = 4) -> Any:
    tensor = triton.InferInput("x", [1, size], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, size), np.float32))
    return tensor


@pytest.mark.parametrize("headers", [None, HEADER], ids=["from-message", "from-header"])
@pytest.mark.parametrize(
    "host", ["iris.default.example.com", "iris.default:80", "IRIS.default", "iris-predictor.default.svc:8081"]
)
async def test_a_model_answers(world: World, envoy: Envoy, host: str, headers: dict[str, str] | None) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    world.service(a)
    world.route("m2", a)
    await world.applied(world.route("m1", b))
    async with client(envoy, host) as server:
        result = await server.infer("m1", [an_input()], headers=headers)
        assert (result.get_response().model_name, result.get_response().model_version) == ("m1", "b")
        assert await server.is_model_ready("m1", headers=headers)
        assert (await server.get_model_metadata("m1", headers=headers)).platform == "b"

        async def two() -> AsyncIterator[dict[str, Any]]:
            for _ in range(2):
                yield {"model_name": "m1", "inputs": [an_input()]}

        stream = [answer async for answer, _ in server.stream_infer(two(), headers=headers)]
        assert [answer.get_response().model_version for answer in stream] == ["b", "b"]
    assert a.requests == []
    assert not any(name.startswith("x-shoal") for name in b.headers)


@pytest.mark.parametrize("headers", [None, {"mm-model-id": "live"}])
async def test_an_inference_service_answers_for_itself(
    world: World, envoy: Envoy, headers: dict[str, str] | None
) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    world.service(a)
    await world.applied(world.route("live", b))
    async with client(envoy) as server:
        assert await server.is_server_live(headers=headers)
        assert await server.is_server_ready(headers=headers)
        assert (await server.get_server_metadata(headers=headers)).name == "a"
        await world.applied(world.service())
        with pytest.raises(InferenceServerException, match="InferenceServiceNotReady") as caught:
            await server.get_server_metadata(headers=headers)
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert b.requests == []


@pytest.mark.parametrize("headers", [None, {"mm-model-id": "nobody"}])
async def test_unknown_is_not_found_and_named(world: World, envoy: Envoy, headers: dict[str, str] | None) -> None:
    pod = await world.pod("a")
    await world.applied(world.service(pod))
    for host, said in [
        ("iris.default", "ModelNotFound: nobody: "),
        ("IRIS.default", "ModelNotFound: nobody: "),
        ("who.default", "InferenceServiceNotFound: no InferenceService answers at host 'who.default'"),
    ]:
        async with client(envoy, host) as server:
            with pytest.raises(InferenceServerException) as caught:
                await server.infer("nobody", [an_input()], headers=headers)
            assert caught.value.status() == "StatusCode.NOT_FOUND"
            assert str(caught.value.message()).startswith(said)
    assert pod.requests == []


@pytest.mark.parametrize("headers", [None, HEADER])
async def test_a_known_model_that_cannot_answer_says_why(
    world: World, envoy: Envoy, headers: dict[str, str] | None
) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", unavailable=Unavailable.NO_MEMORY))
    async with client(envoy) as server:
        with pytest.raises(InferenceServerException, match=r"InsufficientMemory: .*kubectl describe") as caught:
            await server.infer("m1", [an_input()], headers=headers)
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert pod.requests == []


@pytest.mark.parametrize("headers", [None, HEADER])
async def test_management_is_not_reachable(world: World, envoy: Envoy, headers: dict[str, str] | None) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    async with client(envoy) as server:
        for call in (server.get_model_repository_index, lambda **kw: server.unload_model("m1", **kw)):
            with pytest.raises(InferenceServerException) as caught:
                await call(headers=headers)
            assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
            assert "MethodNotFound" in caught.value.message()
    assert pod.requests == []


async def test_the_message_decides_only_without_the_header(world: World, envoy: Envoy) -> None:
    """As with ModelMesh: the header says where to go; a client cannot reach another InferenceService with either."""
    a, b = await world.pod("a"), await world.pod("b")
    world.service(a)
    world.route("m1", a)
    await world.applied(world.route("m2", b))
    async with client(envoy) as server:
        result = await server.infer("m1", [an_input()], headers={"mm-model-id": "m2", "x-shoal-scope": "///m1"})
        assert result.get_response().model_version == "b"
        result = await server.infer("m1", [an_input()], headers={"x-shoal-scope": "///m2"})
        assert result.get_response().model_version == "a"


@pytest.mark.parametrize(("headers", "floats"), [(None, 1_000_000), (HEADER, 15_000_000)])
async def test_a_large_message_passes(world: World, envoy: Envoy, headers: dict[str, str] | None, floats: int) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    async with client(envoy) as server:
        result = await server.infer("m1", [an_input(floats)], headers=headers)
        assert result.get_response().model_version == "a"


async def test_a_message_too_large_to_be_held_is_told_of_the_header(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    async with client(envoy) as server:
        with pytest.raises(InferenceServerException, match=r"MessageNotRead: .*buffer.*mm-model-id") as caught:
            await server.infer("m1", [an_input(15_000_000)])
        assert caught.value.status() == "StatusCode.FAILED_PRECONDITION"
    assert pod.requests == []


async def test_a_message_that_is_no_message_is_refused(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    options = [("grpc.default_authority", "iris.default")]
    async with grpc.aio.insecure_channel(envoy.address, options=options) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer"
        )
        for nonsense in (b"\xff\xff\xff\xff", b""):
            with pytest.raises(grpc.aio.AioRpcError, match=r"\(no name given\)") as caught:
                await call(nonsense)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert pod.requests == []
        # The connection is none the worse for it.
        stub = stubs.GRPCInferenceServiceStub(channel)
        assert (await stub.ModelInfer(messages.ModelInferRequest(model_name="m1"))).model_version == "a"

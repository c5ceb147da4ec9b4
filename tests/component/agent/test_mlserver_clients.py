"""The real MLServer with our plug-in, and clients as the gateway and ModelMesh's are: names in metadata, idle times."""

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as stubs

from .parts import HOST, Server
from .staged import Staged, mlserver

UVICORN_SECONDS = 5
ANSWER = (
    "from mlserver.types import InferenceResponse; "
    "return InferenceResponse(model_name=self.name, outputs=[], parameters={'here': self.name})"
)
MODELS = {name: Staged.code(f"model_{name}", ANSWER) for name in ("one", "two")}
MODELS["streams"] = Staged(
    {
        "model_streams.py": (
            b"from mlserver import MLModel\nfrom mlserver.types import InferenceResponse\n\n\nclass Model(MLModel):\n"
            b"    async def predict_stream(self, payloads):\n        async for payload in payloads:\n"
            b"            yield InferenceResponse(model_name=self.name, outputs=[])\n"
        )
    },
    {"implementation": "model_streams.Model", "parameters": {"uri": "."}},
)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with mlserver(MODELS) as running:
        yield running


@pytest.fixture
async def stub(server: Server) -> AsyncIterator[stubs.GRPCInferenceServiceStub]:
    async with grpc.aio.insecure_channel(f"{HOST}:{server.grpc}") as channel:
        yield stubs.GRPCInferenceServiceStub(channel)


NAMED = [
    ("one", (), "one"),
    ("", (("mm-model-id", "one"),), "one"),
    ("one", (("mm-model-id", "one"),), "one"),
    ("", (("mm-vmodel-id", "two"),), "two"),
    ("", (("mm-vmodel-id", "two"), ("mm-model-id", "one")), "one"),
    ("", (("mm-model-id", "one"), ("mm-model-id", "two")), "one"),
    ("two", (("mm-model-id", "one"),), None),
    ("two", (("mm-vmodel-id", "one"),), None),
    ("one", (("mm-model-id", "nobody"),), None),
]


@pytest.mark.parametrize(("said", "metadata", "model"), NAMED)
async def test_a_call_is_answered_by_the_model_that_its_metadata_names(
    stub: stubs.GRPCInferenceServiceStub, said: str, metadata: tuple[tuple[str, str], ...], model: str | None
) -> None:
    calls = [
        (stub.ModelInfer, messages.ModelInferRequest(model_name=said), "model_name"),
        (stub.ModelMetadata, messages.ModelMetadataRequest(name=said), "name"),
        (stub.ModelReady, messages.ModelReadyRequest(name=said), "ready"),
    ]
    for call, request, field in calls:
        if model is not None:
            answer = await call(request, metadata=metadata, timeout=10)
            assert getattr(answer, field) == (True if field == "ready" else model)
            continue
        with pytest.raises(grpc.aio.AioRpcError, match=f"message is '{said}'") as caught:
            await call(request, metadata=metadata, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_streams_and_models_that_are_not_there(stub: stubs.GRPCInferenceServiceStub) -> None:
    async def said(*names: str) -> AsyncIterator[messages.ModelInferRequest]:
        for name in names:
            yield messages.ModelInferRequest(model_name=name)

    metadata = (("mm-model-id", "streams"),)
    answers = [each async for each in stub.ModelStreamInfer(said("", "streams", ""), metadata=metadata, timeout=10)]
    # MLServer streams plain answers, not Triton's wrapper: read as such, they are fields that it does not know.
    assert len(answers) == 3
    with pytest.raises(grpc.aio.AioRpcError, match="message is 'one'") as caught:
        [each async for each in stub.ModelStreamInfer(said("", "one"), metadata=metadata, timeout=10)]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(messages.ModelInferRequest(), metadata=(("mm-model-id", "nobody"),), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert ("x-model-not-loaded", "true") in tuple(caught.value.trailing_metadata())


async def test_the_server_never_closes_an_idle_connection_first(server: Server) -> None:
    reader, writer = await asyncio.open_connection(HOST, server.http)

    async def ask() -> bytes:
        body = b'{"inputs": []}'
        head = f"POST /v2/models/one/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = int(answer.lower().partition(b"content-length: ")[2].split()[0])
        await reader.readexactly(length)
        return answer

    assert b" 200 " in await ask()
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), UVICORN_SECONDS + 2)
    assert time.monotonic() - before > UVICORN_SECONDS
    assert b" 200 " in await ask()
    writer.close()

"""A gRPC call's model: the metadata's, where the message leaves it out; never two different ones."""

import importlib
import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as messages


class Refused(Exception):
    pass


class Context:
    def __init__(self, *metadata: tuple[str, str]) -> None:
        self.metadata = metadata
        self.said: tuple[grpc.StatusCode, str] | None = None

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self.metadata

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.said = (code, details)
        raise Refused


@pytest.fixture
def servicer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLServer's, as far as names go; the real one is in the component tests."""

    class Servicer:
        async def ModelInfer(self, request: Any, context: Any) -> str:
            return str(request.model_name)

        async def ModelReady(self, request: Any, context: Any) -> str:
            return str(request.name)

        ModelMetadata = ModelReady

        async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[str]:
            async for request in requests:
                yield str(request.model_name)

    for name, content in {
        "mlserver": {},
        "mlserver.grpc": {},
        "mlserver.grpc.servicers": {"InferenceServicer": object},
    }.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "shoal_mlserver.named", raising=False)
    importlib.import_module("shoal_mlserver.named").install_in_grpc(Servicer)
    return Servicer()


@pytest.mark.parametrize(
    ("said", "metadata", "model"),
    [
        ("m1", (), "m1"),
        ("", (), ""),
        ("", (("mm-model-id", "m1"),), "m1"),
        ("m1", (("mm-model-id", "m1"),), "m1"),
        ("", (("mm-vmodel-id", "m1"),), "m1"),
        ("", (("mm-vmodel-id", "m2"), ("mm-model-id", "m1")), "m1"),
        ("m1", (("mm-model-id", ""),), "m1"),
        ("m2", (("mm-model-id", "m1"),), None),
        ("m2", (("mm-vmodel-id", "m1"),), None),
        ("m2", (("mm-model-id", "m1"), ("mm-model-id", "m2")), None),
    ],
)
async def test_the_model_of_a_call(
    servicer: Any, said: str, metadata: tuple[tuple[str, str], ...], model: str | None
) -> None:
    async def stream() -> AsyncIterator[Any]:
        yield messages.ModelInferRequest(model_name=said)
        yield messages.ModelInferRequest(model_name=said)

    async def streamed(context: Context) -> str:
        answers = [each async for each in servicer.ModelStreamInfer(stream(), context)]
        assert len(set(answers)) == 1
        return str(answers[0])

    calls = [
        lambda context: servicer.ModelInfer(messages.ModelInferRequest(model_name=said), context),
        lambda context: servicer.ModelReady(messages.ModelReadyRequest(name=said), context),
        lambda context: servicer.ModelMetadata(messages.ModelMetadataRequest(name=said), context),
        streamed,
    ]
    for call in calls:
        context = Context(*metadata)
        if model is not None:
            assert await call(context) == model
            continue
        with pytest.raises(Refused):
            await call(context)
        assert context.said is not None
        code, details = context.said
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "'m2'" in details
        assert "'m1'" in details

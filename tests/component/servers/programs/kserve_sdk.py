"""KServe's SDK, all that its two inference clients offer, against models `echo` and `of-four`.

Run by the virtual environment of kits/kserve.py: kserve_sdk.py http://<gateway>/<namespace>/<service> <host:port>
<authority>, the latter two for gRPC. Ends with status 0 and one line, or with what was wrong.
"""

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

import httpx
import numpy
from grpc.aio import AioRpcError
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

ROW = numpy.array([[1.0, 0.0, 0.0, 0.0]], "f8")
Error = TypeVar("Error", bound=Exception)
TEXT = numpy.array([["a", "\u00e4\u4e2d"], ["", "longer"]], object)


def request(model: str, name: str, datatype: str, array: numpy.ndarray, *, binary: bool) -> InferRequest:
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    asked = [RequestedOutput(f"{name}-out", {"binary_data": binary})] if model == "echo" else None
    return InferRequest(model, [tensor], request_id="r-1", request_outputs=asked)


async def refusal(call: Awaitable[Any], kind: type[Error]) -> Error:
    try:
        answer = await call
    except kind as error:
        return error
    raise AssertionError(f"answered instead of refused: {answer}")


async def rest_v2(base: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(base) is True
    assert await client.is_server_ready(base) is True
    assert await client.is_model_ready(base, "echo") is True
    assert await client.is_model_ready(base, "nobody") is False
    for binary in (True, False):
        answer = await client.infer(base, request("of-four", "x", "FP64", ROW, binary=binary), "of-four")
        assert numpy.allclose(answer.outputs[0].as_numpy().ravel(), [1.0]), answer
        assert answer.id == "r-1"
        for datatype, array in (("FP32", numpy.array([[1.5, 2.5]], "f4")), ("BOOL", numpy.array([[True, False]]))):
            answer = await client.infer(base, request("echo", "x", datatype, array, binary=binary), "echo")
            assert (answer.outputs[0].as_numpy() == array).all(), (datatype, binary, answer)
    short = request("of-four", "x", "FP64", ROW[:, :3], binary=True)
    wrong = await refusal(client.infer(base, short, "of-four"), httpx.HTTPStatusError)
    assert wrong.response.status_code == 400, wrong
    assert "3 features" in str(wrong), wrong
    await client.close()


async def rest_v1(base: str, host: str) -> None:
    """By Host: this client asks ``base`` itself whether the server lives, and path style has no root."""
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    headers = {"Host": host}
    assert await client.is_server_live(base, headers=headers) is True
    assert await client.is_model_ready(base, "of-four", headers=headers) is True
    answer = await client.infer(base, {"instances": ROW.tolist()}, "of-four", headers=headers)
    assert numpy.allclose(answer["predictions"], [1.0]), answer
    await client.close()


async def grpc_v2(address: str, authority: str) -> None:
    client = InferenceGRPCClient(address, channel_args=[("grpc.default_authority", authority)])
    assert await client.is_server_live() is True
    assert await client.is_server_ready() is True
    assert await client.is_model_ready("echo") is True
    answer = await client.infer(request("of-four", "x", "FP64", ROW, binary=True))
    assert numpy.allclose(answer.outputs[0].as_numpy().ravel(), [1.0]), answer
    answer = await client.infer(request("echo", "x", "BYTES", TEXT, binary=False))
    values = [each.decode() if isinstance(each, bytes) else each for each in answer.outputs[0].as_numpy().ravel()]
    assert values == TEXT.ravel().tolist(), values
    unknown = await refusal(client.infer(request("nobody", "x", "FP64", ROW, binary=False)), AioRpcError)
    assert unknown.code().name == "NOT_FOUND", unknown
    await client.close()


async def main() -> None:
    base, address, authority = sys.argv[1:]
    await rest_v2(base)
    await rest_v1(f"http://{address}/", authority)
    await grpc_v2(address, authority)
    print("KServe's SDK: REST v2 and v1, gRPC v2")


asyncio.run(main())

"""What each client of the Open Inference Protocol offers, tried whole: tritonclient's four, on three models.

Used against the real MLServer alone, and through the gateway on the cluster.
"""

# tritonclient carries no types.
# mypy: disable-error-code="import-untyped"

import asyncio
import io
import threading
from collections.abc import Awaitable
from typing import Any, Final

import joblib
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tritonclient.utils import InferenceServerException

KINDS: Final = {
    "http": tritonclient.http,
    "http.aio": tritonclient.http.aio,
    "grpc": tritonclient.grpc,
    "grpc.aio": tritonclient.grpc.aio,
}
ECHO = """
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput


class Echo(MLModel):
    async def predict(self, payload):
        outputs = [
            ResponseOutput(name=f"{each.name}-out", shape=each.shape, datatype=each.datatype, data=each.data)
            for each in payload.inputs
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
"""
ECHO_SETTINGS = '{"implementation": "runtime.Echo", "parameters": {"uri": "."}}'
ROW = [1.0, 0.0, 0.0, 0.0]
ARRAYS = {
    "BOOL": np.array([[True, False]]),
    **{
        name: np.array([[1, 2], [3, 100]], kind)
        for name, kind in [
            ("UINT8", "u1"),
            ("UINT16", "u2"),
            ("UINT32", "u4"),
            ("UINT64", "u8"),
            ("INT8", "i1"),
            ("INT16", "i2"),
            ("INT32", "i4"),
            ("INT64", "i8"),
        ]
    },
    "FP16": np.array([[1.5, -2.0]], "f2"),
    "FP32": np.array([[1.5, np.nan]], "f4"),
    "FP64": np.array([[1.5, np.nan]], "f8"),
    "BYTES": np.array([["a", "\u00e4\u4e2d"], ["", "longer"]], object),
}
COLOURS = np.array([["red", "xl"], ["green", "s"], ["blue", "s"]], object)


def pickled(model: Any) -> bytes:
    """A fitted estimator as joblib writes it."""
    content = io.BytesIO()
    joblib.dump(model, content)
    return content.getvalue()


def of_four() -> bytes:
    """Takes four numbers: the sum of them, each times its place, from 1."""
    return pickled(LinearRegression().fit(np.eye(4), [1.0, 2.0, 3.0, 4.0]))


def colours() -> bytes:
    """Takes two strings: a row of `COLOURS` is answered with its place, from 1."""
    encoded = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LinearRegression())
    return pickled(encoded.fit(COLOURS, [1.0, 2.0, 3.0]))


async def whole_surface(kind: str, address: str, **options: Any) -> None:
    """All that a client of tritonclient offers, against models `echo`, `of-four` and `colours` at ``address``."""
    module: Any = KINDS[kind]
    if kind.endswith("aio"):
        async with module.InferenceServerClient(address, **options) as client:
            await _surface(module, client, over_http=kind.startswith("http"))
        return
    failed: list[BaseException] = []

    def run() -> None:
        client = module.InferenceServerClient(address, **options)
        try:
            asyncio.run(_surface(module, client, over_http=kind.startswith("http")))
        except BaseException as error:
            failed.append(error)
        finally:
            client.close()

    # A thread of its own: gevent's sockets belong to the one that made them.
    thread = threading.Thread(target=run)
    thread.start()
    await asyncio.to_thread(thread.join)
    if failed:
        raise failed[0]


async def _call(result: Any) -> Any:
    return await result if isinstance(result, Awaitable) else result


def tensor(module: Any, name: str, datatype: str, array: Any, **how: Any) -> Any:
    tensor = module.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, **how)
    return tensor


async def _surface(module: Any, client: Any, *, over_http: bool) -> None:
    """Everything that a client of tritonclient offers of the Open Inference Protocol."""
    assert await _call(client.is_server_live())
    assert await _call(client.is_server_ready())
    assert await _call(client.is_model_ready("echo"))
    about = await _call(client.get_server_metadata())
    assert "binary_tensor_data" in (about["extensions"] if over_http else about.extensions)
    about = await _call(client.get_model_metadata("echo"))
    assert (about["name"] if over_http else about.name) == "echo"
    with pytest.raises(InferenceServerException):
        await _call(client.get_model_metadata("unknown"))

    ways: list[tuple[dict[str, Any], dict[str, Any] | None]] = [({}, None)]
    if over_http:
        ways = [
            ({"binary_data": sent}, asked)
            for sent in (True, False)
            for asked in (None, {"binary_data": True}, {"binary_data": False})
        ]
    else:
        ways.append(({}, {}))
    for datatype, array in ARRAYS.items():
        for how, asked in ways:
            other = np.array([7], "i4")
            inputs = [tensor(module, "x", datatype, array, **how), tensor(module, "y", "INT32", other, **how)]
            outputs = None
            if asked is not None:
                outputs = [module.InferRequestedOutput(f"{name}-out", **asked) for name in ("x", "y")]
            result = await _call(client.infer("echo", inputs, outputs=outputs, request_id="r-1"))
            got = result.as_numpy("x-out")
            if got.dtype == object:
                got = np.array([each.decode() if isinstance(each, bytes) else each for each in got.ravel()], object)
                got = got.reshape(array.shape)
            np.testing.assert_array_equal(got, array, err_msg=f"{datatype} {how} {asked}")
            np.testing.assert_array_equal(result.as_numpy("y-out"), other)
            answer = result.get_response()
            assert (answer["id"] if over_http else answer.id) == "r-1"
    for how, _ in ways:
        text = tensor(module, "x", "BYTES", COLOURS[[2, 0]], **how)
        result = await _call(client.infer("colours", [text]))
        np.testing.assert_allclose(result.as_numpy("predict").ravel(), [3.0, 1.0])
    if over_http:
        four = tensor(module, "x", "FP64", np.array([ROW]))
        for algorithm in ("gzip", "deflate"):
            result = await _call(
                client.infer(
                    "of-four", [four], request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
                )
            )
            np.testing.assert_allclose(result.as_numpy("predict").ravel(), [1.0])

    async def refused(words: str, name: str, inputs: list[Any], **more: Any) -> None:
        with pytest.raises(InferenceServerException, match=words) as error:
            await _call(client.infer(name, inputs, **more))
        assert error.value.status() in ("400", "StatusCode.INVALID_ARGUMENT", None)

    four = tensor(module, "x", "FP64", np.array([ROW]))
    await refused("classification", "of-four", [four], outputs=[module.InferRequestedOutput("predict", class_count=2)])
    await refused("sequences", "of-four", [four], sequence_id=3, sequence_start=True)
    shared = module.InferInput("x", [1, 4], "FP64")
    shared.set_shared_memory("region", 32)
    await refused("shared memory", "of-four", [shared])
    await refused("nothing", "of-four", [four], outputs=[module.InferRequestedOutput("nothing")])
    await refused("3 features", "of-four", [tensor(module, "x", "FP64", np.array([[1.0, 2.0, 3.0]]))])

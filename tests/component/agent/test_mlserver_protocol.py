"""Clients of the Open Inference Protocol as they come, against the real MLServer with our plug-in.

tritonclient's four clients, curl, and KServe's SDK in the two forms that it sends (its package would bring 450 MB:
binary tensors over REST with a lower-case header, typed contents over gRPC).
"""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.protocol_clients import (
    ARRAYS,
    COLOURS,
    ECHO,
    ECHO_SETTINGS,
    KINDS,
    ROW,
    colours,
    of_four,
    pickled,
    tensor,
    whole_surface,
)

from .parts import HOST
from .staged import Staged, StagedServer, mlserver


def _named() -> LinearRegression:
    model = LinearRegression().fit(np.eye(3), [1.0, 20.0, 300.0])
    model.feature_names_in_ = np.array(["ones", "tens", "hundreds"], object)
    return model


def _gaps() -> HistGradientBoostingClassifier:
    rows = np.random.default_rng(5).random((200, 2))
    labels = (rows[:, 0] > 0.5).astype(int)
    rows[::5, 1] = np.nan
    return HistGradientBoostingClassifier(max_iter=5).fit(rows, labels)


MODELS = {
    "echo": Staged({"runtime.py": ECHO.encode()}, json.loads(ECHO_SETTINGS)),
    "of-four": Staged.sklearn(of_four()),
    "colours": Staged.sklearn(colours()),
    "named": Staged.sklearn(pickled(_named())),
    "gaps": Staged.sklearn(pickled(_gaps())),
}


@pytest.fixture
async def server() -> AsyncIterator[StagedServer]:
    async with mlserver(MODELS) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
async def test_tritonclient_as_it_comes(server: StagedServer, kind: str) -> None:
    await whole_surface(kind, f"{HOST}:{server.http if kind.startswith('http') else server.grpc}")


async def test_what_kserves_sdk_sends(server: StagedServer) -> None:
    row = np.array([ROW], "f4")
    head = {
        "id": None,
        "inputs": [
            {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": row.nbytes}},
        ],
        "outputs": [{"name": "predict", "parameters": {"binary_data": True}}],
    }
    packed = json.dumps({key: value for key, value in head.items() if value is not None}).encode()
    headers = {"inference-header-content-length": str(len(packed)), "content-type": "application/octet-stream"}
    async with aiohttp.ClientSession(server.url) as session:
        async with session.post("/v2/models/of-four/infer", data=packed + row.tobytes(), headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            body, at = await answer.read(), int(answer.headers["inference-header-content-length"])
        said = json.loads(body[:at])["outputs"][0]
        assert said["parameters"]["binary_data_size"] == len(body) - at == 8
        np.testing.assert_allclose(np.frombuffer(body[at:], "f8"), [1.0])

        for changed, words in [
            ({"inference-header-content-length": "9999"}, "Inference-Header-Content-Length"),
            ({"inference-header-content-length": "12"}, "cannot be read"),
        ]:
            async with session.post(
                "/v2/models/of-four/infer", data=packed + row.tobytes(), headers={**headers, **changed}
            ) as answer:
                assert (answer.status, words in (await answer.json())["error"]) == (400, True), await answer.text()

    async with grpc.aio.insecure_channel(f"{HOST}:{server.grpc}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        fields = {
            "BOOL": "bool_contents",
            "UINT8": "uint_contents",
            "UINT64": "uint64_contents",
            "INT8": "int_contents",
            "INT64": "int64_contents",
            "FP32": "fp32_contents",
            "FP64": "fp64_contents",
            "BYTES": "bytes_contents",
        }
        for datatype, field in fields.items():
            values = [each.encode() if isinstance(each, str) else each for each in ARRAYS[datatype].ravel().tolist()]
            contents = service_pb2.InferTensorContents(**{field: values})
            given = service_pb2.ModelInferRequest.InferInputTensor(
                name="x", datatype=datatype, shape=[len(values)], contents=contents
            )
            answer = await stub.ModelInfer(service_pb2.ModelInferRequest(model_name="echo", inputs=[given]))
            np.testing.assert_array_equal(list(getattr(answer.outputs[0].contents, field)), values)
        text = [each.encode() for each in COLOURS[[2, 0]].ravel()]
        given = service_pb2.ModelInferRequest.InferInputTensor(
            name="x", datatype="BYTES", shape=[2, 2], contents=service_pb2.InferTensorContents(bytes_contents=text)
        )
        answer = await stub.ModelInfer(service_pb2.ModelInferRequest(model_name="colours", inputs=[given]))
        np.testing.assert_allclose(list(answer.outputs[0].contents.fp64_contents), [3.0, 1.0])


async def test_curl(server: StagedServer) -> None:
    async def curl(*arguments: str) -> Any:
        command = ["curl", "-sS", *arguments]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True, timeout=30)
        return json.loads(done.stdout)

    rows = '{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [[1, 0, 0, 0]]}]}'
    url = f"{server.url}/v2/models/of-four"
    assert (await curl(url))["name"] == "of-four"
    for word in ("live", "ready"):
        assert await curl(f"{server.url}/v2/health/{word}") == {word: True}  # KServe's SDK reads the body
    for how in (["-d", rows], ["--data-binary", rows], ["-d", rows, "-H", "Content-Type: application/json"]):
        assert (await curl(f"{url}/infer", *how))["outputs"][0]["data"] == pytest.approx([1.0])
    assert (await curl(f"{server.url}/v1/models/of-four:predict", "-d", '{"instances": [[1, 0, 0, 0]]}')) == {
        "predictions": pytest.approx([1.0])
    }


async def test_a_message_of_64_mib(server: StagedServer) -> None:
    array = np.arange((64 << 20) // 8, dtype="f8")
    async with tritonclient.grpc.aio.InferenceServerClient(f"{HOST}:{server.grpc}") as client:
        result = await client.infer("echo", [tensor(tritonclient.grpc.aio, "x", "FP64", array)])
        np.testing.assert_array_equal(result.as_numpy("x-out"), array)


async def test_null_and_named_columns_over_v1(server: StagedServer) -> None:
    async with aiohttp.ClientSession(server.url) as session:

        async def predict(name: str, instances: list[Any]) -> tuple[int, Any]:
            async with session.post(f"/v1/models/{name}:predict", json={"instances": instances}) as answer:
                said = await answer.json()
                return answer.status, said["predictions"] if answer.status == 200 else said["error"]

        gaps: Callable[[Any], Any] = _gaps().predict
        rows: list[list[Any]] = [[0.9, None], [None, 0.2]]
        right = gaps(np.array(rows, float)).tolist()
        assert await predict("gaps", rows) == (200, right)
        assert await predict("gaps", [{"a": first, "b": second} for first, second in rows]) == (200, right)
        status, said = await predict("of-four", [[1, 2, 3, 4], [1, 2, None, 4]])
        assert (status, "instances[1][2]" in said, "NaN" in said) == (400, True, True), said
        status, said = await predict("colours", [["red", None]])
        assert (status, "null" in said) == (400, True), said
        async with session.post(
            "/v2/models/colours/infer",
            json={"inputs": [{"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["red", None]}]},
        ) as answer:
            said = (await answer.json())["error"]
            assert (answer.status, "null at [0, 1]" in said) == (400, True), said

        in_any_order = [{"hundreds": 1.0, "ones": 0.0, "tens": 0.0}, {"tens": 1.0, "ones": 0.0, "hundreds": 0.0}]
        status, answers = await predict("named", in_any_order)
        assert (status, answers) == (200, pytest.approx([300.0, 20.0]))
        for wrong in ({"ones": 1.0, "tens": 1.0}, {"ones": 1.0, "tens": 1.0, "hundreds": 1.0, "more": 1.0}):
            status, said = await predict("named", [wrong])
            assert (status, "feature names" in said) == (400, True), said

"""What the real MLServer with our plug-in says of wrong input and of models that fail: over v1, v2 and gRPC."""

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import joblib
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from sklearn.linear_model import LinearRegression
from tritonclient.utils import InferenceServerException

from .parts import HOST, Server
from .staged import Staged, mlserver

OF_FOUR = LinearRegression().fit(np.eye(4), [1.0, 2.0, 3.0, 4.0])
JSON = {"Content-Type": "application/json"}
GOOD = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [1.0, 0.0, 0.0, 0.0]}


def _pickled(model: Any) -> bytes:
    content = io.BytesIO()
    joblib.dump(model, content)
    return content.getvalue()


def _streaming(name: str, *events: str) -> Staged:
    body = "\n".join(f"        {event}" for event in events)
    lines = (
        "from mlserver import MLModel\nfrom mlserver.types import InferenceResponse\n\n\nclass Model(MLModel):\n"
        "    async def predict_stream(self, payloads):\n"
        f"        answer = InferenceResponse(model_name='m', outputs=[])\n{body}\n"
    )
    settings = {"implementation": f"{name}.Model", "parameters": {"uri": "."}}
    return Staged({f"{name}.py": lines.encode()}, settings)


MODELS = {
    "of-four": Staged.sklearn(_pickled(OF_FOUR)),
    "batching": Staged.sklearn(_pickled(OF_FOUR), max_batch_size=8, max_batch_time=0.3),
    "raises": Staged.code("model_raises", "raise RuntimeError('out of luck')"),
    "exits": Staged.code("model_exits", "raise SystemExit(3)"),
    "answers-rubbish": Staged.code("model_rubbish", "return 5"),
    "wordy": Staged.code("model_wordy", "raise ValueError('w' * 100_000)"),
    "never-streams": _streaming("model_never_streams", "raise ValueError('not that')", "yield answer"),
    "rules": Staged.code(
        "model_rules",
        "from mlserver.types import InferenceResponse; "
        "return InferenceResponse(model_name='rules', outputs=[], parameters={'headers': "
        "{'Content-Length': '3', 'X-Own': 'kept', 'X-Line': 'a\\r\\nb', 'x y': 'z', 'X-Text': '\u65e5'}})",
    ),
    "streams-once": _streaming("model_streams_once", "yield answer", "raise RuntimeError('no more')"),
}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with mlserver(MODELS) as running:
        yield running


def _body(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


BAD = [
    (_body({**GOOD, "shape": [1, 3], "data": [1, 2, 3]}), "3 features"),
    (_body({**GOOD, "data": ["a", "b", "c", "d"]}), "convert string to float"),
    (_body({**GOOD, "shape": [2, 4]}), "reshape"),
    (_body({**GOOD, "shape": [10**9, 10**9]}), "reshape"),
    (_body(), "0 were received"),
    (_body({**GOOD, "datatype": "BYTES", "data": ["a"] * 4}), "strings"),
    (_body({**GOOD, "datatype": "FP99"}), "datatype"),
    (_body({**GOOD, "data": {"a": 1}}), "dict"),
    (_body({**GOOD, "parameters": {"content_type": "datetime"}}), "decode"),
    (_body({**GOOD, "parameters": {"content_type": "base64"}}), "bytes-like"),
    (_body(GOOD, parameters={"content_type": "pd"}), "1 features"),
    (_body(GOOD, outputs=[{"name": "nothing"}]), "nothing was received"),
    (b"{nope", "JSON"),
    (b"[]", "dictionary"),
    (b"", "required"),
    (b"[" * 100_000, "JSON"),
    (b"\x00\xff", "JSON"),
]
BAD_V1 = [
    (b'{"instances": [[1, 2, 3]]}', "3 features"),
    (b'{"instances": [["a", "b", "c", "d"]]}', "strings"),
    (b'{"instances": [[1], [1, 2]]}', "same shape"),
    (b'{"instances": []}', "at least one"),
    (b"nope", "not JSON"),
]
IDS = ["a\r\nContent-Length: 0\r\n\r\n", "\x00", " ", "日本", "x" * 100_000]
"""What clients may call a request, and no header can hold."""
FAILING = [("raises", "out of luck"), ("exits", "SystemExit: 3"), ("answers-rubbish", "'int'")]


async def test_over_rest_every_error_is_an_object_with_its_status_and_the_connection_lives(server: Server) -> None:
    """On one connection: closed by the server, the next request would fail with ServerDisconnectedError or be slow."""
    connections = 0

    async def opened(*_: Any) -> None:
        nonlocal connections
        connections += 1

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(opened)
    one = aiohttp.TCPConnector(limit=1, keepalive_timeout=30)
    async with aiohttp.ClientSession(server.url, connector=one, trace_configs=[trace]) as session:

        async def ask(path: str, body: bytes, **headers: str) -> tuple[int, Any]:
            given = {**JSON, **headers}
            async with session.post(path, data=body, headers=given) as answer:
                assert answer.content_type == "application/json", await answer.text()
                return answer.status, await answer.json()

        for path, cases in (("/v2/models/of-four/infer", BAD), ("/v1/models/of-four:predict", BAD_V1)):
            for body, words in cases:
                status, said = await ask(path, body)
                assert (status, words in said["error"]) == (400, True), (body[:100], status, said)
                assert set(said) == {"error"}
        for path in ("/v2/models/{}/infer", "/v1/models/{}:predict"):
            body = _body(GOOD) if path.startswith("/v2") else b'{"instances": [[1, 0, 0, 0]]}'
            for name, words in FAILING:
                status, said = await ask(path.format(name), body)
                assert (status, words in said["error"]) == (500, True), (name, status, said)
            status, said = await ask(path.format("wordy"), body)
            assert (status, len(said["error"])) == (400, 1024)
        for status, words, headers, body in [
            (413, "64 MiB", {"Content-Encoding": "gzip"}, gzip.compress(bytes(65 << 20))),
            (415, "gzip", {"Content-Encoding": "br"}, b"x"),
        ]:
            said_status, said = await ask("/v2/models/of-four/infer", body, **headers)
            assert (said_status, words in said["error"]) == (status, True), said
        assert (await ask("/v2/nowhere", b""))[0] == 404
        for given in IDS:
            status, said = await ask("/v2/models/of-four/infer", _body(GOOD, id=given))
            assert (status, said["id"]) == (200, given)
        async with session.post("/v2/models/rules/infer", data=_body(GOOD), headers=JSON) as answer:
            assert ((await answer.json())["model_name"], answer.headers["X-Own"]) == ("rules", "kept")
            assert not {"X-Line", "x y", "X-Text"} & set(answer.headers)
        async with session.get("/v2/models/of-four/infer") as answer:
            assert (answer.status, await answer.json()) == (405, {"error": "Method Not Allowed"})
        for path, body in [
            ("/v2/models/of-four/infer", gzip.compress(_body(GOOD))),
            ("/v1/models/of-four:predict", gzip.compress(b'{"instances": [[1, 0, 0, 0]]}')),
        ]:
            status, said = await ask(path, body, **{"Content-Encoding": "gzip"})
            values = said["outputs"][0]["data"] if "outputs" in said else said["predictions"]
            assert (status, values) == (200, pytest.approx([1.0])), said
    assert connections == 1


async def test_over_grpc_bad_input_is_invalid_argument_and_a_failing_model_internal(server: Server) -> None:
    async with triton.InferenceServerClient(f"{HOST}:{server.grpc}") as client:

        async def said(name: str, shape: list[int], datatype: str, raw: bytes) -> tuple[str, str]:
            given = triton.InferInput("x", shape, datatype)
            given._raw_content = raw
            with pytest.raises(InferenceServerException) as error:
                await client.infer(name, [given])
            return error.value.status(), error.value.message()

        for shape, datatype, raw, words in [
            ([1, 3], "FP64", bytes(24), "3 features"),
            ([1, 4], "FP64", bytes(3), "32 bytes"),
            ([1, 4], "FP64", b"", "32 bytes"),
            ([1, 4], "NOPE", bytes(32), "NOPE"),
            ([1, 1], "BYTES", b"\x01\x00\x00\x00a", "strings"),
        ]:
            status, message = await said("of-four", shape, datatype, raw)
            assert (status, words in message) == ("StatusCode.INVALID_ARGUMENT", True), (status, message)
        for name, words in FAILING:
            status, message = await said(name, [1, 4], "FP64", bytes(32))
            assert (status, words in message) == ("StatusCode.INTERNAL", True), (name, status, message)
        for given in IDS:
            good = triton.InferInput("x", [1, 4], "FP64")
            good.set_data_from_numpy(np.eye(1, 4))
            assert (await client.infer("of-four", [good], request_id=given)).get_response().id == given
        assert (await said("unknown", [1, 4], "FP64", bytes(32)))[0] == "StatusCode.NOT_FOUND"
        for method in (client.is_model_ready, client.get_model_metadata):
            with pytest.raises(InferenceServerException) as error:
                await method("of-four", model_version="9" * 100_000)
            assert error.value.status() == "StatusCode.NOT_FOUND"
        with pytest.raises(InferenceServerException) as error:
            await client.is_model_ready("unknown")
        assert error.value.status() == "StatusCode.NOT_FOUND"
    assert server.process.log.read_text().count("Traceback") <= 2 * len(FAILING), "a client's input fills the log"


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady", "ModelMetadata", "ModelStreamInfer"])
async def test_over_grpc_what_is_no_message_is_invalid_argument(server: Server, method: str) -> None:
    async with grpc.aio.insecure_channel(f"{HOST}:{server.grpc}") as channel:
        path = f"/inference.GRPCInferenceService/{method}"
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path)
        for message in (b"\xff\xff\xff\xff no protobuf", b"\x0a\xff\x01short"):
            if "Stream" in method:
                answer: Any = stream(iter([message]), metadata=(("mm-model-id", "of-four"),), timeout=10).read()
            else:
                answer = unary(message, metadata=(("mm-model-id", "of-four"),), timeout=10)
            with pytest.raises(grpc.aio.AioRpcError, match="The message cannot be read") as caught:
                await answer
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    async with triton.InferenceServerClient(f"{HOST}:{server.grpc}") as client:
        assert await client.is_model_ready("of-four")
    assert "Traceback" not in server.process.log.read_text(), "a client's input fills the log"


async def test_a_stream_that_fails_says_so(server: Server) -> None:
    async with aiohttp.ClientSession(server.url, headers=JSON) as session:
        async with session.post("/v2/models/never-streams/infer_stream", data=_body(GOOD)) as answer:
            assert (answer.status, await answer.json()) == (400, {"error": "not that"})
        async with session.post("/v2/models/streams-once/infer_stream", data=_body(GOOD)) as answer:
            assert answer.status == 200
            events = [event for event in (await answer.text()).split("\n\n") if event]
        assert len(events) == 2
        assert json.loads(events[1].removeprefix("data: ")) == {"error": "RuntimeError: no more"}


async def test_in_a_batch_only_the_wrong_request_fails(server: Server) -> None:
    async with aiohttp.ClientSession(server.url, headers=JSON) as session:

        async def ask(given: dict[str, Any]) -> tuple[int, Any]:
            async with session.post("/v2/models/batching/infer", data=_body(given)) as answer:
                return answer.status, await answer.json()

        wrong_width = {**GOOD, "shape": [1, 3], "data": [1, 2, 3]}
        another_name = {**GOOD, "name": "y"}
        for bad, statuses in ((wrong_width, {400}), (another_name, {200, 400})):
            answers = await asyncio.gather(ask(GOOD), ask(bad), ask(GOOD), ask(GOOD))
            assert answers.pop(1)[0] in statuses
            for status, said in answers:
                assert status == 200, said
                assert said["outputs"][0]["data"] == pytest.approx([1.0])

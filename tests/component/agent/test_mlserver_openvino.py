"""OpenVINO's models on the real MLServer with the real OpenVINO, which has the last word on what they answer."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import tritonclient.grpc.aio
import tritonclient.http
from shoal_agent.servers.mlserver.settings_file import SETTINGS_FILE, write_settings
from shoal_api.tuning import UNTUNED, Tuning
from shoal_operator.openvino import PLUGIN_KEYS
from tritonclient.grpc import InferInput as GrpcInput

from tests.component.made_once import install, made_once, place

from .parts import HOST, PLUGINS, REPOSITORY, mlserver_binary
from .staged import Staged, StagedServer, mlserver

SAMPLE = REPOSITORY / "docs" / "samples" / "openvino"
ONNX = next((REPOSITORY / "docs" / "samples" / "triton" / "onnx-in-python").rglob("*.onnx"))


def packages() -> Path:
    """What image mlserver-openvino has on top of MLServer."""
    requirements = REPOSITORY / "runtimes" / "mlserver" / "requirements-openvino.txt"
    made = place("servers/openvino", requirements)
    return made_once(made, lambda making: install(requirements, "--target", str(making)))


@dataclass(frozen=True)
class Models:
    """``folder``: the files. ``asked`` and ``answers``: what OpenVINO says of them by itself."""

    folder: Path
    asked: list[list[float]]
    answers: dict[str, list[list[float]]]
    properties: list[str]

    def staged(self, name: str, framework: str = "openvino", tuning: Tuning = UNTUNED, **extra: Any) -> Staged:
        """As the agent stages it."""
        files = {file.name: file.read_bytes() for file in self.folder.glob(f"{name}.*") if file.suffix != ".onnx"}
        if name == "onnx":
            files = {"linear.onnx": ONNX.read_bytes()}
        if extra:
            files[SETTINGS_FILE] = json.dumps({"parameters": {"extra": extra}}).encode()
        return as_the_agent(self.folder, files, framework, tuning)


def as_the_agent(folder: Path, files: dict[str, bytes], framework: str, tuning: Tuning = UNTUNED) -> Staged:
    copy = folder / "copy"
    copy.mkdir()
    try:
        for name, content in files.items():
            (copy / name).write_bytes(content)
        write_settings(copy, "m", framework, tuning)
        return Staged(files, json.loads((copy / SETTINGS_FILE).read_text()))
    finally:
        shutil.rmtree(copy)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(ONNX, folder / "linear.onnx")
    program = Path(__file__).with_name("openvino_models.py")
    python = mlserver_binary().with_name("python")
    done = subprocess.run(
        [str(python), str(program), str(folder)],
        env={**os.environ, "PYTHONPATH": str(packages())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Models(folder, **json.loads(done.stdout))


def server(staged: dict[str, Staged], **environment: str) -> AbstractAsyncContextManager[StagedServer]:
    """MLServer as image mlserver-openvino has it."""
    path = os.pathsep.join((str(PLUGINS / "mlserver" / "plugin"), str(packages())))
    return mlserver(staged, PYTHONPATH=path, **environment)


def told(running: StagedServer, name: str) -> dict[str, str]:
    """What the server says that OpenVINO made of a model's tuning, at its last load."""
    (*_, line) = re.findall(rf"OpenVINO model {name}: (.*)", running.process.log.read_text())
    return dict(each.split(" ", 1) for each in re.sub("\x1b.*?m", "", line).strip().split(", "))


def tensor(rows: list[list[float]], name: str = "features", datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": [len(rows), len(rows[0])], "datatype": datatype, "data": rows}


async def infer(session: aiohttp.ClientSession, name: str, *inputs: dict[str, Any], **more: Any) -> tuple[int, Any]:
    async with session.post(f"/v2/models/{name}/infer", json={"inputs": list(inputs), **more}) as answer:
        said = await answer.json()
        if not answer.ok:
            return answer.status, said["error"]
        return answer.status, {each["name"]: np.reshape(each["data"], each["shape"]) for each in said["outputs"]}


async def test_every_client_gets_what_openvino_itself_says(models: Models) -> None:
    expected = np.array(models.answers["linear"])
    staged = {name: models.staged(name) for name in ("linear", "pair")} | {"onnx": models.staged("onnx", "openvino")}
    async with server(staged) as running, aiohttp.ClientSession(running.url) as session:
        for datatype in ("FP32", "FP64"):  # curl and KServe's SDK send what Python has
            status, said = await infer(session, "linear", tensor(models.asked, datatype=datatype))
            assert (status, list(said)) == (200, ["label"])
            np.testing.assert_allclose(said["label"], expected, rtol=1e-5)
        status, said = await infer(session, "onnx", tensor(models.asked, name="x"))
        assert status == 200
        np.testing.assert_allclose(next(iter(said.values())).ravel(), np.ravel(models.answers["onnx"]), rtol=1e-5)
        async with session.post("/v1/models/linear:predict", json={"instances": models.asked}) as answer:
            np.testing.assert_allclose((await answer.json())["predictions"], expected, rtol=1e-5)
        status, said = await infer(
            session, "pair", tensor([[3, 4]], "b", "INT64"), tensor([[0.5, 1.5]], "a"), outputs=[{"name": "total"}]
        )
        assert (status, {name: value.tolist() for name, value in said.items()}) == (200, {"total": [[3.5, 5.5]]})
        async with session.get("/v2/models/pair") as answer:
            metadata = await answer.json()
        described = {each["name"]: (each["datatype"], each["shape"]) for each in metadata["inputs"]}
        assert described == {"a": ("FP32", [-1, 2]), "b": ("INT64", [-1, 2])}
        binary = await asyncio.to_thread(_over_http, running.http, models.asked)
        np.testing.assert_allclose(binary, expected, rtol=1e-5)
        async with tritonclient.grpc.aio.InferenceServerClient(f"{HOST}:{running.grpc}") as client:
            asked = GrpcInput("features", [2, 3], "FP32")
            asked.set_data_from_numpy(np.array(models.asked, np.float32))
            said = (await client.infer("linear", [asked])).as_numpy("label")
            np.testing.assert_allclose(said, expected, rtol=1e-5)


def _over_http(port: int, rows: list[list[float]]) -> Any:
    client = tritonclient.http.InferenceServerClient(f"{HOST}:{port}")
    try:
        asked = tritonclient.http.InferInput("features", [2, 3], "FP32")
        asked.set_data_from_numpy(np.array(rows, np.float32))
        return client.infer("linear", [asked]).as_numpy("label")
    finally:
        client.close()


async def test_what_does_not_fit_is_refused_with_what_the_model_takes(models: Models) -> None:
    async with (
        server({"linear": models.staged("linear"), "pair": models.staged("pair")}) as running,
        aiohttp.ClientSession(running.url) as session,
    ):
        b = tensor([[1, 2]], "b", "INT64")
        for inputs, outputs, said in (
            ([tensor([[1.0, 2.0]], "a"), tensor([[1.0, 2.0]], "c")], None, "no input 'c'; it has a, b"),
            ([b], None, "has 2 inputs (a, b)"),
            ([tensor([[1.0, 2.0]], "a"), tensor([[0.5, 1.5]], "b")], None, "input 'b' is float32, which is no int64"),
            ([tensor([[1.0, 2.0, 3.0]], "a"), b], None, "input 'a' has shape [1, 3], not"),
            ([tensor([[1.0, 2.0]], "a"), b], [{"name": "z"}], "no output 'z'; it has total, count"),
        ):
            status, answer = await infer(session, "pair", *inputs, **({"outputs": outputs} if outputs else {}))
            assert status == 400, answer
            assert said in answer
        assert (await infer(session, "linear", tensor(models.asked)))[0] == 200


async def test_spec_serving_and_the_users_own_settings_are_what_openvino_runs_with(models: Models) -> None:
    staged = {
        "plain": models.staged("linear"),
        "served": models.staged("linear", tuning=Tuning(workers_max=2, threads=1)),
        "own": models.staged("linear", nireq=5, plugin_config={"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1"}),
        "both": models.staged(
            "linear", nireq=5, plugin_config={"PERFORMANCE_HINT": "THROUGHPUT"}, tuning=Tuning(threads=1)
        ),
        "hint": models.staged("linear", plugin_config={"PERFORMANCE_HINT": "THROUGHPUT"}),
    }
    async with server(staged, OMP_NUM_THREADS="1") as running, aiohttp.ClientSession(running.url) as session:
        assert told(running, "plain").items() >= {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1"}.items()
        streams = str(min(2, len(os.sched_getaffinity(0))))
        served = {"nireq": "2", "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
        assert told(running, "served").items() >= served.items()
        assert told(running, "own").items() >= {"nireq": "5", "INFERENCE_NUM_THREADS": "1"}.items()
        both = {"nireq": "5", "INFERENCE_NUM_THREADS": "1", "PERFORMANCE_HINT": "THROUGHPUT"}
        assert told(running, "both").items() >= both.items()
        # Another tuning takes the former's place, under requests.
        answers: list[int] = []

        async def ask() -> None:
            for _ in range(40):
                answers.append((await infer(session, "served", tensor(models.asked)))[0])

        asking = asyncio.create_task(ask())
        running.stage("served", models.staged("linear", tuning=Tuning(workers_max=3, threads=1)))
        async with session.post("/v2/repository/models/served/load") as answer:
            assert answer.status == 200, await answer.text()
        await asking
        assert set(answers) == {200}
        assert told(running, "served")["nireq"] == "3"
        assert {name: (await infer(session, name, tensor(models.asked)))[0] for name in staged} == dict.fromkeys(
            staged, 200
        )


async def test_what_holds_for_all_models_is_under_what_one_says(models: Models) -> None:
    everywhere = json.dumps({"nireq": 4, "plugin_config": {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}})
    staged = {
        "plain": models.staged("linear"),
        "own": models.staged("linear", nireq=2),
        "served": models.staged("linear", tuning=Tuning(workers_max=2)),
    }
    async with server(staged, SHOAL_OPENVINO=everywhere) as running:
        assert told(running, "plain").items() >= {"nireq": "4", "INFERENCE_NUM_THREADS": "1"}.items()
        assert told(running, "own").items() >= {"nireq": "2", "INFERENCE_NUM_THREADS": "1"}.items()
        assert told(running, "served")["nireq"] == "4"


async def test_a_full_queue_refuses_and_a_client_that_goes_away_takes_nothing_along(models: Models) -> None:
    rows = tensor([[1.0] * 1024] * 64, "x")
    # Where the processor can, OpenVINO computes in bf16 unless it is told not to.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    narrow = models.staged("heavy", tuning=Tuning(workers_max=1, threads=1, queue_size=2), plugin_config=exact)
    staged = {"heavy": narrow, "linear": models.staged("linear")}
    async with server(staged, OMP_NUM_THREADS="1") as running, aiohttp.ClientSession(running.url) as session:
        asking = [asyncio.create_task(infer(session, "heavy", rows)) for _ in range(12)]
        # The event loop is free while OpenVINO computes.
        assert (await infer(session, "linear", tensor(models.asked)))[0] == 200
        answers = await asyncio.gather(*asking)
        refused = [said for status, said in answers if status == 503]
        assert refused, [status for status, _ in answers]
        assert all("requests of model 'heavy' wait already" in said for said in refused)
        assert {status for status, _ in answers} == {200, 503}
        for _ in range(3):
            gone = asyncio.create_task(infer(session, "heavy", rows))
            await asyncio.sleep(0.05)
            gone.cancel()
        for _ in range(2):
            status, said = await _until_it_has_room(session, rows)
            assert status == 200
            np.testing.assert_allclose(next(iter(said.values())), np.full((64, 1024), 0.99**40), rtol=1e-3)


async def _until_it_has_room(session: aiohttp.ClientSession, rows: dict[str, Any]) -> tuple[int, Any]:
    async with asyncio.timeout(60):
        while True:
            status, said = await infer(session, "heavy", rows)
            if status != 503:
                return status, said
            await asyncio.sleep(0.1)


async def test_a_model_that_cannot_be_loaded_says_why_and_the_others_answer(models: Models) -> None:
    broken = as_the_agent(models.folder, {"model.xml": b"<net", "model.bin": b""}, "openvino_ir")
    unknown = models.staged("linear", plugin_config={"NUM_STREAM": "1"})
    wrong = models.staged("linear", nireq="many")
    async with server({"linear": models.staged("linear")}) as running, aiohttp.ClientSession(running.url) as session:
        for name, model, said in (
            ("broken", broken, ""),
            ("unknown", unknown, "NUM_STREAM"),
            ("wrong", wrong, "parameters.extra.nireq is 'many': write a whole number from 1"),
        ):
            running.stage(name, model)
            async with session.post(f"/v2/repository/models/{name}/load") as answer:
                text = await answer.text()
                assert answer.status >= 400, name
                assert said in text, text
        assert (await infer(session, "linear", tensor(models.asked)))[0] == 200


async def test_without_openvino_in_the_image_it_is_said(models: Models) -> None:
    async with mlserver({}) as running, aiohttp.ClientSession(running.url) as session:
        running.stage("linear", models.staged("linear"))
        async with session.post("/v2/repository/models/linear/load") as answer:
            assert "No module named 'openvino'" in await answer.text()
            assert "use an image that has it" in await answer.text()


async def test_every_property_that_is_offered_is_one_of_openvinos(models: Models) -> None:
    """OpenVINO Model Server would retire other models for one that is not."""
    assert PLUGIN_KEYS.keys() <= set(models.properties)


async def test_the_sample_answers(models: Models) -> None:
    files = {file.name: file.read_bytes() for file in (SAMPLE / "linear").iterdir()}
    async with (
        server({"linear": as_the_agent(models.folder, files, "openvino")}) as running,
        aiohttp.ClientSession(running.url) as session,
    ):
        status, said = await infer(session, "linear", tensor([[1.0, 2.0, 3.0]]))
        assert status == 200
        np.testing.assert_allclose(said["label"], [[14.5]])

"""What is Triton's own: the sample as a user copies it, tritonclient through the gateway, versions, queues."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import pytest_asyncio
import tritonclient.http
from shoal_agent.model_server import LoadedModel, ModelCopy, Place
from shoal_agent.servers.triton import connect
from shoal_api.tuning import Tuning
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged
from shoal_operator.state.world.values import RoutePolicy

from tests.component.agent.parts import HOST, eventually
from tests.component.gateway.world import SERVICE, World

from . import samples
from .conftest import a_life
from .kits import KitServer
from .kits.triton import CONFIG, KIT
from .life import Life

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod() -> AsyncIterator[Life]:
    async with a_life(KIT) as made:
        yield made


async def infer(pod: Life, path: str, rows: list[list[float]]) -> tuple[int, Any]:
    tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": rows}
    async with pod.session.post(f"{pod.ground.base}/v2/models/{path}/infer", json={"inputs": [tensor]}) as response:
        answer = await response.json()
        return response.status, answer["outputs"][0]["data"] if response.status == 200 else answer


async def test_the_samples_models_answer_an_onnx_graph_in_python_among_them(pod: Life) -> None:
    tuned = Tuning(workers_max=2, batch_size=8, batch_delay=0.005, queue_size=100)
    await samples.load(pod, "triton", {"doubler": tuned})
    assert await infer(pod, "doubler", [[1.0, 2.5]]) == (200, [2.0, 5.0])
    status, (answer,) = await infer(pod, "linear", [[1.0, 2.0, 3.0]])
    assert (status, answer) == (200, pytest.approx(14.5))


async def test_tritonclient_speaks_binary_tensors_through_the_gateway(pod: Life, world: World) -> None:
    await pod.serve(binary=3.5)
    ports = pod.ground.ports
    world.gateway.apply(
        [PodEndpointChanged("real", HOST, ports["http"], ports["grpc"], service=SERVICE, server_type="triton")]
    )
    world.service(policy=RoutePolicy(server_type="triton"))
    sequence = next(world.sequence)
    world.gateway.apply([RouteChanged(SERVICE, "binary", sequence, frozenset({"real"}))])
    envoy = await world.envoy()
    await world.applied(sequence)

    def ask() -> tuple[list[Any], dict[str, Any]]:
        # Binary both ways, as it does by default.
        client = tritonclient.http.InferenceServerClient(envoy.base.removeprefix("http://"))
        try:
            asked = tritonclient.http.InferInput("x", [2, 4], "FP32")
            asked.set_data_from_numpy(numpy.ones((2, 4), numpy.float32))
            host = {"Host": "iris.default"}
            metadata = client.get_model_metadata("binary", headers=host)
            return client.infer("binary", [asked], headers=host).as_numpy("y").tolist(), metadata
        finally:
            client.close()

    values, metadata = await asyncio.to_thread(ask)
    assert values == [[3.5], [3.5]]
    assert (metadata["name"], metadata["versions"]) == ("binary", ["1"])


async def test_a_model_keeps_its_version_and_one_that_is_not_there_is_no_reason_to_heal(pod: Life) -> None:
    code = KIT.sample(21.0)["1/model.py"]
    pod.put_files(
        "versioned", {"config.pbtxt": CONFIG, "3/model.py": KIT.sample(20.0)["1/model.py"], "7/model.py": code}
    )
    await pod.operator.want(pod.intent("versioned"))
    await pod.loaded("versioned", seconds=90)
    assert await infer(pod, "versioned/versions/7", [[1.0]]) == (200, [21.0])
    async with pod.session.post(f"{pod.ground.base}/v2/models/versioned/versions/3/infer", json={}) as response:
        body = await response.text()
        assert response.status in (400, 404)
    rules = pod.profile.not_loaded.rest
    assert not any(rule.status == response.status and all(part in body for part in rule.contains) for rule in rules)


async def test_a_copy_that_was_laid_out_before_the_loaded_one_is_loaded_all_the_same(tmp_path: Path) -> None:
    """Triton by itself takes a folder only where it is newer than what it has."""
    models, shared = tmp_path / "models", tmp_path / "shared"
    (models / "slots").mkdir(parents=True)
    shared.mkdir()
    server = KitServer(KIT, tmp_path, models, shared)
    adapter = connect(Place(HOST, server.ports, models, shared, 60.0))
    copies = [
        ModelCopy("turns", str(number) * 32, models / "copies" / (str(number) * 32), "triton") for number in (1, 2)
    ]
    for number, copy in enumerate(copies, 1):
        for path, content in KIT.sample(float(number)).items():
            (copy.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (copy.folder / path).write_bytes(content)
        adapter.prepare(copy)
        await asyncio.sleep(0.01)
    server.start()
    try:
        await eventually(adapter.alive, 60, server.process.log.read_text)
        for copy in reversed(copies):
            adapter.layout.show("turns", copy.identity)
            await adapter.load(copy)
            assert await adapter.find("turns") == LoadedModel("turns", copy.identity, ready=True)
        assert (await adapter.state()).models == (LoadedModel("turns", copies[0].identity, ready=True),)
    finally:
        await adapter.close()
        await server.kill()


async def test_a_full_queue_refuses_what_comes_on_top(pod: Life) -> None:
    pod.put_files("narrow", KIT.slow(4.0, predict_seconds=1.0) or {})
    await pod.operator.want(pod.intent("narrow", tuning=Tuning(queue_size=2)))
    await pod.loaded("narrow", seconds=90)
    answers = await asyncio.gather(*(pod.ask_model("narrow") for _ in range(8)))
    refused = [answer for answer in answers if answer.status == 503]
    assert len(refused) >= 4, answers
    assert all("maximum queue size" in json.loads(answer.body)["error"] for answer in refused)
    assert all(answer.value == 4.0 for answer in answers if answer.status == 200)
    assert len(refused) < len(answers)

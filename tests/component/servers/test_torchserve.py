"""What is TorchServe's own: the sample beside the models run here, three protocols in one batch, its queue, its end."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from shoal_agent.model_server import Place
from shoal_agent.servers.torchserve.management import Management
from shoal_api.tuning import UNTUNED, Tuning
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged, ServiceRouteChanged
from shoal_operator.state.world.values import RoutePolicy

from tests.component.agent.parts import HOST, REPOSITORY, eventually
from tests.component.gateway.world import SERVICE, World

from . import samples
from .conftest import a_life
from .kits.torchserve import KIT, environment, python
from .life import Life

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
SAMPLE = REPOSITORY / "docs" / "samples" / "torchserve"
ROWS = [[1.0, 2.0, 3.0], [-1.5, 0.25, 0.5]]
PAIRS = [[1.0, 2.0], [3.0, -4.0]]
_HERE = """
import json, sys, torch
sys.path.insert(0, {mlp!r})
from model import Mlp
mlp = Mlp()
mlp.load_state_dict(torch.load({mlp!r} + "/mlp.pt"))
linear = torch.jit.load({linear!r} + "/linear.pt")
with torch.no_grad():
    print(json.dumps([linear(torch.tensor({rows})).tolist(), mlp(torch.tensor({pairs}))[:, 0].tolist()]))
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod() -> AsyncIterator[Life]:
    async with a_life(KIT) as made:
        yield made


def computed_here() -> tuple[list[list[float]], list[float]]:
    """Both models' answers, by PyTorch without any server."""
    code = _HERE.format(mlp=str(SAMPLE / "mlp"), linear=str(SAMPLE / "linear"), rows=ROWS, pairs=PAIRS)
    run = subprocess.run([python(), "-B", "-c", code], env=environment(), capture_output=True, text=True, check=True)
    linear, mlp = json.loads(run.stdout)
    return linear, mlp


def tensor(rows: list[list[float]], name: str = "x") -> dict[str, Any]:
    return {
        "name": name,
        "shape": [len(rows), len(rows[0])],
        "datatype": "FP32",
        "data": [x for row in rows for x in row],
    }


def management(pod: Life) -> Management:
    place = Place(HOST, pod.ground.ports, pod.ground.models, pod.ground.shared, 60.0)
    return Management(place.url("management"))


async def test_the_sample_answers_as_the_models_do_here(pod: Life) -> None:
    linear, mlp = await asyncio.to_thread(computed_here)
    for name, spec in samples.models("torchserve").items():
        pod.put_files(name, samples.files(SAMPLE / name))
        tuning = Tuning(batch_size=8, batch_delay=0.2) if "serving" in spec else UNTUNED
        await pod.operator.want(pod.intent(name, tuning=tuning))
    await pod.loaded("linear", "mlp", seconds=180)
    assert await samples.post(pod, "/v1/models/linear:predict", {"instances": ROWS}) == (200, {"predictions": linear})
    status, said = await samples.post(pod, "/v2/models/linear/infer", {"id": "7", "inputs": [tensor(ROWS)]})
    assert (status, said["id"], said["model_name"], said["model_version"]) == (200, "7", "linear", "1.0")
    (output,) = said["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [2, 2])
    assert output["data"] == [x for row in linear for x in row]
    assert await samples.post(pod, "/predictions/linear", ROWS) == (200, linear)
    # What a client writes without a point is the same number.
    assert (await samples.post(pod, "/predictions/linear", [[1, 2, 3]]))[1] == [linear[0]]
    # A handler of its own, by the same three.
    assert await samples.post(pod, "/predictions/mlp", {"x": PAIRS[0]}) == (200, mlp[0])
    assert await samples.post(pod, "/v1/models/mlp:predict", {"instances": PAIRS}) == (200, {"predictions": mlp})
    flat = {"name": "x", "shape": [2], "datatype": "FP32", "data": PAIRS[0]}
    status, said = await samples.post(pod, "/v2/models/mlp/infer", {"inputs": [flat]})
    assert (status, said["outputs"][0]["data"]) == (200, [mlp[0]])


async def test_one_batch_holds_requests_of_all_protocols_and_bad_ones_harm_no_other(pod: Life) -> None:
    linear, _ = await asyncio.to_thread(computed_here)
    answers = await asyncio.gather(
        samples.post(pod, "/v1/models/linear:predict", {"instances": ROWS}),
        samples.post(pod, "/v2/models/linear/infer", {"inputs": [tensor(ROWS[:1])]}),
        samples.post(pod, "/predictions/linear", ROWS[1:]),
        samples.post(pod, "/v1/models/linear:predict", {"instances": [[1.0, 2.0]]}),
        samples.post(pod, "/v1/models/linear:predict", {"rows": ROWS}),
        samples.post(pod, "/v2/models/linear/infer", {"inputs": [{**tensor(ROWS), "shape": [3, 3]}]}),
    )
    assert [status for status, _ in answers] == [200, 200, 200, 400, 400, 400]
    assert answers[0][1] == {"predictions": linear}
    assert answers[1][1]["outputs"][0]["data"] == linear[0]
    assert answers[2][1] == linear[1:]
    assert "does not take this" in answers[3][1]["error"]
    assert 'expected {"instances"' in answers[4][1]["error"]
    assert "does not fit shape" in answers[5][1]["error"]
    await pod.operator.drop("linear", "mlp")


async def test_what_is_no_torchscript_is_said(pod: Life) -> None:
    pod.put_files("weights", {"weights.pt": (SAMPLE / "mlp" / "mlp.pt").read_bytes()})
    await pod.operator.want(pod.intent("weights"))
    await pod.failed("weights", "ModelLoadFailed", seconds=120)
    failure = pod.operator.slots["weights"].failure
    assert failure is not None
    assert "weights.pt is no TorchScript: save it with torch.jit.save" in failure.message
    assert await management(pod).versions("weights") == [], "TorchServe would try it for minutes"
    await pod.operator.drop("weights")


async def test_a_replaced_copy_finishes_its_request_and_what_an_agent_left_is_tidied(pod: Life) -> None:
    pod.put_files("long", KIT.slow(1.0, predict_seconds=4.0))
    pod.put_files("long-2", KIT.sample(2.0))
    await pod.operator.want(pod.intent("long"))
    await pod.loaded("long", seconds=120)
    await pod.operator.want(pod.intent("long", "long-2"))
    # One request after another: one is computed by the former copy while another takes its place.
    answer = await pod.ask_model("long")
    while answer.value == 1.0:
        answer = await pod.ask_model("long")
    assert (answer.status, answer.value) == (200, 2.0), answer
    await pod.loaded("long", seconds=60)
    there = management(pod)
    (only,) = await there.versions("long")
    # An agent that ended after its copy had taken the other's place.
    await there.register("long", _another(pod, only.copy))
    assert len(await there.versions("long")) == 2
    await pod.agent.end(9)
    await pod.start_agent()
    await pod.loaded("long", seconds=60)

    async def alone() -> bool:
        return [each.copy for each in await there.versions("long")] == [only.copy]

    await eventually(alone, 60, pod.agent_log)
    assert await pod.answers("long") == 2.0
    await pod.operator.drop("long")


def _another(pod: Life, copy: str) -> str:
    """The folder of another copy in the server's store, made of a loaded one."""
    store = pod.ground.models / "copies"
    made = store / ("e" * 32)
    made.mkdir()
    for file in (store / copy).rglob("*"):
        target = made / file.relative_to(store / copy)
        if file.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.read_text().replace(copy, "e" * 32))
    return made.name


async def test_a_full_queue_refuses_instead_of_growing(pod: Life) -> None:
    pod.put_files("queued", KIT.slow(3.0, predict_seconds=1.0))
    await pod.operator.want(pod.intent("queued", tuning=Tuning(queue_size=3)))
    await pod.loaded("queued", seconds=120)
    answers = await asyncio.gather(*(pod.ask_model("queued") for _ in range(12)))
    well = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status != 200]
    assert 3 <= len(well) <= 5, answers
    assert {answer.status for answer in refused} == {503}
    assert not any(pod.lacks(answer) for answer in refused), "it has the model"
    await pod.operator.drop("queued")


async def test_questions_are_answered_by_the_gateway_and_models_by_the_server(pod: Life) -> None:
    await pod.serve(asked=5.0)
    world = World()
    await world.serve()
    world.gateway.open()
    try:
        ports = pod.ground.ports
        world.gateway.apply(
            [PodEndpointChanged("real", HOST, ports["http"], 0, service=SERVICE, server_type="torchserve")]
        )
        policy, first, sequence = RoutePolicy(server_type="torchserve"), next(world.sequence), next(world.sequence)
        world.gateway.apply(
            [
                ServiceRouteChanged(SERVICE, True, first, frozenset({"real"}), policy),
                RouteChanged(SERVICE, "asked", sequence, frozenset({"real"})),
            ]
        )
        envoy = await world.envoy()
        await world.applied(sequence)
        async with aiohttp.ClientSession(base_url=envoy.base, headers={"Host": "iris.default"}) as session:

            async def get(path: str) -> tuple[int, Any]:
                async with session.get(path) as answer:
                    return answer.status, await answer.json()

            assert await get("/v1/models/asked") == (200, {"name": "asked", "ready": True})
            assert await get("/v2/models/asked/ready") == (200, {"name": "asked", "ready": True})
            status, said = await get("/v2/models/asked")
            assert (status, said["reason"]) == (404, "ModelMetadataUnknown")
            assert await get("/v2/health/ready") == (200, {"ready": True})
            assert await get("/v2/health/live") == (200, {"live": True})
            async with session.post("/v1/models/asked:predict", json={"instances": [[1.0]]}) as answer:
                assert (await answer.json())["predictions"][0]["answer"] == 5.0
    finally:
        await world.close()


async def test_the_server_ends_when_it_is_told_to(pod: Life) -> None:
    began = time.monotonic()
    await pod.server.process.end(seconds=30)
    assert time.monotonic() - began < 20, "well within a pod's grace period"

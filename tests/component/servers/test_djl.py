"""What is DJL Serving's own: the sample as a user copies it, its scaling, its queue, and what it never counts."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from shoal_api.tuning import Tuning

from demo.sample_answers import torch_linear
from tests.component.agent.parts import HOST, eventually
from tests.patience import BUSY

from . import samples
from .conftest import a_life
from .kits.djl import KIT, DjlKit
from .life import Life

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod() -> AsyncIterator[Life]:
    async with a_life(KIT) as made:
        yield made


async def workers(pod: Life, name: str) -> int:
    async with pod.session.get(f"http://{HOST}:{pod.ground.ports['management']}/models/{name}") as response:
        ((model,),) = [workflow["models"] for workflow in await response.json()]
    return sum(worker["status"] == "READY" for group in model["workerGroups"] for worker in group["workers"])


async def test_the_samples_models_answer_by_both_paths(pod: Life) -> None:
    tuned = Tuning(workers_min=1, workers_max=2, batch_size=8, batch_delay=0.005, queue_size=100, threads=1)
    await samples.load(pod, "djl", {"doubler": tuned})
    assert await samples.post(pod, "/predictions/doubler", {"rows": [[1, 2.5]]}) == (200, {"rows": [[2.0, 5.0]]})
    assert await samples.post(pod, "/models/linear/invoke", [[1.0, 2.0, 3.0]]) == (200, {"predictions": [[14.5]]})


class WithPyTorch(DjlKit):
    """libtorch is 110 MB from Maven, once for each machine, and no other test needs it."""

    engine = "pytorch"


async def test_a_pytorch_model_answers_by_libtorch_and_a_broken_one_says_why() -> None:
    rows = [[1.0, 2.0, 3.0], [-1.5, 0.25, 0.0]]
    async with a_life(WithPyTorch()) as own:
        own.put_files("script", samples.files(samples.SAMPLES / "torchserve" / "linear"))
        own.put_files("broken", {"model.pt": b"no TorchScript"})
        await own.operator.want(
            samples.intent("script", "pytorch", "script", Tuning(workers_max=1, batch_delay=0.01)),
            samples.intent("broken", "pytorch", "broken"),
        )
        await own.loaded("script", seconds=120)
        assert await samples.post(own, "/predictions/script", rows) == (200, {"predictions": torch_linear(rows)})
        await own.failed("broken", "ModelLoadFailed")
        assert await samples.post(own, "/predictions/script", rows[:1]) == (
            200,
            {"predictions": torch_linear(rows[:1])},
        )


async def test_a_request_that_failed_does_not_delay_an_unload_for_longer_than_one_that_runs(pod: Life) -> None:
    """The server counts that it began, and never that it ended: for an engine without a limit of its own the two look
    alike for minutes."""
    pod.put_files("refusing", samples.files(samples.SAMPLES / "djl" / "linear"))
    await pod.operator.want(samples.intent("refusing", "onnx", "refusing"))
    await pod.loaded("refusing", seconds=90)
    assert (await samples.post(pod, "/predictions/refusing", [[1.0]]))[0] == 400
    pod.operator.use_seconds = 0.5
    await eventually(lambda: (use := pod.operator.use.get("refusing")) is not None and use.requests == 1, 30, "counted")
    began = time.monotonic()
    await pod.operator.drop("refusing")
    await eventually(lambda: "refusing" not in pod.operator.slots, 60, pod.story)
    assert time.monotonic() - began < 30 + BUSY, "the agent waits 30 s for what runs"


async def test_it_adds_workers_by_its_queue_and_refuses_what_does_not_fit(pod: Life) -> None:
    pod.put_files("scaled", KIT.slow(3.0, predict_seconds=1.5))
    await pod.operator.want(pod.intent("scaled", tuning=Tuning(workers_min=1, workers_max=2, queue_size=6)))
    await pod.loaded("scaled", seconds=90)
    assert await workers(pod, "scaled") == 1
    asked = [asyncio.create_task(pod.ask_model("scaled")) for _ in range(12)]
    await eventually(lambda: _reaches(pod, "scaled", 2), 30, "more workers")
    answers = await asyncio.gather(*asked)
    refused = [answer for answer in answers if answer.status == 503]
    assert refused
    assert all(json.loads(answer.body)["type"] == "WlmCapacityException" for answer in refused)
    assert all(answer.value == 3.0 for answer in answers if answer.status == 200)
    assert len(refused) < len(answers)
    assert not any(pod.lacks(answer) for answer in refused), "a full queue is no reason to look elsewhere"


async def test_a_model_whose_worker_ends_is_not_there_for_the_gateway(pod: Life) -> None:
    pod.put_files("mortal", KIT.slow(5.0, predict_seconds=0.1) or {})
    code = KIT.sample(5.0)["model.py"].replace(b"    pass\n", b"    os._exit(3)\n")
    pod.put_files("mortal", {"model.py": code})
    await pod.operator.want(pod.intent("mortal"))
    await pod.loaded("mortal", seconds=90)
    assert (await pod.ask_model("mortal")).status == 503
    assert pod.lacks(await pod.ask_model("mortal"))


async def _reaches(pod: Life, name: str, count: int) -> bool:
    return await workers(pod, name) >= count

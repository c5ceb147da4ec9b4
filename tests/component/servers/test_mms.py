"""What is multi-model-server's own: the sample as a user copies it, its queue, and itself as a container of SageMaker's
contract."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from shoal_agent.model_server import LoadedModel, ModelCopy, Place, ServerError
from shoal_agent.servers.sagemaker import connect
from shoal_api.tuning import Tuning

from tests.component.agent.parts import HOST, eventually

from . import samples
from .conftest import a_life
from .kits import KitServer, ProcessGroup
from .kits.mms import KIT, low_port, python
from .life import Life

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod() -> AsyncIterator[Life]:
    async with a_life(KIT) as made:
        yield made


async def test_the_samples_models_answer_an_archive_and_a_script(pod: Life) -> None:
    await samples.load(pod, "mms", {"doubler": Tuning(workers_max=2, batch_size=8, batch_delay=0.005)})
    assert await samples.post(pod, "/predictions/doubler", {"rows": [[1, 2.5]]}) == (200, {"rows": [[2.0, 5.0]]})
    assert await samples.post(pod, "/models/weighted/invoke", [1, 2, 3]) == (200, {"sum": 14.5})


async def test_what_waits_in_the_servers_queue_is_answered_before_an_unload(pod: Life) -> None:
    """The server shows none of it."""
    pod.put_files("queued", KIT.slow(6.0, predict_seconds=0.7))
    await pod.operator.want(pod.intent("queued", tuning=Tuning(batch_size=2, batch_delay=0.3)))
    await pod.loaded("queued", seconds=90)
    asked = [asyncio.create_task(pod.ask_model("queued")) for _ in range(7)]
    await asyncio.sleep(0.4)
    await pod.operator.drop("queued")
    answers = await asyncio.gather(*asked)
    assert [(answer.status, answer.value) for answer in answers] == [(200, 6.0)] * 7
    await eventually(lambda: "queued" not in pod.operator.slots, 60, pod.story)


class TwoWorkers(KitServer):
    """As an InferenceService with ``shoal.dev/server-config: default_workers_per_model=2`` has it."""

    def __init__(self, *place: Path) -> None:
        super().__init__(KIT, *place)
        self.files = self.ground.parts(settings={"default_workers_per_model": 2}).files


async def test_a_model_without_workers_of_its_own_has_as_many_as_the_service_says(tmp_path: Path) -> None:
    pod = Life(tmp_path, KIT, TwoWorkers)
    try:
        await pod.start()
        pod.put_files("shared", KIT.sample(4.0))
        await pod.operator.want(
            pod.intent("plain", "shared"), pod.intent("own", "shared", tuning=Tuning(workers_max=1))
        )
        await pod.loaded("plain", "own", seconds=90)
        assert [await workers(pod, name) for name in ("plain", "own")] == [2, 1]
        await pod.operator.want(pod.intent("own", "shared"))  # its own word is gone
        await pod.loaded("own", seconds=90)
        assert await workers(pod, "own") == 2
        assert await pod.answers("own") == 4.0
    finally:
        await pod.stop()


async def workers(pod: Life, name: str) -> int:
    async with pod.session.get(f"http://{HOST}:{pod.ground.ports['management']}/models/{name}") as response:
        return len((await response.json())["workers"])


async def test_itself_follows_sagemakers_contract_on_one_port(tmp_path: Path) -> None:
    port = low_port()
    (tmp_path / "sagemaker.properties").write_text(
        f"inference_address=http://{HOST}:{port}\nmanagement_address=http://{HOST}:{port}\n"
        "model_store=/\nload_models=none\ndefault_workers_per_model=1\n"
    )
    words = ["env", "-C", str(tmp_path), str(python()), "-m", "mms.model_server", "--foreground"]
    process = ProcessGroup(
        [*words, "--mms-config", "sagemaker.properties"],
        {"TEMP": str(tmp_path), "TMPDIR": str(tmp_path)},
        tmp_path / "server.log",
    )
    adapter = connect(Place(HOST, {"http": port}, tmp_path, tmp_path, 60.0))
    copy = ModelCopy("m", "1" * 32, tmp_path / "copies" / ("1" * 32), "custom")
    for path, content in KIT.sample(8.0).items():
        (copy.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (copy.folder / path).write_bytes(content)
    process.start()
    try:
        await eventually(adapter.alive, 60, process.log.read_text)
        for _ in range(2):  # the second finds it there, and loads it anew
            await adapter.load(copy)
            assert await adapter.find("m") == LoadedModel("m", copy.identity, ready=True)
        assert (await adapter.state()).models == (LoadedModel("m", copy.identity, ready=True),)
        async with aiohttp.ClientSession() as session:
            url = f"http://{HOST}:{port}/models/m/invoke"
            async with session.post(url, json={"x": 1.0}) as response:
                assert (response.status, json.loads(await response.text())["answer"]) == (200, 8.0)
        with pytest.raises(ServerError, match="Model not found in model store"):
            await adapter.load(ModelCopy("n", "2" * 32, tmp_path / "copies" / ("2" * 32), "custom"))
        await adapter.unload("m")
        await adapter.unload("m")
        assert (await adapter.state()).models == ()
    finally:
        await adapter.close()
        await process.end(9)

"""Models that come and go, with a real agent, S3 and MLServer: looked up, pulled ahead, loaded, evicted, back again."""

import asyncio

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from shoal_api.messages import Action, CopyPhase

from .artifacts import ROW, SLOW, SLOW_SECONDS, SLOW_SETTINGS, SLOW_TO_LOAD, model
from .parts import ACCESS_KEY, HOST, SECRET_KEY, Pod, eventually, intent

pytestmark = pytest.mark.asyncio(loop_scope="module")
STAT, PULL, LOAD = Action.STAT, Action.PULL, Action.LOAD


async def test_an_artifact_is_looked_up_and_nothing_else_is_done(shared_pod: Pod) -> None:
    pod = shared_pod
    content = model(1.0)
    pod.storage.put("seen/model.joblib", content)
    await pod.operator.want(
        intent("seen", action=STAT),
        intent("missing", action=STAT),
        intent("nowhere", bucket="no-such-bucket", action=STAT),
    )
    assert (await pod.reaches("seen", CopyPhase.SEEN)).artifact_bytes == len(content)
    missing = await pod.failed("missing", "ArtifactNotFound")
    assert missing.failure is not None
    assert missing.failure.stage == "Storage"
    await pod.failed("nowhere", "BucketNotFound")
    assert not pod.events("model pulled")
    assert not list((pod.models / "copies").iterdir())
    # Uploaded, and asked for, between two tries.
    pod.storage.put("missing/model.joblib", model(2.0))
    await pod.operator.want(intent("missing"))
    await pod.loaded("missing", seconds=5)
    assert await pod.predict("missing", ROW) == (200, [2.0])


async def test_a_look_that_is_denied_heals_with_the_secret(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("secret/model.joblib", model(1.0))
    await pod.rotate(ACCESS_KEY, "wrong")
    await pod.operator.want(intent("secret", action=STAT))
    await pod.failed("secret", "StorageCredentialsInvalid")
    await pod.rotate(ACCESS_KEY, SECRET_KEY)
    assert (await pod.reaches("secret", CopyPhase.SEEN)).failure is None


async def test_pulled_ahead_and_loaded_later_without_the_storage(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("ahead/model.joblib", model(3.0))
    await pod.operator.want(intent("ahead", action=PULL))
    assert (await pod.reaches("ahead", CopyPhase.PULLED)).artifact_bytes
    assert (await pod.predict("ahead", ROW))[0] == 404
    pod.storage.delete("ahead/model.joblib")
    await pod.operator.want(intent("ahead"))
    await pod.loaded("ahead", seconds=5)
    assert await pod.predict("ahead", ROW) == (200, [3.0])
    await pod.operator.want(intent("ahead", action=PULL))
    await pod.reaches("ahead", CopyPhase.LOADED)
    assert await pod.predict("ahead", ROW) == (200, [3.0]), "less than a load unloads nothing"


async def test_evicted_and_back_without_a_download(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("again/model.joblib", model(4.0))
    await pod.operator.want(intent("again"))
    await pod.loaded("again")
    await pod.operator.drop("again")
    await eventually(lambda: "again" not in pod.operator.slots, 10, pod.story)
    assert (await pod.predict("again", ROW))[0] == 404
    await pod.operator.want(intent("again"))
    await pod.loaded("again")
    fetched = [event["fetched"] for event in pod.events("model pulled") if event["model"] == "again"]
    assert len(fetched) == 2
    assert fetched[0] > 0
    assert fetched[1] == 0
    assert await pod.predict("again", ROW) == (200, [4.0])
    await pod.operator.drop("again")
    pod.storage.put("again/model.joblib", model(5.0))
    await eventually(lambda: "again" not in pod.operator.slots, 10, pod.story)
    await pod.operator.want(intent("again"))
    await pod.loaded("again")
    assert await pod.predict("again", ROW) == (200, [5.0]), "what was kept is compared with the storage"


async def test_use_and_memory_are_told(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("used/model.joblib", model(6.0))
    pod.storage.put("unused/model.joblib", model(7.0))
    pod.operator.use_seconds = 0.2
    await pod.operator.want(intent("used"), intent("unused"))
    await pod.loaded("used", "unused")
    await pod.predict("used", ROW)
    await pod.ask("POST", f"{pod.url}/v1/models/used:predict", {"instances": ROW})
    tensor = triton.InferInput("x", [1, 4], "FP64")
    tensor.set_data_from_numpy(np.array(ROW))
    async with triton.InferenceServerClient(f"{HOST}:{pod.server.grpc}") as client:
        await client.infer("used", [tensor])
    await eventually(lambda: "used" in pod.operator.use and pod.operator.use["used"].requests == 3, 5, pod.story)
    use = pod.operator.use["used"]
    assert use.in_flight == 0
    assert 0 < use.busy_seconds < 5
    assert 0 <= use.idle_seconds < 5
    assert "unused" not in pod.operator.use
    # Unloaded and loaded again, it starts at zero.
    await pod.operator.drop("used")
    await eventually(lambda: "used" not in pod.operator.slots, 10, pod.story)
    await pod.operator.want(intent("used"))
    await pod.loaded("used")
    await pod.predict("used", ROW)
    await eventually(lambda: pod.operator.use["used"].requests == 1, 5, pod.story)
    server = pod.operator.last.server
    assert server.memory_bytes is not None
    assert server.base_memory_bytes is not None
    # Equal where loading the last one grew nothing: memory of models unloaded before was used again.
    assert 50e6 < server.base_memory_bytes <= server.memory_bytes < 2e9


async def test_an_unload_waits_for_a_request_in_flight_and_an_idle_models_does_not(shared_pod: Pod) -> None:
    pod = shared_pod
    pod.storage.put("slow/slow.py", SLOW)
    pod.storage.put("slow/model-settings.json", SLOW_SETTINGS)
    pod.storage.put("idle/model.joblib", model(1.0))
    await pod.operator.want(intent("slow"), intent("idle"))
    await pod.loaded("slow", "idle")
    body: dict[str, list[object]] = {"inputs": []}
    asking = asyncio.create_task(pod.ask("POST", f"{pod.url}/v2/models/slow/infer", body))
    await asyncio.sleep(0.3)
    started = asyncio.get_running_loop().time()
    await pod.operator.drop("slow", "idle")
    await eventually(lambda: "idle" not in pod.operator.slots, 1, pod.story)
    assert "slow" in pod.operator.slots
    assert (await pod.ask("GET", f"{pod.url}/v2/models/slow/ready"))[0] == 200
    assert (await asking)[0] == 200
    await eventually(lambda: "slow" not in pod.operator.slots, 1, pod.story)
    assert asyncio.get_running_loop().time() - started < SLOW_SECONDS + 1


async def test_a_model_that_is_asked_for_overtakes_those_that_wait_already(shared_pod: Pod) -> None:
    """Forty are queued in the agent when a request comes for the one in their middle, which would be their last."""
    pod = shared_pod
    names = [f"queued-{number}" for number in range(40)]
    for name in names:
        pod.storage.put(f"{name}/slow.py", SLOW_TO_LOAD)
        pod.storage.put(f"{name}/model-settings.json", SLOW_SETTINGS)

    def loaded() -> list[str]:
        return [event["model"] for event in pod.events("model loaded") if event["model"] in names]

    await pod.operator.want(*map(intent, names))
    await eventually(lambda: len(loaded()) >= 2, 30, pod.story)
    before = len(loaded())
    await pod.operator.want(intent("queued-20", urgent=True))
    await pod.loaded("queued-20")
    at = loaded().index("queued-20")
    # Those that were loading then end first; a few more may, until the news has come.
    assert at - before <= 12, f"{at - before} others came first: {loaded()}"
    await pod.loaded(*names)
    await pod.operator.drop(*names)
    await eventually(lambda: not any(name in pod.operator.slots for name in names), 30, pod.story)

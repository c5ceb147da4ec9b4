"""What a pod goes through: processes that end, many models at once, a model that kills its server, other operators."""

import asyncio
import time

import pytest

from .artifacts import CRASH, CRASH_SETTINGS, ROW, model
from .parts import HOST, Pod, eventually, intent


async def _load(pod: Pod, count: int) -> list[str]:
    names = [f"m{number}" for number in range(count)]
    for number, name in enumerate(names):
        pod.storage.put(f"{name}/model.joblib", model(float(number)))
    await pod.operator.want(*(intent(name) for name in names))
    await pod.loaded(*names)
    return names


async def test_a_killed_server_gets_all_its_models_back_without_a_download(pod: Pod) -> None:
    names = await _load(pod, 40)
    pod.storage.put("new/model.joblib", model(99.0))
    await pod.storage.process.end()  # what is restored needs no storage
    boot = pod.operator.last.server.boot
    told = len(pod.operator.requests)
    await pod.server.kill()
    killed = time.monotonic()
    await eventually(lambda: not pod.server_up, 1.0, "the operator was not told within 1 s")
    assert all(report.serving is None for report in pod.operator.slots.values())
    pod.server.start()
    await eventually(lambda: pod.server_up, 60, pod.agent_log)
    back = time.monotonic()
    await pod.loaded(*names)
    print(f"told after {told}; server back {back - killed:.1f} s, 40 models {time.monotonic() - back:.2f} s later")
    assert pod.operator.last.server.boot != boot
    assert len(pod.events("model pulled")) == len(names)
    assert await pod.predict("m7", ROW) == (200, [7.0])


async def test_a_restarted_agent_pulls_nothing_and_loads_nothing(pod: Pod) -> None:
    names = await _load(pod, 30)
    pod.storage.put("bad/model.joblib", b"broken")
    await pod.operator.want(intent("m3", "bad"))
    await pod.failed("m3", "ModelLoadFailed")
    session = pod.operator.last.session
    await pod.agent.end(9)
    pod.agent.log.unlink()
    await pod.operator.want(intent("m4", "m4", uid="uid-1"))
    await pod.start_agent()
    await eventually(lambda: pod.operator.last.session != session, 10, pod.agent_log)
    await pod.loaded(*(name for name in names if name != "m3"))
    report = await pod.failed("m3", "ModelLoadFailed")
    assert report.serving == intent("m3").copy_id
    assert not [line for line in pod.events("model pulled") if line["fetched"]]
    assert not pod.events("model loaded")
    assert await pod.predict("m3", ROW) == (200, [3.0])


async def test_agent_and_server_come_back_alone_without_operator_and_storage(pod: Pod) -> None:
    await _load(pod, 10)
    await pod.operator.stop()
    await pod.storage.process.end()
    await pod.agent.end(9)
    await pod.server.kill()
    await pod.start_agent()
    pod.server.start()

    async def answers() -> bool:
        try:
            return [await pod.predict(f"m{number}", ROW) for number in range(10)] == [
                (200, [float(number)]) for number in range(10)
            ]
        except OSError:
            return False

    await eventually(answers, 60, pod.agent_log)


async def test_five_hundred_at_once(pod: Pod) -> None:
    started = time.monotonic()
    names = await _load(pod, 500)
    print(f"500 models uploaded, pulled and loaded in {time.monotonic() - started:.1f} s")
    before = pod.operator.last
    await pod.agent.end(9)
    await pod.server.kill()
    await pod.start_agent()
    pod.server.start()
    await eventually(lambda: pod.server_up and pod.operator.last.session != before.session, 60, pod.agent_log)
    assert pod.operator.last.server.boot != before.server.boot
    started = time.monotonic()
    await pod.loaded(*names)
    print(f"500 models restored in {time.monotonic() - started:.1f} s")
    assert await pod.predict("m499", ROW) == (200, [499.0])


@pytest.mark.timeout(240)
async def test_a_model_that_ends_the_server_does_not_take_the_others_down_for_ever(pod: Pod) -> None:
    names = await _load(pod, 5)
    pod.storage.put("killer/crash.py", CRASH)
    pod.storage.put("killer/model-settings.json", CRASH_SETTINGS)
    ends = 0

    async def restart_when_ended() -> None:
        # As the kubelet does.
        nonlocal ends
        while True:
            if not pod.server.process.running:
                ends += 1
                pod.server.start()
            await asyncio.sleep(0.2)

    kubelet = asyncio.create_task(restart_when_ended())
    try:
        await pod.operator.want(intent("killer"))
        await pod.operator.want(*(intent(f"late{number}", f"m{number}", uid="late") for number in range(5)))

        def given_up() -> bool:
            report = pod.operator.slots.get("killer")
            return report is not None and report.failure is not None and report.failure.retry_at is None

        await eventually(given_up, 120, pod.story)
        failure = pod.operator.slots["killer"].failure
        assert failure is not None
        assert failure.reason == "ModelServerCrashed"
        assert "not loaded again until its artifact" in failure.message
        await pod.loaded(*names, *(f"late{number}" for number in range(5)))
        counted = ends
        assert counted <= 4
        await asyncio.sleep(6)  # three times the longest back-off
        assert ends == counted
        pod.storage.delete("killer/crash.py")
        pod.storage.delete("killer/model-settings.json")
        pod.storage.put("killer/model.joblib", model(5.0))
        await pod.loaded("killer")
        assert ends == counted
    finally:
        kubelet.cancel()


async def test_draining_is_told_and_answers_when_the_operator_says_so(pod: Pod) -> None:
    drain = f"http://{HOST}:{pod.agent_port}/drain"
    waiting = asyncio.create_task(pod.ask("GET", drain))
    await eventually(lambda: pod.operator.draining, 2, "the operator was not told")
    assert not waiting.done()
    pod.operator.drained = True
    await pod.operator.wake()
    assert (await waiting)[0] == 200
    # A drain that nobody answers ends by itself, and a new server process is not draining.
    pod.operator.drained = False
    assert (await pod.ask("POST", drain))[0] in (200, 504)
    await pod.server.kill()
    pod.server.start()
    await eventually(lambda: pod.server_up and not pod.operator.draining, 60, pod.agent_log)


async def test_an_older_operator_is_refused_and_a_new_one_starts_from_the_reports(pod: Pod) -> None:
    names = await _load(pod, 3)
    # A new operator that recovers: it says "keep what you have".
    pod.operator.epoch, pod.operator.silent = 7, True
    kept = dict(pod.operator.desired)
    pod.operator.desired = {}
    pod.operator.version = pod.operator.forget_before = 1000
    await pod.operator.wake()
    await eventually(lambda: pod.operator.last.epoch == 7, 10, pod.agent_log)
    await asyncio.sleep(0.5)
    assert await pod.predict("m2", ROW) == (200, [2.0])
    assert set(pod.operator.slots) == set(names)
    # The deposed one still has an empty list to give.
    pod.operator.epoch, pod.operator.silent, pod.operator.version = 3, False, 2000
    pod.operator.forget_before = 2000
    await pod.operator.wake()
    await asyncio.sleep(2)
    assert pod.operator.last.epoch == 7
    assert await pod.predict("m2", ROW) == (200, [2.0])
    # The new one takes up what is there, and nothing is loaded again.
    pod.operator.epoch, pod.operator.desired = 7, kept
    await pod.operator.want(intent("m1", "m2", uid="changed"))
    await pod.loaded(*names)
    assert len(pod.events("model loaded")) == 4
    await pod.agent.end()
    await pod.start_agent()
    await eventually(lambda: pod.operator.last.epoch == 7, 10, "the epoch was forgotten")

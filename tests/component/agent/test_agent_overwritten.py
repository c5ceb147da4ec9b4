"""An artifact overwritten in place, with a real agent, S3 and MLServer: seen by a look, followed without a gap."""

import asyncio
from contextlib import suppress

import pytest
from shoal_api.messages import CopyIntent, SlotReport

from .artifacts import ROW, model
from .parts import Pod, eventually, intent

pytestmark = pytest.mark.asyncio(loop_scope="module")


def again(pod: Pod, name: str, **changes: object) -> CopyIntent:
    return pod.operator.desired[name].model_copy(update=changes)


async def served(pod: Pod, name: str, answer: float) -> SlotReport:
    """A model that is loaded; what its agent says of it."""
    pod.storage.put(f"{name}/model.joblib", model(answer))
    await pod.operator.want(intent(name))
    await pod.loaded(name)
    return pod.operator.slots[name]


async def test_a_look_tells_that_it_was_overwritten_and_the_new_content_takes_its_place_under_load(
    shared_pod: Pod,
) -> None:
    pod = shared_pod
    before = await served(pod, "over", 1.0)
    await pod.operator.want(again(pod, "over", check=1))
    await eventually(lambda: pod.operator.slots["over"].checked == 1, 30, pod.story)
    assert pod.operator.slots["over"].listed_revision == before.revision
    pod.storage.put("over/model.joblib", model(2.0))
    await pod.operator.want(again(pod, "over", check=2))
    await eventually(lambda: pod.operator.slots["over"].checked == 2, 30, pod.story)
    seen = pod.operator.slots["over"]
    assert seen.revision == before.revision
    assert seen.listed_revision not in (None, before.revision)
    assert await pod.predict("over", ROW) == (200, [1.0])

    answers: list[tuple[int, object]] = []

    async def ask() -> None:
        while True:
            answers.append(await pod.predict("over", ROW))

    asking = asyncio.create_task(ask())
    await pod.operator.want(again(pod, "over", copy_id="uid-1.another", check=0))
    await pod.loaded("over")
    await asyncio.sleep(0.3)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    assert {status for status, _ in answers} == {200}
    values = [answer for _, answer in answers]
    assert values == [[1.0]] * values.count([1.0]) + [[2.0]] * values.count([2.0])
    assert values[-1] == [2.0]
    assert pod.operator.slots["over"].revision == seen.listed_revision


async def test_one_that_is_broken_leaves_what_serves_and_what_worked_comes_back_from_the_disk(shared_pod: Pod) -> None:
    pod = shared_pod
    before = await served(pod, "breaks", 3.0)
    pod.storage.put("breaks/model.joblib", b"no pickle")
    await pod.operator.want(again(pod, "breaks", copy_id="uid-1.broken"))
    await pod.failed("breaks", "ModelLoadFailed")
    assert pod.operator.slots["breaks"].revision == before.revision
    assert await pod.predict("breaks", ROW) == (200, [3.0])
    # Unloaded meanwhile, it is loaded again as it was: its storage has it no more.
    wanted = again(pod, "breaks", copy_id=before.serving, revision=before.revision)
    await pod.operator.drop("breaks")
    await eventually(lambda: "breaks" not in pod.operator.slots, 30, pod.story)
    await pod.operator.want(wanted)
    await pod.loaded("breaks")
    assert await pod.predict("breaks", ROW) == (200, [3.0])
    assert pod.operator.slots["breaks"].revision == before.revision
    pod.storage.put("breaks/model.joblib", model(4.0))
    await pod.operator.want(again(pod, "breaks", copy_id="uid-1.mended", revision=None))
    await pod.loaded("breaks")
    assert await pod.predict("breaks", ROW) == (200, [4.0])


async def test_the_same_objects_under_two_uris_are_fetched_and_stored_once(shared_pod: Pod) -> None:
    pod = shared_pod
    content = model(5.0)
    for key in ("twins/one", "twins/other"):
        pod.storage.put(f"{key}/model.joblib", content)
    held = len(list((pod.models / "cache").iterdir()))
    await pod.operator.want(intent("one", "twins/one"))
    await pod.loaded("one")
    await pod.operator.want(intent("other", "twins/other"))
    await pod.loaded("other")
    assert len(list((pod.models / "cache").iterdir())) == held + 1
    assert pod.operator.slots["one"].revision == pod.operator.slots["other"].revision
    files = [pod.models / "slots" / name / "model.joblib" for name in ("one", "other")]
    assert files[0].stat().st_ino == files[1].stat().st_ino
    await pod.operator.drop("one")
    await eventually(lambda: "one" not in pod.operator.slots, 30, pod.story)
    assert await pod.predict("other", ROW) == (200, [5.0])

"""An artifact is overwritten in place under load: all copies follow, and what is broken takes nothing away."""

import time

from demo import kubernetes
from e2e import load
from e2e.cold import explained, pods_of
from e2e.load import Question
from e2e.space import FACT_SECONDS, READY_SECONDS, ROW, Space

RATE = 30.0
CHECK_SECONDS = 10.0


def revisions(space: Space, model: str) -> list[str | None]:
    """Of each copy that answers, by /explain."""
    return [copy["revision"] for copy in explained(space, model)["copies"] if copy["serving"]]


def status_revision(space: Space, model: str) -> str | None:
    content: dict[str, str] = space.trained_model(model)["status"].get("content", {})
    return content.get("revision")


def test_two_pods_follow_an_artifact_that_was_overwritten_and_lose_no_request(own: Space) -> None:
    own.service(pods=2, annotations={"shoal.dev/artifact-check": "10s"})
    uri = own.put("changing", 1.0)
    own.model("changing", uri, minCopies=2)
    own.wait_ready("changing")
    own.wait(lambda: len(pods_of(own, "changing")) == 2, "two copies", READY_SECONDS, "changing")
    (before,) = set(revisions(own, "changing"))
    assert before
    own.wait(lambda: status_revision(own, "changing") == before, "the status says it", FACT_SECONDS, "changing")
    with load.running(own.target(), [Question("changing", ROW, (1.0, 2.0))], RATE) as running:
        time.sleep(2)
        assert own.put("changing", 2.0) == uri
        own.wait(
            lambda: len(found := set(revisions(own, "changing"))) == 1 and found != {before},
            "both copies serve the new content",
            CHECK_SECONDS + READY_SECONDS,
            "changing",
        )
        time.sleep(3)
    running.result.check(at_least=100)
    assert [own.answer("changing") for _ in range(30)] == [2.0] * 30
    own.wait(lambda: status_revision(own, "changing") not in (None, before), "the status", FACT_SECONDS, "changing")

    # What no server loads is said, and is no outage; what mends it is followed.
    with load.running(own.target(), [Question("changing", ROW, (2.0,))], RATE) as running:
        own.put_bytes("changing", b"no model at all")
        own.wait_condition("changing", "Ready", "True", "UpdateFailed", seconds=CHECK_SECONDS + READY_SECONDS)
        time.sleep(5)
    running.result.check(at_least=50)
    own.put("changing", 3.0)
    own.wait(lambda: own.answer("changing") == 3.0, "the mended one", CHECK_SECONDS + READY_SECONDS, "changing")
    own.wait_condition("changing", "Ready", "True", "Loaded", seconds=CHECK_SECONDS + READY_SECONDS)


def test_without_looks_a_pod_that_is_made_anew_brings_the_new_content_to_the_others(own: Space) -> None:
    own.service(pods=2)
    own.model("found", own.put("found", 1.0), minCopies=2)
    own.wait_ready("found")
    own.wait(lambda: len(pods_of(own, "found")) == 2, "two copies", READY_SECONDS, "found")
    own.put("found", 2.0)
    time.sleep(3)
    assert {own.answer("found") for _ in range(10)} == {1.0}, "nobody looks"
    (pod, *_) = sorted(pods_of(own, "found"))
    with load.running(own.target(), [Question("found", ROW, (1.0, 2.0))], RATE) as running:
        kubernetes.kubectl("delete", "pod", pod, "-n", own.name, "--wait=false")
        own.wait(
            lambda: len(pods_of(own, "found")) == 2 and pod not in pods_of(own, "found"), "two", READY_SECONDS, "found"
        )
        own.wait(lambda: len(set(revisions(own, "found"))) == 1, "they agree", READY_SECONDS, "found")
        time.sleep(3)
    running.result.check(at_least=50)
    assert [own.answer("found") for _ in range(30)] == [2.0] * 30

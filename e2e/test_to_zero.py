"""minReplicas 0: pods go when nobody asks, and the next request has one started, waits for it and is answered."""

import time
from typing import Any

import pytest

from demo import predictions
from demo.readiness import condition
from e2e.cold import ready_pods, small
from e2e.load import running
from e2e.space import ROW, Space
from e2e.test_own_model import isvc, wait_service

SHORT = {"shoal.dev/scale-to-zero-after": "15s", "shoal.dev/wake-timeout": "4m"}
GONE_SECONDS = 180.0
"""Unused, emptied, and the pods' end."""
ANSWERS = {f"idle-{index}": 40.0 + index for index in range(3)}


def woken(space: Space, model: str, service: str) -> float:
    """What the model answers to a request that is held for as long as a pod may take."""
    with predictions.http_client(space.target(service), 250.0) as client:
        response = client.post(predictions.v2_path(model), json=predictions.v2_body(ROW))
    assert response.status_code == 200, response.text
    return predictions.v2_answer(response.json())


def wait_for_nothing(space: Space, service: str) -> dict[str, Any]:
    """Until the InferenceService has no pod and says so; the condition."""
    space.wait(lambda: not space.pods(service), f"{service}'s pods are gone", GONE_SECONDS)

    def said() -> dict[str, Any] | None:
        found = condition(space.inference_service(service), "Ready")
        return found if found.get("reason") == "ScaledToZero" else None

    return space.wait(said, f"{service} says that it has no pod")


@pytest.mark.timeout(900)
def test_trained_models_without_a_pod(own: Space) -> None:
    """From nothing, since nobody has looked them up; used, unused, and back by a request."""
    own.service("quiet", 0, SHORT, **small())
    own.models({name: own.put(name, answer) for name, answer in ANSWERS.items()}, "quiet")
    own.wait_ready(*ANSWERS)
    assert {name: woken(own, name, "quiet") for name in ANSWERS} == ANSWERS
    with running(own.target("quiet"), own.questions(ANSWERS), 1.0) as trickle:
        # Answers come before the kubelet has said that the pod is ready.
        pods = own.wait(lambda: ready_pods(own, "quiet"), "its pod is ready")
        time.sleep(40)
        there = {pod["metadata"]["uid"] for pod in ready_pods(own, "quiet")}
        assert there == {pod["metadata"]["uid"] for pod in pods}, "used, and gone"
    trickle.result.check(at_least=20)
    assert wait_for_nothing(own, "quiet")["status"] == "True"
    assert {own.condition(name)["reason"] for name in ANSWERS} == {"OnDemand"}
    assert {name: woken(own, name, "quiet") for name in ANSWERS} == ANSWERS
    own.wait(lambda: len(ready_pods(own, "quiet")) == 1, "one pod")
    wait_for_nothing(own, "quiet")
    own.model("late", own.put("late", 50.0), "quiet")
    own.wait_ready("late")
    assert woken(own, "late", "quiet") == 50.0


@pytest.mark.timeout(900)
def test_a_model_of_its_own_without_a_pod(own: Space) -> None:
    manifest = isvc("alone", own.put("alone", 7.0), pods=0)
    manifest["metadata"]["annotations"] = SHORT
    own.apply(manifest)
    wait_service(own, "alone", "Ready", "True")
    assert woken(own, "alone", "alone") == 7.0
    assert wait_for_nothing(own, "alone")["status"] == "True"
    assert own.inference_service("alone")["status"]["modelStatus"]["states"]["activeModelState"] == "Standby"
    assert woken(own, "alone", "alone") == 7.0

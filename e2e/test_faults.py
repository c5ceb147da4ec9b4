"""Processes and pods go; the models come back, and nobody is answered by the wrong one."""

import time
from typing import Any

import pytest
from shoal_api.names import AGENT_CONTAINER, SERVER_CONTAINER

from demo import kubernetes
from e2e import load
from e2e.kill import container_status, kill
from e2e.space import READY_SECONDS, Space

ANSWERS = {f"steady-{index}": 1000.0 + index for index in range(8)}
RATE = 50.0


@pytest.fixture(scope="module")
def two_pods(shared: Space) -> Space:
    """The module's InferenceService with two pods that share eight models."""
    shared.service(pods=2)
    shared.models({name: shared.put(name, answer) for name, answer in ANSWERS.items()})
    shared.wait_ready(*ANSWERS)
    shared.wait(lambda: len(_ready_pods(shared)) == 2, "two ready pods", READY_SECONDS)
    return shared


def test_server_container_killed_its_models_come_back(two_pods: Space) -> None:
    pod = _ready_pods(two_pods)[0]
    before = container_status(pod, SERVER_CONTAINER)["restartCount"]
    questions = two_pods.questions(ANSWERS)
    with load.running(two_pods.target(), questions, RATE) as running:
        time.sleep(2)
        kill(pod, SERVER_CONTAINER)
        two_pods.wait(lambda: _restarts(two_pods, pod, SERVER_CONTAINER) > before, "a restart", READY_SECONDS)
        two_pods.wait(lambda: _all_answer(two_pods), "all models answer again", READY_SECONDS)
    wrong = [outcome for outcome in running.result.failures if "wrong model" in str(outcome.failure)]
    assert not wrong, running.result.describe()
    two_pods.wait_ready(*ANSWERS)


def test_agent_killed_no_request_is_lost(two_pods: Space) -> None:
    pod = _ready_pods(two_pods)[0]
    before = container_status(pod, AGENT_CONTAINER)["restartCount"]
    with load.running(two_pods.target(), two_pods.questions(ANSWERS), RATE) as running:
        time.sleep(2)
        kill(pod, AGENT_CONTAINER)
        two_pods.wait(lambda: _restarts(two_pods, pod, AGENT_CONTAINER) > before, "a restart", READY_SECONDS)
        time.sleep(10)
    running.result.check(at_least=500)
    late = "after-the-agent"
    two_pods.model(late, two_pods.put(late, 1.5))
    two_pods.wait_ready(late, *ANSWERS)
    assert two_pods.answer(late) == 1.5


def test_pod_deleted_its_models_move_first(two_pods: Space) -> None:
    pod = _ready_pods(two_pods)[0]["metadata"]["name"]
    with load.running(two_pods.target(), two_pods.questions(ANSWERS), RATE) as running:
        time.sleep(2)
        kubernetes.kubectl("delete", "pod", pod, "-n", two_pods.name, "--wait=false")
        two_pods.wait(
            lambda: len(found := _ready_pods(two_pods)) == 2 and all(p["metadata"]["name"] != pod for p in found),
            "two ready pods, another one among them",
            READY_SECONDS,
        )
        two_pods.wait(lambda: _all_answer(two_pods), "all models answer", READY_SECONDS)
    running.result.check(at_least=100)


def test_pod_killed_at_once_its_models_are_loaded_elsewhere(two_pods: Space) -> None:
    pod = _ready_pods(two_pods)[0]["metadata"]["name"]
    kubernetes.kubectl("delete", "pod", pod, "-n", two_pods.name, "--grace-period=0", "--force")
    two_pods.wait(lambda: _all_answer(two_pods), "all models answer again", READY_SECONDS)
    two_pods.wait(lambda: len(_ready_pods(two_pods)) == 2, "two ready pods again", READY_SECONDS)
    two_pods.wait_ready(*ANSWERS)


def _ready_pods(space: Space) -> list[dict[str, Any]]:
    def ready(pod: dict[str, Any]) -> bool:
        conditions = pod["status"].get("conditions", [])
        return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)

    return [pod for pod in space.pods() if ready(pod)]


def _restarts(space: Space, pod: dict[str, Any], container: str) -> int:
    name = pod["metadata"]["name"]
    now = space.get(f"/api/v1/namespaces/{space.name}/pods/{name}")
    return int(container_status(now, container)["restartCount"])


def _all_answer(space: Space) -> bool:
    for name, right in ANSWERS.items():
        got = space.ask(name)
        if got.status != 200:
            return False
        assert got.json()["outputs"][0]["data"][0] == right
    return True

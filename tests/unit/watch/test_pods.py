"""Pod objects as the state sees them: readiness, room, and stable words for why one cannot start."""

from typing import Any

import pytest
from shoal_operator.watch.pods import pod_spec

Object = dict[str, Any]


def pod(status: Object | None = None, **meta: Any) -> Object:
    return {
        "metadata": {
            "namespace": "demo",
            "name": "iris-predictor-1",
            "uid": "u",
            "labels": {"serving.kserve.io/inferenceservice": "iris", "topology.kubernetes.io/zone": "z1"},
            "annotations": {"shoal.dev/capacity-bytes": "1000", "shoal.dev/server-type": "mlserver"},
            **meta,
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {
                    "name": "kserve-container",
                    "ports": [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 8081}],
                }
            ],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", **(status or {})},
    }


def conditions(**status: str) -> Object:
    return {"conditions": [{"type": k.replace("_", "."), "status": v} for k, v in status.items()]}


def container(state: Object, *, restarts: int = 0, last: Object | None = None, ready: bool = False) -> Object:
    return {
        "containerStatuses": [
            {
                "name": "kserve-container",
                "image": "mlserver:9",
                "state": state,
                "lastState": {"terminated": last} if last else {},
                "restartCount": restarts,
                "ready": ready,
            }
        ]
    }


def test_an_ordinary_pod() -> None:
    spec = pod_spec(pod(conditions(Ready="True")))
    assert (spec.namespace, spec.name, spec.uid, spec.service) == ("demo", "iris-predictor-1", "u", "iris")
    assert (spec.ip, spec.node, spec.zone, spec.capacity_bytes) == ("10.0.0.1", "n1", "z1", 1000)
    assert (spec.http_port, spec.grpc_port, spec.server_type) == (8080, 8081, "mlserver")
    assert spec.ready
    assert not spec.gate_open
    assert not spec.deleting
    assert spec.problem is None


def test_gate() -> None:
    status = {"conditions": [{"type": "shoal.dev/models-placed", "status": "True"}]}
    assert pod_spec(pod(status)).gate_open


def test_a_deleted_pod() -> None:
    assert pod_spec(pod(deletionTimestamp="2026-01-01T00:00:00Z")).deleting


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_an_ended_pod_serves_nothing(phase: str) -> None:
    spec = pod_spec(pod({"phase": phase, **conditions(Ready="True")}))
    assert spec.deleting
    assert spec.ip == ""
    assert not spec.ready


def test_an_empty_object_reads_as_nothing() -> None:
    assert pod_spec({}).name == ""
    for text in ("many", "\u00b2", "9" * 5000, str(2**63), "-1"):
        assert pod_spec(pod(annotations={"shoal.dev/capacity-bytes": text})).capacity_bytes == 0


PROBLEMS: list[tuple[str, Object, str, str]] = [
    (
        "image",
        container({"waiting": {"reason": "ErrImagePull", "message": "rpc error"}}),
        "ImagePullFailed",
        "mlserver:9",
    ),
    ("image back-off", container({"waiting": {"reason": "ImagePullBackOff"}}), "ImagePullFailed", "mlserver:9"),
    (
        "configuration",
        container({"waiting": {"reason": "CreateContainerConfigError", "message": "secret not found"}}),
        "ContainerNotCreated",
        "secret not found",
    ),
    (
        "crash",
        container(
            {"waiting": {"reason": "CrashLoopBackOff"}}, restarts=3, last={"exitCode": 1, "message": "no\n  port"}
        ),
        "CrashLoop",
        "code 1: no port",
    ),
    ("restarted", container({"running": {}}, restarts=3, last={"exitCode": 1}), "CrashLoop", "code 1."),
    (
        "memory",
        container(
            {"waiting": {"reason": "CrashLoopBackOff"}}, restarts=1, last={"exitCode": 137, "reason": "OOMKilled"}
        ),
        "OutOfMemory",
        "limits.memory",
    ),
    (
        "unschedulable",
        {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient memory."}],
        },
        "Unschedulable",
        "Insufficient memory",
    ),
    ("evicted", {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "PodFailed", "low on memory"),
]


@pytest.mark.parametrize(("case", "status", "reason", "words"), PROBLEMS, ids=[case[0] for case in PROBLEMS])
def test_problems(case: str, status: Object, reason: str, words: str) -> None:
    problem = pod_spec(pod(status)).problem
    assert problem is not None
    assert problem.reason == reason
    assert words in problem.message


@pytest.mark.parametrize(
    "status",
    [
        container({"waiting": {"reason": "ContainerCreating"}}),
        container({"waiting": {"reason": "PodInitializing"}}),
        container({"running": {}}),
        container({"running": {}}, restarts=3, last={"exitCode": 1}, ready=True),
        {"initContainerStatuses": [{"name": "first", "state": {"terminated": {"exitCode": 0}}, "restartCount": 1}]},
    ],
)
def test_a_pod_that_is_starting_or_well_has_none(status: Object) -> None:
    assert pod_spec(pod(status)).problem is None


def test_what_the_kubelet_alternates_between_gives_the_same_words() -> None:
    last = {"exitCode": 1, "message": "boom"}
    waiting = container({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}, restarts=2, last=last)
    later = container({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}, restarts=3, last=last)
    running = container({"running": {}}, restarts=3, last=last)
    ended = container({"terminated": last}, restarts=3, last=last)
    assert len({pod_spec(pod(status)).problem for status in (waiting, later, running, ended)}) == 1


def waits(*containers: Object, conditions: tuple[tuple[str, str], ...] = ()) -> str:
    shown = [{"type": kind, "status": value} for kind, value in conditions]
    return pod_spec({"metadata": {}, "status": {"containerStatuses": list(containers), "conditions": shown}}).waiting


def test_what_a_starting_pod_waits_for_is_named() -> None:
    running: Object = {"name": "kserve-container", "state": {"running": {}}}
    assert "kserve-container" in waits({**running, "started": False, "ready": False})
    assert "startupProbe" in waits({**running, "started": False, "ready": False})
    assert "readinessProbe" in waits({**running, "started": True, "ready": False})
    assert "models" in waits({**running, "started": True, "ready": True}, conditions=(("ContainersReady", "True"),))
    assert waits({**running, "started": True, "ready": True}, conditions=(("Ready", "True"),)) == ""
    assert waits({"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}}) == ""


def test_how_the_model_servers_last_process_ended() -> None:
    end = {"exitCode": 137, "reason": "OOMKilled", "containerID": "containerd://1"}

    def read(*statuses: dict[str, Any]) -> tuple[str, bool]:
        spec = pod_spec({"metadata": {}, "status": {"containerStatuses": list(statuses)}})
        return spec.server_ended, spec.out_of_memory

    running = {"name": "kserve-container", "state": {"running": {}}, "lastState": {"terminated": end}}
    assert read(running) == ("containerd://1", True)
    assert read({**running, "state": {"terminated": {**end, "reason": "Error"}}}) == ("containerd://1", False)
    assert read({**running, "lastState": {}}) == ("", False)
    assert read({**running, "name": "shoal-agent"}) == ("", False)

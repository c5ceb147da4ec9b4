"""A Pod object of the API server → the state's PodSpec: address, readiness, room for models, why it cannot start."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from shoal_api.names import (
    ANNOTATION_CAPACITY,
    ANNOTATION_POD_SERVER_TYPE,
    LABEL_INFERENCE_SERVICE,
    READINESS_GATE,
    SERVER_CONTAINER,
)
from shoal_api.quantity import whole_number

from shoal_operator.manifests import reasons
from shoal_operator.state.world.values import PodSpec, Problem

Object = Mapping[str, Any]

_ZONE_LABEL = "topology.kubernetes.io/zone"
_PULL_FAILURES = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CREATE_FAILURES = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_MAX_TEXT = 300
_KILLED = 137


def pod_spec(pod: Object) -> PodSpec:
    """What the state knows of a model-server pod. A field that is missing or malformed reads as empty or zero."""
    meta, spec, status = (pod.get(key) or {} for key in ("metadata", "spec", "status"))
    annotations, labels = meta.get("annotations") or {}, meta.get("labels") or {}
    capacity = str(annotations.get(ANNOTATION_CAPACITY, ""))
    ended = status.get("phase") in ("Failed", "Succeeded")
    ports = _server_ports(spec)
    return PodSpec(
        namespace=str(meta.get("namespace", "")),
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        service=str(labels.get(LABEL_INFERENCE_SERVICE, "")),
        # An ended pod keeps its last address in its status, and another pod may have it by now.
        ip="" if ended else str(status.get("podIP") or ""),
        capacity_bytes=whole_number(capacity) or 0,
        node=str(spec.get("nodeName") or ""),
        # Recent Kubernetes copies it from the node; elsewhere the zone stays unknown.
        zone=str(labels.get(_ZONE_LABEL, "")),
        server_type=str(annotations.get(ANNOTATION_POD_SERVER_TYPE, "")),
        http_port=ports.get("http", 0),
        grpc_port=ports.get("grpc", 0),
        deleting=meta.get("deletionTimestamp") is not None or ended,
        ready=not ended and _condition(status, "Ready"),
        gate_open=_condition(status, READINESS_GATE),
        problem=_problem(status),
        **_server_end(status),
        waiting="" if ended or _condition(status, "Ready") else _waiting(status),
    )


def _server_ports(spec: Object) -> dict[str, int]:
    for container in spec.get("containers") or ():
        if container.get("name") == SERVER_CONTAINER:
            return {str(p.get("name")): int(p["containerPort"]) for p in container.get("ports") or ()}
    return {}


def _condition(status: Object, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())


def _problem(status: Object) -> Problem | None:
    """The first reason why the pod cannot start; None while it may still be starting.

    What the kubelet alternates between (ErrImagePull and ImagePullBackOff, back-off times, restarts in progress) must
    give the same words, or the InferenceService's status would be written again and again.
    """
    if status.get("phase") == "Failed":
        said = _text(status.get("message")) or _text(status.get("reason")) or "no message"
        return Problem(reasons.POD_FAILED, f"The pod failed: {said}. Its Deployment replaces it.")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Problem(
                reasons.UNSCHEDULABLE,
                f"No node takes the pod: {_text(condition.get('message')) or 'no message'} Lower the predictor's "
                "resources.requests, change its nodeSelector, affinity or tolerations, or add nodes.",
            )
    for container in _containers(status):
        problem = _container_problem(container)
        if problem is not None:
            return problem
    return None


def _waiting(status: Object) -> str:
    """What a pod that may still start waits for: the first container whose probe has not passed, else its models."""
    for container in _containers(status):
        name = container.get("name")
        if "running" not in (container.get("state") or {}):
            continue
        if container.get("started") is False:
            return f"Container {name} runs, and its startupProbe has not passed."
        if container.get("ready") is False:
            return f"Container {name} runs, and its readinessProbe does not pass."
    if _condition(status, "ContainersReady") and not _condition(status, READINESS_GATE):
        return "The pod's share of the models is being loaded."
    return ""


def _containers(status: Object) -> Iterator[Object]:
    statuses: Iterable[str] = ("initContainerStatuses", "containerStatuses")
    for key in statuses:
        yield from status.get(key) or ()


def _server_end(status: Object) -> dict[str, Any]:
    """How the model server's last process ended, if one has."""
    for container in status.get("containerStatuses") or ():
        if container.get("name") == SERVER_CONTAINER:
            states = (container.get("state") or {}, container.get("lastState") or {})
            end: Object = next((state["terminated"] for state in states if state.get("terminated")), {})
            named = str(end.get("containerID") or end.get("finishedAt") or "")
            return {"server_ended": named, "out_of_memory": end.get("reason") == "OOMKilled"}
    return {}


def _container_problem(container: Object) -> Problem | None:
    name = container.get("name")
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = str(waiting.get("reason", ""))
    if reason in _PULL_FAILURES:
        return Problem(
            reasons.IMAGE_PULL_FAILED,
            f"The image {container.get('image')} of container {name} cannot be pulled. Check its name, the registry "
            "and imagePullSecrets; `kubectl describe pod` shows the registry's answer.",
        )
    if reason in _CREATE_FAILURES:
        return Problem(
            reasons.CONTAINER_NOT_CREATED,
            f"Container {name} cannot be created: {_text(waiting.get('message')) or reason}",
        )
    ended = (state.get("terminated") or {}) or ((container.get("lastState") or {}).get("terminated") or {})
    # A finished init container is no failure, and a container that is ready again has recovered.
    if not ended or container.get("ready") or not int(container.get("restartCount") or 0):
        return None
    if ended.get("exitCode") == 0 and "terminated" in state:
        return None
    return _crash(str(name), ended)


def _crash(name: str, ended: Object) -> Problem:
    if ended.get("reason") == "OOMKilled":
        return Problem(
            reasons.OUT_OF_MEMORY,
            f"Container {name} was killed because it used more memory than its limit. Raise the predictor's "
            "resources.limits.memory, or declare more memory in its TrainedModels, so that fewer share a pod.",
        )
    code = ended.get("exitCode")
    said = _text(ended.get("message"))
    killed = " (killed)" if code == _KILLED else ""
    return Problem(
        reasons.CRASH_LOOP,
        f"Container {name} keeps ending with code {code}{killed}{': ' + said if said else ''}. "
        f"See `kubectl logs --previous -c {name}` of the pod.",
    )


def _text(value: object) -> str:
    text = " ".join(str(value or "").split())
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"

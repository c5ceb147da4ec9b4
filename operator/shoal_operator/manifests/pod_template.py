"""The pod of a model server: the user's and the runtime's parts, the agent, and what both need to work together."""

from collections.abc import Mapping
from typing import Any

from shoal_api.inference_service import InferenceService
from shoal_api.names import (
    AGENT_PORT,
    ANNOTATION_CAPACITY,
    ANNOTATION_POD_SERVER_TYPE,
    LABEL_COMPONENT,
    LABEL_INFERENCE_SERVICE,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    MODELS_DIR,
    READINESS_GATE,
    SERVER_CONTAINER,
    SHARED_DIR,
)
from shoal_api.quantity import quantity_bytes

from shoal_operator.server_profile import Parts, ServerProfile

from . import probes
from .agent import AGENT_UID, MODELS_VOLUME, RESTRICTED, SHARED_VOLUME, agent_container, scratch_volume, volumes
from .conflicts import folder, hides
from .merge import merged
from .resolve import Resolution
from .server_config import cpus, thread_defaults
from .settings import WorkloadSettings
from .storage import Storage

Object = dict[str, Any]

GRACE_SECONDS = 60
"""For requests in flight and the server's own shutdown, after the models were moved."""

# Written by tools on every apply, or about KServe's own ways of running pods: none may cause a rollout here.
_NOT_FOR_PODS = (
    "kubectl.kubernetes.io/",
    "serving.kserve.io/",
    "autoscaling.knative.dev/",
    "internal.serving.kserve.io/",
    "shoal.dev/",
    "argocd.argoproj.io/",
    "meta.helm.sh/",
)


def selector(service: str) -> dict[str, str]:
    """Labels that an InferenceService's pods are found by. A Deployment's selector can never change, so neither can
    these."""
    return {LABEL_INFERENCE_SERVICE: service, LABEL_COMPONENT: "predictor", LABEL_MANAGED_BY: MANAGED_BY}


def pod_template(
    isvc: InferenceService, resolution: Resolution, storage: Storage, settings: WorkloadSettings
) -> Object:
    """The Deployment's template. Raises ValueError for a resolution with a problem."""
    profile, runtime = resolution.profile, resolution.runtime
    if profile is None or resolution.container is None:
        raise ValueError(f"{resolution.spec.key} cannot be rendered: {resolution.spec.problem}")
    server = _server_container(isvc, resolution, resolution.container, profile)
    timeout = resolution.loading_timeout_seconds or settings.model_loading_timeout_seconds
    written = resolution.pod_fields
    spec: Object = merged(_defaults(isvc, settings), written)
    agent = agent_container(
        isvc.metadata.name,
        profile,
        resolution.parts,
        storage=storage,
        server_env=server["env"],
        loading_timeout_seconds=timeout,
        limits=resolution.limits,
        drain_seconds=_drain_seconds(int(spec["terminationGracePeriodSeconds"]), settings),
        settings=settings,
    )
    spec["initContainers"] = [agent, *written.get("initContainers", [])]
    spec["containers"] = [server, *resolution.sidecars]
    spec["volumes"] = [*volumes(isvc.metadata.name, storage, profile), *written.get("volumes", [])]
    gate = {"conditionType": READINESS_GATE}
    spec["readinessGates"] = [gate, *(g for g in written.get("readinessGates", []) if g != gate)]
    predictor = isvc.spec.predictor
    return {
        "metadata": {
            "labels": {
                **((runtime.spec.labels or {}) if runtime is not None else {}),
                **isvc.metadata.labels,
                **(predictor.labels or {}),
                **selector(isvc.metadata.name),
            },
            "annotations": {
                **((runtime.spec.annotations or {}) if runtime is not None else {}),
                **{k: v for k, v in isvc.metadata.annotations.items() if not k.startswith(_NOT_FOR_PODS)},
                **(predictor.annotations or {}),
                ANNOTATION_CAPACITY: str(resolution.spec.capacity_bytes),
                ANNOTATION_POD_SERVER_TYPE: profile.server_type,
            },
        },
        "spec": spec,
    }


def _drain_seconds(grace: int, settings: WorkloadSettings) -> int:
    """How long the agent may hold the server's end back, so that of a short grace period some is left to end in."""
    return max(1, min(settings.drain_seconds, grace - 10 if grace > 20 else grace // 2))


def _defaults(isvc: InferenceService, settings: WorkloadSettings) -> Object:
    def spread(topology: str) -> Object:
        return {
            "maxSkew": 1,
            "topologyKey": topology,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(isvc.metadata.name)},
            "matchLabelKeys": ["pod-template-hash"],
        }

    return {
        "automountServiceAccountToken": False,
        # The group owns the shared volumes, so that agent and server may run as different users.
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            "fsGroup": AGENT_UID,
            "fsGroupChangePolicy": "OnRootMismatch",
        },
        "terminationGracePeriodSeconds": GRACE_SECONDS + settings.drain_seconds,
        "topologySpreadConstraints": [spread("kubernetes.io/hostname"), spread("topology.kubernetes.io/zone")],
    }


def _server_container(isvc: InferenceService, resolution: Resolution, chosen: Object, profile: ServerProfile) -> Object:
    container = dict(chosen)
    container["name"] = SERVER_CONTAINER
    parts = resolution.parts
    for key, words in (("command", parts.command), ("args", parts.args)):
        if words is not None:
            container[key] = list(words)
    defaults = {**thread_defaults(cpus(container)), **parts.defaults}
    container["env"] = _server_env(isvc, parts, defaults, container.get("env") or [])
    container["ports"] = _ports(profile, container.get("ports") or [])
    container["resources"] = _resources(container.get("resources") or {}, resolution)
    container["securityContext"] = merged({**RESTRICTED, "runAsNonRoot": True}, container.get("securityContext") or {})
    mounts: list[Object] = [
        {"name": MODELS_VOLUME, "mountPath": MODELS_DIR, "readOnly": True},
        {"name": SHARED_VOLUME, "mountPath": SHARED_DIR},
        *({"name": scratch_volume(n), "mountPath": each.path} for n, each in enumerate(profile.scratch)),
    ]
    ours = {mount["mountPath"] for mount in mounts}
    container["volumeMounts"] = mounts + [
        m for m in container.get("volumeMounts") or [] if folder(m) not in ours and not hides(m)
    ]
    # Not /v2/health/ready: with the server's models in it, one model that cannot load would take all others out.
    container["readinessProbe"] = _probe(profile, periodSeconds=5, failureThreshold=3)
    # Generous: a server that is busy loading a large model must not be killed for it.
    ours_by_kind = {
        "livenessProbe": _probe(profile, periodSeconds=15, failureThreshold=12),
        "startupProbe": _probe(profile, periodSeconds=1, failureThreshold=300),
    }
    for kind in probes.KINDS:
        own = probes.that_can_pass(chosen.get(kind) or {}, profile.ports, chosen.get("ports") or ())
        container[kind] = own or ours_by_kind[kind]
    container["lifecycle"] = _lifecycle(chosen, profile)
    return container


def _lifecycle(chosen: Object, profile: ServerProfile) -> Object:
    written = dict(chosen.get("lifecycle") or {})
    begin = probes.that_can_pass(written.pop("postStart", None) or {}, profile.ports, chosen.get("ports") or ())
    # The agent answers once the pod's models are served elsewhere; then the server may end.
    end = {"httpGet": {"path": "/drain", "port": AGENT_PORT, "scheme": "HTTP"}}
    return {**written, **({"postStart": begin} if begin else {}), "preStop": end}


def _server_env(
    isvc: InferenceService, parts: Parts, defaults: Mapping[str, str], written: list[Object]
) -> list[Object]:
    values = {"INFERENCE_SERVICE_NAME": isvc.metadata.name, **parts.environment}
    by_name = {str(item.get("name", "")): item for item in written}
    path = [parts.python_path, str(by_name.get("PYTHONPATH", {}).get("value") or "")]
    if parts.python_path:
        values["PYTHONPATH"] = ":".join(part for part in path if part)
    written = [item for item in written if parts.fixed(str(item.get("name", ""))) is None]
    values.update({name: value for name, value in defaults.items() if name not in by_name})
    ours = [{"name": name, "value": value} for name, value in sorted(values.items())]
    # A user's come last: they may refer to ours as $(NAME).
    return ours + [item for item in written if item.get("name") not in values]


def _ports(profile: ServerProfile, written: list[Object]) -> list[Object]:
    ours: list[Object] = [
        {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in profile.ports.by_name().items()
    ]
    names = {port["name"] for port in ours}
    numbers = {port["containerPort"] for port in ours}
    return ours + [p for p in written if p.get("containerPort") not in numbers and p.get("name") not in names]


def _resources(written: Object, resolution: Resolution) -> Object:
    """The user's resources, with the server's own memory on top of the room for models.

    A request that equals the limit stays equal to it, so that the pod keeps its quality of service.
    """
    room = resolution.models_bytes
    limit = str(room + resolution.buffer_bytes)
    requests = dict(written.get("requests") or {})
    if requests.get("memory") is not None and quantity_bytes(requests["memory"], "requests.memory") >= room:
        requests["memory"] = limit
    result = {**written, "limits": {**(written.get("limits") or {}), "memory": limit}}
    if requests:
        result["requests"] = requests
    return result


def _probe(profile: ServerProfile, **timing: int) -> Object:
    port = profile.ports.by_name()[profile.live.port]
    if not profile.live.path:
        return {"tcpSocket": {"port": port}, "timeoutSeconds": 5, **timing}
    return {"httpGet": {"path": profile.live.path, "port": port, "scheme": "HTTP"}, "timeoutSeconds": 5, **timing}

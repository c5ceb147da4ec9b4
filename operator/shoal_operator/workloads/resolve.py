"""An InferenceService and the runtimes there are → what its pods hold and run, or why it can hold nothing.

Custom predictors (`containers` with MULTI_MODEL_SERVER=true) bring their own server, and KServe's API has no field
that says which. It is read, in this order, from the annotation serving.kserve.io/server-type (on the predictor, then
on the InferenceService) and from the image's name (`…/mlserver:1.7` is MLServer). Otherwise the InferenceService is
refused with a message that names the annotation: driving an unknown server would fail later and less clearly.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.inference_service import (
    CONTAINERS_KEY,
    ENV_MULTI_MODEL,
    FRAMEWORKS,
    MODEL_KEY,
    InferenceService,
)
from shoal_api.names import ANNOTATION_DEPLOYMENT_MODE, SERVER_CONTAINER
from shoal_api.quantity import quantity_bytes

from shoal_operator.state.values import Problem, ServiceSpec

from . import reasons
from .annotations import cold_models
from .fields import CONTAINER_FIELDS, FRAMEWORK_FIELDS, POD_FIELDS
from .merge import merged_container
from .runtimes import ANNOTATION_SERVER_TYPE, Runtime, not_supported, select
from .scaling import Scaling, scaling
from .servers import SERVERS, ServerProfile

MODEL_MESH = "ModelMesh"
TRANSFORMER_CONTAINER = "transformer-container"

_DEFAULT_BUFFER_BYTES = 256 << 20
_PLACEHOLDER = re.compile(r"\{\{-?\s*\.(Name|Namespace|(?:Labels|Annotations)\.([\w./-]+))\s*-?\}\}")
_TAG = re.compile(r":[\w.\-]*$")


@dataclass(frozen=True, slots=True)
class Resolution:
    """``spec`` is what the state gets. The rest is for ``render``, and None or empty when ``spec.problem`` is set.

    ``container``: the model server's, merged; its limits.memory is still the room for models. ``sidecars``: further
    containers. ``runtime`` is None for a custom predictor. ``buffer_bytes``: what the server itself takes.
    ``scaling``: what is asked for; who decides depends on the cluster as well (``scaling.decide``).
    """

    spec: ServiceSpec
    profile: ServerProfile | None = None
    runtime: Runtime | None = None
    container: dict[str, Any] | None = None
    sidecars: tuple[dict[str, Any], ...] = ()
    buffer_bytes: int = 0
    loading_timeout_seconds: int | None = None
    scaling: Scaling = field(default_factory=Scaling)


@dataclass(frozen=True, slots=True)
class _Server:
    """The server as chosen, before its memory is counted."""

    profile: ServerProfile
    runtime: Runtime | None
    protocol: str
    formats: frozenset[str]
    container: dict[str, Any]
    sidecars: tuple[dict[str, Any], ...]


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


def is_taken(isvc: InferenceService, require_model_mesh: bool) -> bool:
    """Whether the InferenceService is ours: beside KServe, only those that its own controller skips."""
    return not require_model_mesh or isvc.metadata.annotations.get(ANNOTATION_DEPLOYMENT_MODE) == MODEL_MESH


def resolve(isvc: InferenceService, runtimes: Iterable[Runtime]) -> Resolution:
    """Pick runtime and server and count memory. Never raises: what is wrong with the object is ``spec.problem``."""
    predictor, meta = isvc.spec.predictor, isvc.metadata
    scale, cold = scaling(isvc), cold_models(meta.annotations)
    bare = replace(
        _bare(meta.namespace, meta.name, meta.uid, meta.generation),
        min_replicas=scale.least,
        max_replicas=scale.most,
        ignored_fields=(*_ignored(isvc), *scale.ignored),
        degraded=_wrong(*cold.wrong, *scale.wrong),
        strict=cold.strict,
        activation_timeout=cold.activation_seconds,
        max_held=cold.max_held,
        autoscaled=scale.autoscaled,
        scale_metric=scale.metric,
        scale_target=None if scale.resource else scale.target,
    )
    try:
        if not predictor.multi_model():
            return Resolution(replace(bare, multi_model=False, problem=_not_multi_model(isvc)))
        server = _custom(isvc) if predictor.implementation().key == CONTAINERS_KEY else _by_runtime(isvc, runtimes)
        capacity = _capacity(isvc, server)
    except SpecError as error:
        return Resolution(replace(bare, problem=Problem(error.reason, error.message)))
    except _Refused as refused:
        return Resolution(replace(bare, problem=refused.problem))
    adapter = server.runtime.spec.built_in_adapter if server.runtime is not None else None
    buffer = adapter.mem_buffer_bytes if adapter is not None else None
    timeout = adapter.model_loading_timeout_millis if adapter is not None else None
    return Resolution(
        spec=replace(
            bare,
            capacity_bytes=capacity,
            formats=server.formats,
            server_type=server.profile.server_type,
            protocol="v1" if server.protocol.endswith("v1") else "v2",
            degraded=_wrong(*cold.wrong, *scale.wrong, *_unmeasured(isvc, scale, server.container)),
        ),
        profile=server.profile,
        runtime=server.runtime,
        container=server.container,
        sidecars=server.sidecars,
        buffer_bytes=_DEFAULT_BUFFER_BYTES if buffer is None else buffer,
        loading_timeout_seconds=-(-timeout // 1000) if timeout else None,
        scaling=scale,
    )


def unreadable(obj: dict[str, Any], error: SpecError) -> Resolution:
    """For an object that cannot even be read: known by name, and of no use until it is corrected."""
    meta = obj.get("metadata") or {}
    name, namespace, uid = (str(meta.get(key, "")) for key in ("name", "namespace", "uid"))
    bare = _bare(namespace, name, uid, int(meta.get("generation") or 0))
    return Resolution(replace(bare, problem=Problem(error.reason, error.message)))


def _bare(namespace: str, name: str, uid: str, generation: int) -> ServiceSpec:
    return ServiceSpec(namespace, name, uid, generation, capacity_bytes=0, formats=frozenset(), server_type="")


def _not_multi_model(isvc: InferenceService) -> Problem:
    predictor = isvc.spec.predictor
    model_format = predictor.model_format()
    if predictor.containers:
        what = (
            f"container {predictor.containers[0].name!r} does not set the environment variable "
            f"{ENV_MULTI_MODEL} to 'true'. Set it if the server can load and unload models while it runs."
        )
    elif model_format is not None and model_format.name == "huggingface":
        what = "KServe's huggingface server holds one model. Use another kind of predictor."
    else:
        what = (
            "it has a model of its own (storageUri or storage). Leave that out, and give each model as a TrainedModel."
        )
    return Problem(
        reasons.NOT_MULTI_MODEL, f"InferenceService {isvc.metadata.name} does not serve TrainedModels: {what}"
    )


def _by_runtime(isvc: InferenceService, runtimes: Iterable[Runtime]) -> _Server:
    chosen = select(isvc, runtimes)
    if isinstance(chosen, Problem):
        raise _Refused(chosen)
    runtime, protocol = chosen
    containers = [c.to_object() for c in runtime.spec.containers]
    base = _server_container(containers, runtime.server_type)
    if base is None:
        raise _Refused(
            Problem(
                reasons.NO_CONTAINER,
                f"{runtime.where} has {len(containers)} containers and none is named {SERVER_CONTAINER}. Name the "
                "model server's container so.",
            )
        )
    written = isvc.spec.predictor.server_container()
    over = _container_fields(written.to_object() if written is not None else {})
    container = _filled(merged_container(base, over), isvc)
    implementation = isvc.spec.predictor.implementation().predictor
    if implementation is not None and implementation.runtime_version:
        container["image"] = _tagged(str(container.get("image", "")), implementation.runtime_version)
    sidecars = [c for c in containers if c is not base]
    sidecars += [c.to_object() for c in isvc.spec.predictor.containers or ()]
    return _Server(
        SERVERS[runtime.server_type],
        runtime,
        protocol,
        runtime.spec.formats(),
        container,
        tuple(c for c in sidecars if c.get("name") != TRANSFORMER_CONTAINER),
    )


def _custom(isvc: InferenceService) -> _Server:
    predictor = isvc.spec.predictor
    written = predictor.server_container()
    if written is None:
        raise _Refused(Problem(reasons.NO_CONTAINER, "spec.predictor.containers is empty: give the model server's."))
    annotations = {**isvc.metadata.annotations, **(predictor.annotations or {})}
    server_type = annotations.get(ANNOTATION_SERVER_TYPE, "").lower() or _of_image(written.image or "")
    if server_type not in SERVERS:
        raise _Refused(
            not_supported(
                f"Container {written.name!r} with image {written.image!r}",
                server_type,
                f"annotation {ANNOTATION_SERVER_TYPE}",
            )
        )
    profile = SERVERS[server_type]
    protocol = next((e.value for e in written.env or () if e.name == "PROTOCOL" and e.value), predictor.protocol())
    others = tuple(c.to_object() for c in predictor.containers or () if c is not written)
    return _Server(profile, None, protocol, profile.formats, written.to_object(), others)


def _of_image(image: str) -> str:
    name = image.rsplit("/", 1)[-1]
    for profile in SERVERS.values():
        if name.startswith(profile.images):
            return profile.server_type
    return ""


def _server_container(containers: list[dict[str, Any]], server_type: str) -> dict[str, Any] | None:
    """As KServe names it, as ModelMesh names it (after the server type), or the only one."""
    for name in (SERVER_CONTAINER, server_type):
        for container in containers:
            if container.get("name") == name:
                return container
    return containers[0] if len(containers) == 1 else None


def _container_fields(written: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in written.items() if key in CONTAINER_FIELDS}


def _filled(container: dict[str, Any], isvc: InferenceService) -> dict[str, Any]:
    """KServe's placeholders (`{{.Name}}`, `{{.Labels.x}}`) replaced from the InferenceService's metadata.

    An environment variable whose placeholder has no value is left out, so that the server's own default holds.
    """
    meta = isvc.metadata

    def value_of(match: re.Match[str]) -> str | None:
        whole, key = match[1], match[2]
        if key is None:
            return meta.name if whole == "Name" else meta.namespace
        return (meta.labels if whole.startswith("Labels.") else meta.annotations).get(key)

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return _PLACEHOLDER.sub(lambda match: value_of(match) or "", value)
        if isinstance(value, list):
            return [fill(item) for item in value if not _is_unset_variable(item)]
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        return value

    def _is_unset_variable(item: Any) -> bool:
        text = item.get("value") if isinstance(item, dict) else None
        return isinstance(text, str) and any(value_of(match) is None for match in _PLACEHOLDER.finditer(text))

    filled: dict[str, Any] = fill(container)
    return filled


def _tagged(image: str, version: str) -> str:
    if "@sha256:" in image:
        return image
    return f"{_TAG.sub('', image)}:{version}"


def _capacity(isvc: InferenceService, server: _Server) -> int:
    """Room for models in one pod: limits.memory of the predictor, else the runtime container's."""
    own = isvc.spec.predictor.memory_limit_bytes()
    if own:
        return own
    limits = (server.container.get("resources") or {}).get("limits") or {}
    if limits.get("memory") is not None:
        where = server.runtime.where if server.runtime is not None else "spec.predictor.containers"
        counted = quantity_bytes(limits["memory"], f"limits.memory of {where}")
        if counted:
            return counted
    key = isvc.spec.predictor.implementation().key
    raise _Refused(
        Problem(
            reasons.NO_MEMORY_LIMIT,
            f"The room for models in a pod is not known: set spec.predictor.{key}.resources.limits.memory, "
            "for example 2Gi.",
        )
    )


def _wrong(*sentences: str) -> Problem | None:
    """What is written and cannot be: the InferenceService works, with the defaults."""
    return Problem(reasons.INVALID_SETTING, " ".join(sentences)) if sentences else None


def _unmeasured(isvc: InferenceService, scale: Scaling, container: Mapping[str, Any]) -> tuple[str, ...]:
    """A HorizontalPodAutoscaler measures against what is requested; requests follow limits, and memory has one."""
    resources = container.get("resources") or {}
    stated = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    if scale.resource != "cpu" or "cpu" in stated:
        return ()
    key = isvc.spec.predictor.implementation().key
    return (
        f"spec.predictor.scaleMetric is 'cpu', a share of what is requested: set spec.predictor.{key}.resources."
        "requests.cpu, or the number of pods stays as it is.",
    )


def _ignored(isvc: InferenceService) -> tuple[str, ...]:
    predictor = isvc.spec.predictor
    written = predictor.to_object()
    extra = [f"spec.predictor.{key}" for key in ("containerConcurrency", "timeout")]
    ignored = [*isvc.ignored_fields(), *(path for path in extra if written.get(path.rsplit(".", 1)[-1]) is not None)]
    if predictor.min_replicas == 0:
        ignored.append("spec.predictor.minReplicas: 0")
    if any(c.name == TRANSFORMER_CONTAINER for c in predictor.containers or ()):
        ignored.append(f"spec.predictor.containers[{TRANSFORMER_CONTAINER}]")
    known = POD_FIELDS
    ignored.extend(f"spec.predictor.{key}" for key in sorted(predictor.pod_fields()) if key not in known)
    for key in (*FRAMEWORKS, MODEL_KEY):
        inside = written.get(key) or {}
        unknown = sorted(inside.keys() - CONTAINER_FIELDS - FRAMEWORK_FIELDS)
        ignored.extend(f"spec.predictor.{key}.{name}" for name in unknown)
    return tuple(dict.fromkeys(ignored))

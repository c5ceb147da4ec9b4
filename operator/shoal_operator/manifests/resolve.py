"""An InferenceService and the runtimes there are → what its pods hold and run, or why it can hold nothing.

Which server, with which container, is chosen in ``chosen_server``; here its memory is counted, what the user says about
models and requests is read, and what has no effect is named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.inference_service import (
    ENV_MULTI_MODEL,
    FRAMEWORKS,
    MODEL_KEY,
    MODEL_MESH,
    InferenceService,
)
from shoal_api.names import ANNOTATION_DEPLOYMENT_MODE, ANNOTATION_MODELS_FROM, ANNOTATION_PLACEMENT
from shoal_api.quantity import format_bytes, quantity_bytes

from shoal_operator.server_profile import Inputs, Parts, Protocol, ServerProfile
from shoal_operator.state.world.values import DEFAULT_POLICY, Problem, RoutePolicy, ServiceSpec, is_group

from . import reasons
from .annotations import cold_models
from .artifact_limits import DEFAULT_LIMITS, ArtifactLimits, artifact_limits
from .chosen_server import TRANSFORMER_CONTAINER, ChosenServer, Refused, chosen_server
from .conflicts import overridden, refuse_clashes
from .fields import CONTAINER_FIELDS, FRAMEWORK_FIELDS, MODEL_FIELDS, POD_FIELDS
from .models_from import ModelsFrom, as_loaded, models_from, of_runtime
from .pod_types import Checked
from .request_policy import request_policy
from .runtimes import Runtime
from .scaling import Scaling, scaling
from .server_config import cpus, server_settings
from .volume_claims import Declared, declared

_MODES = frozenset({"", "Standard", "RawDeployment", MODEL_MESH})
"""Of KServe's deployment modes those that are done here: others are done as Standard is."""
_MAX_MODE = 40
_NOTHING_IS_KEPT = (
    f"Annotation {ANNOTATION_PLACEMENT} is 'strict', and minReplicas is 0: without a pod nothing is in memory, so "
    "'overcommit' holds; write minReplicas 1 or more to have all models kept."
)
_ONE_MODEL = f"Annotation {ANNOTATION_MODELS_FROM} has no effect: the InferenceService has one model of its own."
_DEFAULT_BUFFER_BYTES = 256 << 20
_MAX_CAPACITY = 1 << 60
_MAX_LOADING_MILLIS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Resolution:
    """``spec`` is what the state gets. The rest is for ``render``, and None or empty when ``spec.problem`` is set.

    ``parts``: what the profile adds. ``container``: the model server's, merged; its limits.memory is still the room for
    models. ``sidecars``: further containers. ``pod_fields``: pod-level fields, the predictor's on top of the runtime's.
    ``runtime`` is None for a custom predictor. ``buffer_bytes``: what the server itself takes.
    ``models_bytes``: limits.memory, which ``spec.capacity_bytes`` is the part of that one of its processes has.
    ``scaling``: what is asked for; who decides depends on the cluster as well (``scaling.decide``). ``claims``: of
    models on volumes.
    """

    spec: ServiceSpec
    profile: ServerProfile | None = None
    parts: Parts = field(default_factory=Parts)
    runtime: Runtime | None = None
    container: dict[str, Any] | None = None
    sidecars: tuple[dict[str, Any], ...] = ()
    pod_fields: dict[str, Any] = field(default_factory=dict)
    buffer_bytes: int = 0
    models_bytes: int = 0
    loading_timeout_seconds: int | None = None
    scaling: Scaling = field(default_factory=Scaling)
    limits: ArtifactLimits = DEFAULT_LIMITS
    claims: Declared = field(default_factory=Declared)


def is_taken(isvc: InferenceService, require_model_mesh: bool) -> bool:
    """Whether the InferenceService is ours: beside KServe, only those that its own controller skips, and groups."""
    return not require_model_mesh or is_group(isvc.metadata.name) or isvc.deployment_mode() == MODEL_MESH


def resolve(
    isvc: InferenceService,
    runtimes: Iterable[Runtime],
    policy: RoutePolicy = DEFAULT_POLICY,
    limits: ArtifactLimits = DEFAULT_LIMITS,
) -> Resolution:
    """Pick runtime and server and count memory. Never raises: what is wrong with the object is ``spec.problem``.

    ``policy`` and ``limits``: what holds for its requests and artifacts where the InferenceService does not say
    otherwise.
    """
    predictor, meta = isvc.spec.predictor, isvc.metadata
    scale, cold = scaling(isvc), cold_models(meta.annotations)
    policy, wrong = request_policy(isvc, policy)
    limits, too = artifact_limits(meta.annotations, limits)
    wrong += too
    unregistered = models_from(meta.annotations, strict=cold.strict and not scale.to_zero)
    if is_group(meta.name):  # which is written as its runtime says
        unregistered = ModelsFrom(wrong=of_runtime(meta.annotations, f"runtime {meta.name.partition('.')[2]}"))
    wrong += unregistered.wrong
    if scale.to_zero and cold.strict:
        wrong += (_NOTHING_IS_KEPT,)
    bare = replace(
        _bare(meta.namespace, meta.name, meta.uid, meta.generation),
        min_replicas=scale.least,
        max_replicas=scale.most,
        ignored_fields=(*_ignored(isvc), *scale.ignored),
        degraded=_wrong(*cold.wrong, *scale.wrong, *wrong),
        strict=cold.strict and not scale.to_zero,
        activation_timeout=cold.activation_seconds,
        idle=cold.idle_seconds if scale.to_zero else None,
        wake_timeout=cold.wake_seconds,
        max_held=cold.max_held,
        check=cold.check_seconds,
        models_from=unregistered.place,
        place_unusable=unregistered.unusable,
        policy=replace(policy, any_name=unregistered.place is not None),
        autoscaled=scale.autoscaled,
        scale_metric=scale.metric,
        scale_target=None if scale.resource else scale.target,
    )
    try:
        if not predictor.multi_model():
            if unregistered != ModelsFrom():
                wrong, unregistered = (*wrong, _ONE_MODEL), ModelsFrom()
            bare = replace(
                bare,
                multi_model=False,
                models_from=None,
                place_unusable=False,
                degraded=_wrong(*cold.wrong, *scale.wrong, *wrong),
            )
            if not predictor.own_model():
                return Resolution(replace(bare, problem=_not_multi_model(isvc)))
        checked = Checked()
        server = chosen_server(isvc, runtimes, checked)
        checked.raise_if_wrong()
        refuse_clashes(server.sidecars, server.pod_fields)
        capacity = _capacity(isvc, server)
    except SpecError as error:
        return Resolution(replace(bare, problem=Problem(error.reason, error.message)))
    except Refused as refused:
        return Resolution(replace(bare, problem=refused.problem))
    adapter = server.runtime.spec.built_in_adapter if server.runtime is not None else None
    buffer = adapter.mem_buffer_bytes if adapter is not None else None
    buffer = _DEFAULT_BUFFER_BYTES if buffer is None else buffer
    timeout = min(adapter.model_loading_timeout_millis or 0, _MAX_LOADING_MILLIS) if adapter is not None else 0
    loading_seconds = -(-timeout // 1000) if timeout else None
    claims, no_claims = declared(isvc, server.pod_fields, (server.container, *server.sidecars))
    loaded = as_loaded(unregistered, server.formats)
    wrong += loaded.wrong
    if server.runtime is not None and not is_group(meta.name):
        wrong += of_runtime(server.runtime.annotations, server.runtime.where)
    own, not_tuned = server_settings(server.profile, _annotations(isvc, server.runtime))
    parts = server.profile.parts(
        Inputs(
            service=meta.name,
            capacity_bytes=capacity,
            buffer_bytes=buffer,
            cpus=cpus(server.container),
            request_seconds=policy.seconds,
            loading_timeout_seconds=loading_seconds,
            settings=own,
            command=_words(server.container.get("command")),
            args=_words(server.container.get("args")),
            written=_plain(server.container.get("env") or ()),
        )
    )
    return Resolution(
        spec=replace(
            bare,
            ignored_fields=tuple(
                dict.fromkeys(
                    (
                        *bare.ignored_fields,
                        *_not_spoken(isvc, server.profile),
                        *checked.unknown,
                        *overridden(server.container, parts, server.profile.ports),
                    )
                )
            ),
            capacity_bytes=max(1, capacity // parts.processes),
            processes=parts.processes,
            formats=server.formats,
            server_type=server.profile.server_type,
            protocol=_spoken(server),
            models_from=loaded.place,
            place_unusable=loaded.unusable,
            policy=replace(
                policy,
                server_type=server.profile.server_type,
                protocol=_spoken(server),
                any_name=loaded.place is not None,
            ),
            unseen=0.0 if server.profile.waits else policy.seconds,
            not_tuned=not_tuned,
            degraded=_wrong(*cold.wrong, *scale.wrong, *wrong, *no_claims, *_unmeasured(isvc, scale, server.container)),
        ),
        profile=server.profile,
        parts=parts,
        runtime=server.runtime,
        container=server.container,
        sidecars=server.sidecars,
        pod_fields=server.pod_fields,
        buffer_bytes=buffer,
        models_bytes=capacity,
        loading_timeout_seconds=loading_seconds,
        scaling=scale,
        limits=limits,
        claims=claims,
    )


def _annotations(isvc: InferenceService, runtime: Runtime | None) -> dict[str, str]:
    """The InferenceService's, on top of its runtime's."""
    return {**(runtime.annotations if runtime is not None else {}), **isvc.metadata.annotations}


def _words(written: Any) -> tuple[str, ...] | None:
    return None if written is None else tuple(str(word) for word in written)


def _plain(env: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {str(item["name"]): str(item["value"]) for item in env if item.get("value") is not None}


def _spoken(server: ChosenServer) -> str:
    """The protocol of the models' URLs: the chosen one, v1 or v2, if the server speaks it, else what it does speak."""
    spoken = server.profile.protocols
    wanted = Protocol.V1 if server.protocol.endswith("v1") else Protocol.V2
    return next(each for each in (wanted, Protocol.V2, Protocol.V1, Protocol.NATIVE) if each in spoken)


def _not_spoken(isvc: InferenceService, profile: ServerProfile) -> tuple[str, ...]:
    """The protocol that the user asks for, where a runtime has it, or names none, and its server has not."""
    implementation = isvc.spec.predictor.implementation()
    asked = implementation.predictor.protocol_version if implementation.predictor is not None else None
    if asked is None or asked in profile.protocols:
        return ()
    said = f"{profile.title} speaks {profile.spoken} here"
    return (f"spec.predictor.{implementation.key}.protocolVersion: {asked} ({said})",)


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
        what = "KServe's huggingface server holds one model: give it one (storageUri), or use another kind."
    else:
        what = "it says neither which server it runs nor which model it holds."
    return Problem(
        reasons.NOT_MULTI_MODEL, f"InferenceService {isvc.metadata.name} does not serve TrainedModels: {what}"
    )


def _capacity(isvc: InferenceService, server: ChosenServer) -> int:
    """Room for models in one pod: limits.memory of the predictor, else the runtime container's."""
    own = isvc.spec.predictor.memory_limit_bytes()
    limits = (server.container.get("resources") or {}).get("limits") or {}
    where = server.runtime.where if server.runtime is not None else "spec.predictor.containers"
    counted = own or quantity_bytes(limits.get("memory") or 0, f"limits.memory of {where}")
    if counted > _MAX_CAPACITY:
        raise Refused(
            Problem(
                reasons.INVALID_SPEC,
                f"limits.memory of the model server is {format_bytes(counted)}, more than any node has: correct it in "
                f"spec.predictor or {where}.",
            )
        )
    if counted:
        return counted
    if is_group(isvc.metadata.name):
        raise Refused(
            Problem(
                reasons.NO_MEMORY_LIMIT,
                f"The room for models in a pod is not known: set resources.limits.memory of the model server's "
                f"container in {where}, for example 2Gi.",
            )
        )
    key = isvc.spec.predictor.implementation().key
    raise Refused(
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
    ignored = list(isvc.ignored_fields())
    if written.get("containerConcurrency") is not None:
        ignored.append("spec.predictor.containerConcurrency")
    if isvc.deployment_mode() not in _MODES:
        ignored.append(f"annotation {ANNOTATION_DEPLOYMENT_MODE}: {isvc.deployment_mode()[:_MAX_MODE]}")
    if any(c.name == TRANSFORMER_CONTAINER for c in predictor.containers or ()):
        ignored.append(f"spec.predictor.containers[{TRANSFORMER_CONTAINER}]")
    known = POD_FIELDS
    ignored.extend(f"spec.predictor.{key}" for key in sorted(predictor.pod_fields()) if key not in known)
    for key in (*FRAMEWORKS, MODEL_KEY):
        inside = written.get(key) or {}
        unknown = sorted(inside.keys() - CONTAINER_FIELDS - (MODEL_FIELDS if key == MODEL_KEY else FRAMEWORK_FIELDS))
        ignored.extend(f"spec.predictor.{key}.{name}" for name in unknown)
    return tuple(dict.fromkeys(ignored))

"""A TrainedModel's status: KServe's conditions and ours, from one view. Pure.

Ready means that a request will be answered. It is therefore not the sum of the other conditions: while a new content
of the model fails to load, or finds no room, the previous one keeps answering and Ready stays True with a reason that
says so, and the condition that speaks of the new content is False.

A model that may be cold (minCopies 0) says the same while it is cold, being loaded, loaded, or making way: a request is
answered in each case, and a write for every load would cost the API server what KServe's controller does. Everything
said of it here depends on its artifact, its size and its failures only, never on where its copies stand.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.messages import CopyFailure, FailureStage
from shoal_api.names import (
    INFERENCE_SERVICE_READY,
    IS_MMS_PREDICTOR,
    LOADED,
    MEMORY_RESOURCE_AVAILABLE,
    READY,
    SCHEDULED,
    STORAGE_RESOLVED,
)
from shoal_api.quantity import format_bytes, quantity_bytes

from shoal_operator.state.values import ModelSpec, Refusal, ServiceSpec
from shoal_operator.state.views import CopyState, ModelView

from . import reasons
from .conditions import Finding, Verdict, conditions, false, find, true, unknown

Object = dict[str, Any]

_LEAVING = frozenset({CopyState.DRAINING, CopyState.UNLOADING})
_MEBIBYTE = 1 << 20
_MAX_VERDICTS = 3
_MAX_FORMATS = 8
_ESTIMATED = "Estimated from the artifact: about {}."
_ESTIMATE = re.compile(re.escape(_ESTIMATED).replace(r"\{\}", r"(\S+)"))
_SAME_ESTIMATE = 1.25
"""An estimate follows what pods measure. What was said stays until it is off by more than this factor, else each
correction would write the status of every model of its format."""


def model_status(
    view: ModelView, previous: Mapping[str, Any] | None, now: datetime, cluster_domain: str = "cluster.local"
) -> Object:
    """The whole status of a TrainedModel. ``view.url`` is its InferenceService's; ``previous`` is the last status."""
    status: Object = {"observedGeneration": view.spec.generation}
    if view.service is not None:
        path = _path(view.spec.name, view.service.protocol)
        host = f"{view.spec.service}.{view.spec.namespace}.svc.{cluster_domain}"
        status["url"] = f"{view.url}{path}"
        status["address"] = {"url": f"http://{host}{path}"}
    status["conditions"] = conditions(list(diagnose(view, previous).items()), previous, now)
    return status


def diagnose(view: ModelView, previous: Mapping[str, Any] | None = None) -> dict[str, Finding]:
    """Every condition's finding, by condition type, in the order in which they are shown.

    ``previous``, the last status, only keeps an estimate of memory from being said anew for no reason.
    """
    memory = _memory(view, previous or {})
    parts = {
        INFERENCE_SERVICE_READY: _service(view),
        IS_MMS_PREDICTOR: _multi_model(view),
        SCHEDULED: _scheduled(view),
        MEMORY_RESOURCE_AVAILABLE: memory,
        STORAGE_RESOLVED: _storage(view),
        LOADED: _loaded(view, memory),
    }
    return {READY: _ready(view, parts), **parts}


def trouble(view: ModelView) -> Finding | None:
    """The first finding that needs someone to act, also while the previous content answers; None when all is well."""
    findings = diagnose(view)
    for kind in (READY, *_ORDER):
        finding = findings[kind]
        if finding.verdict is Verdict.FALSE and not finding.waits:
            return finding
    return None


# The first of these that is not True is why a model is not Ready: causes before their effects.
_ORDER = (
    IS_MMS_PREDICTOR,
    INFERENCE_SERVICE_READY,
    MEMORY_RESOURCE_AVAILABLE,
    SCHEDULED,
    STORAGE_RESOLVED,
    LOADED,
)


def _ready(view: ModelView, parts: Mapping[str, Finding]) -> Finding:
    if view.service is not None and view.answers:
        return _answering(view, parts)
    # What is False says more than what is not known yet, wherever it stands.
    for kind in _ORDER:
        if parts[kind].verdict is Verdict.FALSE:
            return parts[kind]
    if not _may_be_cold(view):
        return unknown()
    if all(part.good for part in parts.values()):
        return true(reasons.ON_DEMAND)
    if not _found(view):
        return unknown(message="An agent is looking the artifact up; /explain of the operator says more if it lasts.")
    return unknown()


def _answering(view: ModelView, parts: Mapping[str, Finding]) -> Finding:
    if any(copy.serving and copy.state is CopyState.LOADED for copy in view.copies):
        return true(reasons.ON_DEMAND if _may_be_cold(view) else reasons.LOADED)
    still = "The previous content keeps serving."
    failure = _failure(view)
    if view.spec.problem is not None:
        return true(reasons.UPDATE_FAILED, f"{still} {view.spec.problem.message}")
    if failure is not None:
        return true(reasons.UPDATE_FAILED, f"{still} {failure.message}")
    if view.update_blocked:
        blocked = parts[MEMORY_RESOURCE_AVAILABLE]
        return true(reasons.UPDATE_BLOCKED, f"{still} {blocked.message}", blocked.action)
    return true(reasons.UPDATING, "The previous content serves until the new one has loaded.")


def _service(view: ModelView) -> Finding:
    name, service = view.spec.service, view.service
    if service is None:
        return false(
            reasons.SERVICE_NOT_FOUND,
            f"There is no InferenceService {name} in namespace {view.spec.namespace}.",
            "Apply it, or correct spec.inferenceService; the model is placed as soon as it is there.",
        )
    if service.problem is not None:
        return false(service.problem.reason, service.problem.message)
    if not view.service_ready:
        return false(
            reasons.PODS_NOT_READY,
            f"No pod of InferenceService {name} can take models yet.",
            f"If it lasts: kubectl describe isvc {name}",
        )
    return true(reasons.READY)


def _multi_model(view: ModelView) -> Finding:
    if view.service is None:
        return unknown(reasons.SERVICE_NOT_FOUND)
    if not view.service.multi_model:
        message = view.service.problem.message if view.service.problem is not None else "It serves one model."
        return false(reasons.NOT_MULTI_MODEL, message)
    return true(reasons.MULTI_MODEL)


def _scheduled(view: ModelView) -> Finding:
    if _unsupported(view.spec, view.service):
        formats = sorted(view.service.formats) if view.service is not None else []
        shown = ", ".join(formats[:_MAX_FORMATS]) + (", …" if len(formats) > _MAX_FORMATS else "")
        return false(
            reasons.FRAMEWORK_NOT_SUPPORTED,
            f"The runtime of InferenceService {view.spec.service} does not load framework {view.spec.framework!r}; "
            f"it loads {shown or 'none'}.",
            "Correct spec.model.framework, or name an InferenceService with another runtime.",
        )
    refusal = _refusal(view)
    if refusal is not None:
        if refusal.missing_bytes > 0:
            return false(reasons.INSUFFICIENT_MEMORY, "No pod has room; see MemoryResourceAvailable.")
        return _no_pod(view, refusal)
    if _may_be_cold(view) and view.service is not None and view.service.problem is None:
        return true(reasons.ON_DEMAND)
    if any(copy.state not in _LEAVING for copy in view.copies):
        return true(reasons.PLACED)
    return unknown()


def _no_pod(view: ModelView, refusal: Refusal) -> Finding:
    said = [f"{v.pod}: {v.message}" for v in sorted(refusal.verdicts, key=lambda v: v.pod)]
    shown = "; ".join(said[:_MAX_VERDICTS]) + (f"; and {len(said) - _MAX_VERDICTS} more" if len(said) > 3 else "")
    held = sum(copy.state not in _LEAVING for copy in view.copies)
    what = f"{held} of {view.min_copies} copies have a pod" if held else "No pod takes the model"
    action = "Raise the predictor's minReplicas, or lower spec.serving.minCopies." if held else ""
    return false(reasons.NO_POD_FITS, f"{what}: {shown or 'there is none'}.", action)


def _memory(view: ModelView, previous: Mapping[str, Any]) -> Finding:
    service, refusal = view.service, _refusal(view)
    size = view.memory_bytes if view.memory_bytes is not None else view.spec.memory_bytes
    if service is None or service.problem is not None:
        return unknown()
    if size is None:
        return _not_estimated(view, previous)
    estimated = view.spec.memory_bytes is None
    if size > service.capacity_bytes:
        return false(
            reasons.MODEL_TOO_LARGE,
            f"The model takes {format_bytes(size)}{' by its artifact' if estimated else ''}, and a pod of "
            f"InferenceService {service.name} has room for {format_bytes(service.capacity_bytes)}.",
            "Raise the predictor's resources.limits.memory"
            + (", or declare spec.model.memory if the model takes less." if estimated else "."),
        )
    if refusal is not None and refusal.missing_bytes > 0:
        missing = -(-refusal.missing_bytes // _MEBIBYTE)
        return false(
            reasons.UPDATE_BLOCKED if view.update_blocked else reasons.INSUFFICIENT_MEMORY,
            f"The {'new content' if view.update_blocked else 'model'} takes {format_bytes(size)}, and {missing}Mi are "
            f"missing on the pod of InferenceService {service.name} that has most room.",
            "Raise its predictor's resources.limits.memory or minReplicas, or delete models.",
        )
    if refusal is None and (_may_be_cold(view) or any(copy.state not in _LEAVING for copy in view.copies)):
        return true(reasons.FITS, _estimate(size, previous) if estimated else "")
    return unknown()


def _not_estimated(view: ModelView, previous: Mapping[str, Any]) -> Finding:
    """After a restart the estimates are made anew; until then what was found for this very spec stays."""
    before = find(previous, MEMORY_RESOURCE_AVAILABLE)
    same = previous.get("observedGeneration") == view.spec.generation
    if same and _found(view) and (before.get("status"), before.get("reason")) == (Verdict.TRUE, reasons.FITS):
        return true(reasons.FITS, str(before.get("message", "")))
    return unknown(message="Its memory is not declared and is being estimated from the artifact.")


def _estimate(size: int, previous: Mapping[str, Any]) -> str:
    """The estimate in bytes, as it was said before while that is still about right."""
    message = str(find(previous, MEMORY_RESOURCE_AVAILABLE).get("message", ""))
    said = _ESTIMATE.fullmatch(message)
    try:
        before = quantity_bytes(said[1], "message") if said is not None else 0
    except SpecError:
        before = 0
    close = before > 0 and size <= before * _SAME_ESTIMATE and before <= size * _SAME_ESTIMATE
    return message if close else _ESTIMATED.format(format_bytes(size))


def _storage(view: ModelView) -> Finding:
    if view.spec.problem is not None:
        return false(view.spec.problem.reason, view.spec.problem.message)
    failure = _failure(view)
    if failure is not None and failure.stage is FailureStage.STORAGE:
        return false(failure.reason, failure.message)
    if _found(view):
        return true(reasons.RESOLVED)
    return unknown()


def _loaded(view: ModelView, memory: Finding) -> Finding:
    cold = _may_be_cold(view)
    if _any(view, CopyState.LOADED):
        return _on_demand() if cold else true(reasons.LOADED)
    failure = _failure(view)
    if failure is not None and failure.stage is FailureStage.LOAD:
        return false(failure.reason, failure.message)
    updating = any(copy.serving and copy.state is CopyState.OUTDATED for copy in view.copies)
    if cold and not updating and _would_load(view, memory):
        return _on_demand()
    if cold and not updating:
        return unknown()
    if _any(view, CopyState.LOADING):
        return unknown(reasons.LOADING)
    if _any(view, CopyState.PULLING):
        return unknown(reasons.PULLING)
    if _any(view, CopyState.PULLED):
        return unknown(reasons.MAKING_ROOM, "It is on the pod's disk and waits for memory that others are leaving.")
    return unknown()


def _on_demand() -> Finding:
    return true(reasons.ON_DEMAND, "A request has it loaded.")


def _may_be_cold(view: ModelView) -> bool:
    """No copy has to be kept: the InferenceService overcommits, or the user said minCopies 0."""
    return view.min_copies == 0


def _would_load(view: ModelView, memory: Finding) -> bool:
    """A request would have it loaded, by all that is known."""
    usable = view.service is not None and view.spec.problem is None and not _unsupported(view.spec, view.service)
    return usable and memory.good and _found(view) and _failure(view) is None


def _found(view: ModelView) -> bool:
    """Some agent has seen the artifact."""
    return view.artifact_seen or _any(view, CopyState.LOADED)


def _refusal(view: ModelView) -> Refusal | None:
    """Why no pod takes the model, where that is worth saying. For a cold model room is made when a request comes, so
    what was refused a moment ago says nothing about the next one; explain and the service's MemoryPressure do."""
    overcommitted = _may_be_cold(view) and view.service is not None and not view.service.strict
    return None if overcommitted and not view.update_blocked else view.refusal


def _failure(view: ModelView) -> CopyFailure | None:
    """Why the wanted content is loaded nowhere; always the same copy's word, so that the message stays."""
    if _any(view, CopyState.LOADED):
        return None
    if view.failure is not None:
        return view.failure
    failed = [c for c in view.copies if c.failure is not None and c.state not in _LEAVING]
    return min(failed, key=lambda c: c.pod_uid).failure if failed else None


def _any(view: ModelView, state: CopyState) -> bool:
    return any(copy.state is state for copy in view.copies)


def _unsupported(spec: ModelSpec, service: ServiceSpec | None) -> bool:
    return service is not None and service.problem is None and spec.framework.lower() not in service.formats


def _path(name: str, protocol: str) -> str:
    return f"/v1/models/{name}:predict" if protocol == "v1" else f"/v2/models/{name}/infer"

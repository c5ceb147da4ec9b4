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
from shoal_api.trained_model import ServerTuning, ServingState
from shoal_api.tuning import UNTUNED

from shoal_operator.servers import profiles
from shoal_operator.state.world.cause import cause
from shoal_operator.state.world.values import Content, Problem, Refusal, ServiceSpec
from shoal_operator.state.world.views import CopyState, ModelView

from . import causes, reasons
from .conditions import (
    FIELDS_IGNORED,
    TUNING_NOT_SUPPORTED,
    Finding,
    Verdict,
    conditions,
    false,
    fields_ignored,
    find,
    timestamp,
    true,
    tuning_not_supported,
    unknown,
)

Object = dict[str, Any]

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
        path = _path(view.spec.name, view.service)
        host = f"{view.spec.service}.{view.spec.namespace}.svc.{cluster_domain}"
        status["url"] = f"{view.url}{path}"
        status["address"] = {"url": f"http://{host}{path}"}
    findings = diagnose(view, previous)
    status["serving"] = _serving(view, findings[READY])
    if view.last_good is not None:
        status["content"] = content(view.last_good) | revision(view.last_good, previous or {}, now)
    status["conditions"] = conditions(list(findings.items()), previous, now)
    return status


def _serving(view: ModelView, ready: Finding) -> str:
    """In one word, for `kubectl get tm`; like the conditions it is the same whether the model is loaded just now."""
    if ready.good:
        return ServingState.ON_DEMAND if _may_be_cold(view) else ServingState.KEPT
    if ready.verdict is Verdict.FALSE and not ready.waits:
        return ServingState.FAILED
    return ServingState.WAITING


def content(served: Content) -> Object:
    """``status.content``: what requests can count on."""
    given: Object = {"storageUri": served.storage_uri, "framework": served.framework}
    if served.memory_bytes is not None:
        given["memory"] = str(served.memory_bytes)
    if served.tuning != UNTUNED:
        given["serving"] = ServerTuning.of(served.tuning).model_dump(mode="json", by_alias=True, exclude_none=True)
    return given


def revision(served: Content, previous: Mapping[str, Any], now: datetime) -> Object:
    """What ``status.content`` says besides: which revision of it, and since when that is known, by the last status."""
    if not served.revision:
        return {}
    before = previous.get("content") or {}
    same = before.get("revision") == served.revision and before.get("storageUri") == served.storage_uri
    since = before.get("revisionSeen") if same else None
    return {"revision": served.revision, "revisionSeen": since or timestamp(now)}


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
    findings = {READY: _ready(view), **parts}
    not_honoured = _not_honoured(view)
    if not_honoured:
        findings[TUNING_NOT_SUPPORTED] = tuning_not_supported(not_honoured)
    ignored = view.spec.ignored_fields + _nothing_is_kept(view)
    if ignored:
        findings[FIELDS_IGNORED] = fields_ignored(ignored)
    return findings


def _nothing_is_kept(view: ModelView) -> tuple[str, ...]:
    many = view.service is not None and view.service.idle is not None and view.service.multi_model
    return ("spec.serving.minCopies, as the predictor's minReplicas is 0",) if many and view.spec.min_copies else ()


def _not_honoured(view: ModelView) -> tuple[str, ...]:
    if view.service is None or view.spec.tuning == UNTUNED:  # of most there is nothing to ask the profile
        return ()
    profile = profiles().get(view.service.server_type)
    if profile is None:
        return ()
    return profile.not_honoured(view.spec.tuning, view.service.policy.seconds, view.spec.framework)


def trouble(view: ModelView) -> Finding | None:
    """The first finding that needs someone to act, also while the previous content answers; None when all is well."""
    findings = diagnose(view)
    for kind in (READY, *_ORDER):
        finding = findings[kind]
        if finding.verdict is Verdict.FALSE and not finding.waits:
            return finding
    return None


# The first of these that someone has to act on is what an event says of a model that answers: causes first.
_ORDER = (
    IS_MMS_PREDICTOR,
    INFERENCE_SERVICE_READY,
    MEMORY_RESOURCE_AVAILABLE,
    SCHEDULED,
    STORAGE_RESOLVED,
    LOADED,
)


def _ready(view: ModelView) -> Finding:
    if view.service is not None and view.answers:
        return _answering(view)
    if view.on_demand:
        return _on_request(view)
    why = cause(view)
    if why is not None:
        return causes.finding(why, view)
    failure = _failure(view)
    if view.restoring and failure is not None:
        return unknown(message=f"The previous content is being loaded again. {failure.message}")
    if _may_be_cold(view) and not _found(view):
        return unknown(message="An agent is looking the artifact up; /explain of the operator says more if it lasts.")
    return unknown()


def _on_request(view: ModelView) -> Finding:
    """A request has it loaded: what the spec names, or the last good content instead."""
    if view.complaint is not None:
        return _as_before(view.complaint)
    failure = _failure(view)
    if failure is not None:
        return true(reasons.UPDATE_FAILED, f"{_PREVIOUS} {failure.message}")
    if _found(view) or view.last_good is None or view.last_good.digest == view.spec.content:
        return true(reasons.ON_DEMAND)
    return true(reasons.UPDATING, "A request loads the new content, or the previous one where that fails.")


_PREVIOUS = "Requests are answered with the previous content."


def _answering(view: ModelView) -> Finding:
    if view.complaint is not None:
        return _as_before(view.complaint)
    if any(copy.serving and copy.state is CopyState.LOADED for copy in view.copies):
        return true(reasons.ON_DEMAND if _may_be_cold(view) else reasons.LOADED)
    still = "The previous content keeps serving."
    failure = _failure(view)
    if failure is not None:
        return true(reasons.UPDATE_FAILED, f"{still} {failure.message}")
    if view.update_blocked:
        blocked = causes.update_blocked(view)
        return true(reasons.UPDATE_BLOCKED, f"{still} {blocked.message}", blocked.action)
    return true(reasons.UPDATING, "The previous content serves until the new one has loaded.")


def _service(view: ModelView) -> Finding:
    if view.service is None:
        return causes.no_service(view)
    if view.service.problem is not None:
        return causes.service_problem(view)
    return true(reasons.READY) if view.service_ready else causes.no_pods(view)


def _multi_model(view: ModelView) -> Finding:
    if view.service is None:
        return unknown(reasons.SERVICE_NOT_FOUND)
    return true(reasons.MULTI_MODEL) if view.service.takes(view.spec) else causes.single_model(view)


def _scheduled(view: ModelView) -> Finding:
    if view.unsupported:
        return causes.framework(view)
    refusal = _refusal(view)
    if view.too_large or view.kept_out or (refusal is not None and refusal.missing_bytes > 0):
        return false(reasons.INSUFFICIENT_MEMORY, "No pod has room; see MemoryResourceAvailable.")
    if refusal is not None and view.fits_no_pod:
        return causes.no_pod_fits(view)
    if _may_be_cold(view) and view.service is not None and view.service.problem is None:
        return true(reasons.ON_DEMAND)
    if view.placed:
        return true(reasons.PLACED)
    return unknown()


def _memory(view: ModelView, previous: Mapping[str, Any]) -> Finding:
    refusal = _refusal(view)
    if view.service is None or view.service.problem is not None:
        return unknown()
    if view.size is None:
        return _not_estimated(view, previous)
    if view.too_large:
        return causes.too_large(view)
    if view.kept_out or (refusal is not None and refusal.missing_bytes > 0):
        return causes.no_memory(view)
    if refusal is None and (_may_be_cold(view) or view.placed):
        return true(reasons.FITS, _estimate(view.size, previous) if view.spec.memory_bytes is None else "")
    return unknown()


def _not_estimated(view: ModelView, previous: Mapping[str, Any]) -> Finding:
    """After a restart the estimates are made anew; until then what was found for this very spec stays."""
    before = find(previous, MEMORY_RESOURCE_AVAILABLE)
    same = previous.get("observedGeneration") == view.spec.generation
    if same and _found(view) and (before.get("status"), before.get("reason")) == (Verdict.TRUE, reasons.FITS):
        return true(reasons.FITS, str(before.get("message", "")))
    if view.complaint is not None or view.spec.problem is not None:
        return unknown(message="Its memory is not declared, and is estimated once storageUri and the rest can be used.")
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


def _as_before(complaint: Problem) -> Finding:
    return true(reasons.UPDATE_FAILED, f"What was in force before stays in force. {complaint.message}")


def _storage(view: ModelView) -> Finding:
    if view.complaint is not None or view.spec.problem is not None:
        return causes.object_problem(view)
    if causes.failed_in(view, FailureStage.STORAGE):
        return causes.failed(view)
    if _found(view):
        return true(reasons.RESOLVED)
    return unknown()


def _loaded(view: ModelView, memory: Finding) -> Finding:
    cold = _may_be_cold(view)
    if view.loaded:
        return _on_demand() if cold else true(reasons.LOADED)
    if causes.failed_in(view, FailureStage.LOAD):
        return causes.failed(view)
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
    usable = view.service is not None and view.spec.problem is None and not view.unsupported
    return usable and memory.good and _found(view) and _failure(view) is None and not view.late


def _found(view: ModelView) -> bool:
    """Some agent has seen the artifact."""
    return view.artifact_seen or view.loaded


def _refusal(view: ModelView) -> Refusal | None:
    """Why no pod takes the model, where that is worth saying: a cold model of which a request would be answered has
    been refused nothing that matters; explain and the service's MemoryPressure say it."""
    overcommitted = _may_be_cold(view) and view.service is not None and not view.service.strict
    return None if overcommitted and view.ready and not view.update_blocked else view.refusal


def _failure(view: ModelView) -> CopyFailure | None:
    """Why the wanted content is loaded nowhere."""
    return None if view.loaded else view.failure


def _any(view: ModelView, state: CopyState) -> bool:
    return any(copy.state is state for copy in view.copies)


def _path(name: str, service: ServiceSpec) -> str:
    profile = profiles().get(service.server_type)
    if profile is not None:
        return profile.path(service.protocol, name)
    return f"/v1/models/{name}:predict" if service.protocol == "v1" else f"/v2/models/{name}/infer"

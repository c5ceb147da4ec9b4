"""An InferenceService's status: predictor, ingress, counts of its models, or the state of its own. Pure.

PredictorReady becomes True once all wanted pods are ready, and stays so while at least one is: a pod that is being
replaced takes no model away, since the others serve.

How many models are loaded just now is not here: it changes with every load, and loading writes nothing. It is the
metric ``shoal_models_loaded``. For the same reason numbers that are measured are said anew only when they have moved.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shoal_api.names import READY

from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.views import ModelView, ServiceView

from . import own_model, reasons
from .conditions import (
    FIELDS_IGNORED,
    TUNING_NOT_SUPPORTED,
    Finding,
    Verdict,
    conditions,
    false,
    fields_ignored,
    find,
    true,
    tuning_not_supported,
    unknown,
)
from .model_status import content, revision

Object = dict[str, Any]

PREDICTOR_READY = "PredictorReady"
INGRESS_READY = "IngressReady"
MEMORY_PRESSURE = "MemoryPressure"
MEMORY_MISDECLARED = "MemoryMisdeclared"
SCALED = "Scaled"
INTERNAL_ERROR = "InternalError"
STORAGE_SECRET_MISSING = "StorageSecretMissing"  # noqa: S105  # a word

FAR_OFF = (0.5, 1.5)
"""Measured over declared memory: outside of these it is said."""
_STAYS = 1.2
"""What was said stays until it is off by more than this factor."""
_MAX_FORMATS = 4
_MAX_NAMED = 4


def service_status(
    view: ServiceView, previous: Mapping[str, Any] | None, now: datetime, cluster_domain: str = "cluster.local"
) -> Object:
    """The whole status of an InferenceService; ``previous`` is the last one."""
    address = view.address or f"http://{view.spec.name}.{view.spec.namespace}.svc.{cluster_domain}"
    found = diagnose(view, previous)
    status: Object = {
        "observedGeneration": view.spec.generation,
        "url": view.url,
        "address": {"url": address},
        "components": {"predictor": _component(view, address)},
        "conditions": conditions(list(found.items()), previous, now),
    }
    if view.model is not None:
        status["modelStatus"] = own_model.says(view.model, found[PREDICTOR_READY], previous, now)
        if view.model.last_good is not None:
            good = view.model.last_good
            status["content"] = content(good) | revision(good, previous or {}, now)
    else:
        status["models"] = {"total": view.models_total, "ready": view.models_ready, "failed": view.models_failed}
        status["modelsReady"] = f"{view.models_ready}/{view.models_total}"
    return status


def _component(view: ServiceView, address: str) -> Object:
    """Where the predictor answers; of a model of its own by protocol as well, as ModelMesh's users read it."""
    component: Object = {"url": view.url, "address": {"url": address}}
    if view.model is not None:
        component |= {"restUrl": address, "grpcUrl": view.grpc_url or address.replace("http://", "grpc://", 1)}
    return component


def diagnose(view: ServiceView, previous: Mapping[str, Any] | None) -> dict[str, Finding]:
    """Every condition's finding, by condition type, in the order in which they are shown."""
    ingress = _ingress(view)
    predictor = _predictor(view, previous)
    if view.model is not None:
        predictor = _with_model(predictor, view, view.model)
    ready = next((finding for finding in (predictor, ingress) if not finding.good), None) or _good(predictor)
    findings = {READY: ready, PREDICTOR_READY: predictor, INGRESS_READY: ingress}
    if view.model is not None:
        own = own_model.findings(view.model)
        findings |= {kind: own[kind] for kind in own_model.SHOWN}
    if view.trouble is not None:
        findings[INTERNAL_ERROR] = true(view.trouble.reason, view.trouble.message)
    if view.pressure:
        findings[MEMORY_PRESSURE] = true(
            reasons.WORKING_SET_TOO_LARGE,
            "The models in use together take more memory than the pods have, so that models are unloaded which are "
            "asked for again soon.",
            "Raise the predictor's maxReplicas (or minReplicas) or resources.limits.memory, or spread the models over "
            "several InferenceServices.",
        )
    misdeclared = _misdeclared(view, find(previous, MEMORY_MISDECLARED)) if view.spec.multi_model else None
    if misdeclared is not None:
        findings[MEMORY_MISDECLARED] = misdeclared
    if view.spec.scaled_by or (view.spec.autoscaled and view.scaling_reason):
        findings[SCALED] = _scaled(view, find(previous, SCALED))
    if view.spec.missing_secrets:
        findings[STORAGE_SECRET_MISSING] = _missing(view)
    if view.spec.not_tuned:
        findings[TUNING_NOT_SUPPORTED] = tuning_not_supported(view.spec.not_tuned)
    if view.spec.ignored_fields:
        findings[FIELDS_IGNORED] = fields_ignored(view.spec.ignored_fields)
    return findings


def trouble(view: ServiceView) -> Finding | None:
    """What needs someone to act; None when all is well, or when it passes by itself."""
    finding = _predictor(view, None)
    if view.model is not None:
        finding = _with_model(finding, view, view.model)
    return finding if not finding.good and not finding.waits else None


def _good(predictor: Finding) -> Finding:
    return true(reasons.READY) if predictor.reason == reasons.READY else predictor


def _predictor(view: ServiceView, previous: Mapping[str, Any] | None) -> Finding:
    if view.spec.problem is not None:
        return false(view.spec.problem.reason, view.spec.problem.message)
    if view.phase is Phase.ZERO or (view.phase is Phase.WAKING and view.pod_expected and not _hindered(view)):
        return _resting(view)
    if view.pods_ready >= view.pods_wanted:
        if view.spec.degraded is not None:
            return true(view.spec.degraded.reason, view.spec.degraded.message)
        return true(reasons.READY)
    counted = f"{view.pods_ready} of {view.pods_wanted} pods are ready."
    # A setting that is not understood never keeps a pod from starting.
    setting = view.spec.degraded is not None and view.spec.degraded.reason == reasons.INVALID_SETTING
    cause = (view.pod_problem or view.spec.degraded) if setting else (view.spec.degraded or view.pod_problem)
    if view.pods_ready > 0 and find(previous, PREDICTOR_READY).get("status") == "True":
        why = cause.message if cause is not None else view.pod_waiting
        return true(reasons.PODS_MISSING, f"{counted} {why}".strip())
    if cause is not None:
        return false(cause.reason, f"{counted} {cause.message}")
    return unknown(reasons.PODS_STARTING, f"{counted} {view.pod_waiting}".strip())


def _hindered(view: ServiceView) -> bool:
    """Something keeps its pods from starting, as far as is known."""
    said = view.spec.degraded
    return view.pod_problem is not None or (said is not None and said.reason != reasons.INVALID_SETTING)


def _resting(view: ServiceView) -> Finding:
    """No pod, or none yet, which is as wanted."""
    wrong = f" {view.spec.degraded.message}" if view.spec.degraded is not None else ""
    if view.phase is Phase.ZERO:
        return true(
            reasons.SCALED_TO_ZERO,
            f"No pod runs, since minReplicas is 0 and no model was asked for. A request has one started, and waits up "
            f"to {view.spec.wake_timeout:g} s for it.{wrong}",
        )
    return true(reasons.WAKING, f"A pod is being started; requests wait for it.{wrong}")


def _with_model(predictor: Finding, view: ServiceView, model_view: ModelView) -> Finding:
    """The model's trouble before its pods', which it may be the cause of. Where all is well its own word as well: it
    says which content answers."""
    model = own_model.findings(model_view)[READY]
    if predictor.reason in (reasons.SCALED_TO_ZERO, reasons.WAKING):
        return predictor if model.reason == reasons.ON_DEMAND else model
    acts = model.verdict is Verdict.FALSE and not model.waits
    if view.spec.problem is None and acts:
        return model
    return model if predictor.reason == reasons.READY else predictor


def _missing(view: ServiceView) -> Finding:
    names = ", ".join(view.spec.missing_secrets[:_MAX_NAMED])
    more = ", …" if len(view.spec.missing_secrets) > _MAX_NAMED else ""
    return true(
        reasons.SECRET_NOT_FOUND,
        f"The predictor's service account lists Secrets that are not in namespace {view.spec.namespace}, or may not be "
        f"read by the operator: {names}{more}. Storage is reached without them.",
        "Create them, which is noticed, or take them out of the service account.",
    )


def _misdeclared(view: ServiceView, before: Mapping[str, Any]) -> Finding | None:
    """Formats whose models take far more or less than they declare, the largest factor first."""
    said = dict(_SAID.findall(str(before.get("message", ""))))
    low, high = FAR_OFF
    found: list[tuple[float, str]] = []
    for name, ratio in view.memory_ratios:
        told = said.get(name)
        if told is not None and float(told) <= ratio * _STAYS and ratio <= float(told) * _STAYS:
            found.append((float(told), name))
        elif not low <= ratio <= high:
            found.append((ratio, name))
    if not found:
        return None
    found.sort(reverse=True)
    parts = [f"{name} models take {_factor(ratio)} times the memory that they declare" for ratio, name in found]
    shown = "; ".join(parts[:_MAX_FORMATS]) + (f"; and {len(parts) - _MAX_FORMATS} more" if len(parts) > 4 else "")
    worst = found[0][0]
    return true(
        reasons.DECLARED_TOO_LITTLE if worst > high else reasons.DECLARED_TOO_MUCH,
        f"As measured on the pods, {shown}.",
        "Correct spec.model.memory of these TrainedModels by that factor, or leave it out to have it estimated.",
    )


_SAID = re.compile(r"(\S+) models take ([0-9]+(?:\.[0-9]+)?) times")


def _scaled(view: ServiceView, before: Mapping[str, Any]) -> Finding:
    """Why there are as many pods as there are; numbers within the sentence that only drift are not said anew."""
    pods = f"{view.pods_wanted} pod{'' if view.pods_wanted == 1 else 's'}: "
    finding = true(reasons.AUTOSCALED, pods + (view.spec.scaled_by or view.scaling_reason))
    told = str(before.get("message", ""))
    if told.startswith(pods) and _NUMBER.sub("#", told) == _NUMBER.sub("#", finding.text):
        return true(reasons.AUTOSCALED, told)
    return finding


def _factor(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 1 else f"{max(ratio, 0.01):.2f}"


_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def _ingress(view: ServiceView) -> Finding:
    if view.gateways > 0:
        return true(reasons.READY)
    return false(
        reasons.NO_GATEWAY,
        "No gateway is connected to the operator.",
        "If it lasts: kubectl get pods -A -l app.kubernetes.io/component=gateway",
    )

"""An InferenceService's status: predictor, ingress, counts of its models. Pure.

PredictorReady becomes True once all wanted pods are ready, and stays so while at least one is: a pod that is being
replaced takes no model away, since the others serve.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shoal_api.names import READY

from shoal_operator.state.views import ServiceView

from . import reasons
from .conditions import Finding, conditions, false, find, true, unknown

Object = dict[str, Any]

PREDICTOR_READY = "PredictorReady"
INGRESS_READY = "IngressReady"
FIELDS_IGNORED = "FieldsIgnored"


def service_status(
    view: ServiceView, previous: Mapping[str, Any] | None, now: datetime, cluster_domain: str = "cluster.local"
) -> Object:
    """The whole status of an InferenceService; ``previous`` is the last one."""
    address = f"http://{view.spec.name}.{view.spec.namespace}.svc.{cluster_domain}"
    return {
        "observedGeneration": view.spec.generation,
        "url": view.url,
        "address": {"url": address},
        "components": {"predictor": {"url": view.url, "address": {"url": address}}},
        "models": {"total": view.models_total, "ready": view.models_ready, "failed": view.models_failed},
        "modelsReady": f"{view.models_ready}/{view.models_total}",
        "conditions": conditions(list(diagnose(view, previous).items()), previous, now),
    }


def diagnose(view: ServiceView, previous: Mapping[str, Any] | None) -> dict[str, Finding]:
    """Every condition's finding, by condition type, in the order in which they are shown."""
    predictor, ingress = _predictor(view, previous), _ingress(view)
    ready = next((finding for finding in (predictor, ingress) if not finding.good), None) or _good(predictor)
    findings = {READY: ready, PREDICTOR_READY: predictor, INGRESS_READY: ingress}
    if view.spec.ignored_fields:
        findings[FIELDS_IGNORED] = true(
            reasons.FIELDS_NOT_SUPPORTED, f"Without effect here: {', '.join(view.spec.ignored_fields)}."
        )
    return findings


def trouble(view: ServiceView) -> Finding | None:
    """What needs someone to act; None when all is well, or when it passes by itself."""
    finding = _predictor(view, None)
    return finding if not finding.good and not finding.waits else None


def _good(predictor: Finding) -> Finding:
    return true(reasons.READY) if predictor.reason == reasons.READY else predictor


def _predictor(view: ServiceView, previous: Mapping[str, Any] | None) -> Finding:
    if view.spec.problem is not None:
        return false(view.spec.problem.reason, view.spec.problem.message)
    if view.pods_ready >= view.pods_wanted:
        if view.spec.degraded is not None:
            return true(view.spec.degraded.reason, view.spec.degraded.message)
        return true(reasons.READY)
    counted = f"{view.pods_ready} of {view.pods_wanted} pods are ready."
    cause = view.spec.degraded or view.pod_problem
    if view.pods_ready > 0 and find(previous, PREDICTOR_READY).get("status") == "True":
        return true(reasons.PODS_MISSING, f"{counted} {cause.message if cause is not None else ''}".strip())
    if cause is not None:
        return false(cause.reason, f"{counted} {cause.message}")
    return unknown(reasons.PODS_STARTING, counted)


def _ingress(view: ServiceView) -> Finding:
    if view.gateways > 0:
        return true(reasons.READY)
    return false(
        reasons.NO_GATEWAY,
        "No gateway is connected to the operator.",
        "If it lasts: kubectl get pods -A -l app.kubernetes.io/component=gateway",
    )

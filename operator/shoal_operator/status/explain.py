"""Everything about one model for GET /explain/<namespace>/<model>: what is wanted, what is, and why not more. Pure.

Conditions are kept short because each revision of them stays in etcd; here is room for every pod's word.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from shoal_api.messages import CopyFailure
from shoal_api.quantity import format_bytes

from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import ModelSpec, Problem, Refusal, Verdict
from shoal_operator.state.world.views import CopyView, Decision, ModelView

from .conditions import timestamp
from .model_status import diagnose

Object = dict[str, Any]

MAX_VERDICTS = 200
"""Pods whose word is shown; an answer stays readable with thousands of them."""


def explain(
    view: ModelView, *, filters: Mapping[str, str] | None = None, waiting_requests: int | None = None
) -> Object:
    """A JSON object for people; fields are added, not renamed.

    ``filters``: what each filter of placement asks of a pod, by its name. ``waiting_requests``: held by the activator
    for this model now, None when that is not known.
    """
    spec, service = view.spec, view.service
    return {
        "model": {
            "namespace": spec.namespace,
            "name": spec.name,
            "uid": spec.uid,
            "generation": spec.generation,
            "storageUri": spec.storage_uri,
            "framework": spec.framework,
            "memoryBytes": spec.memory_bytes,
            "minCopies": spec.min_copies,
            "maxCopies": spec.max_copies,
            "content": spec.content,
            "revision": view.revision or None,
            "tuning": spec.tuning.model_dump(exclude_none=True),
        },
        "summary": summary(view),
        "answers": view.answers,
        "onDemand": view.on_demand,
        "conditions": [
            {"type": kind, "status": found.verdict.value, "reason": found.reason, "message": found.text}
            for kind, found in diagnose(view).items()
        ],
        "copiesWanted": {
            "now": view.wanted_copies,
            "wish": view.wish,
            "min": view.min_copies,
            "max": spec.max_copies,
        },
        "copies": [_copy(copy) for copy in sorted(view.copies, key=lambda copy: copy.pod)],
        "use": {
            "requestsPerSecond": round(view.requests_per_second, 3),
            "idleSeconds": _seconds(view.idle_seconds),
            "idleUnloadSeconds": spec.idle_unload,
            "waitingRequests": waiting_requests,
        },
        "memory": _memory(view),
        "keptOut": {"obtainableBytes": view.obtainable_bytes, "by": list(view.kept_by)} if view.kept_out else None,
        "artifactSeen": view.artifact_seen,
        "artifactBytes": view.artifact_bytes,
        "failure": _failure(view.failure),
        "updateBlocked": view.update_blocked,
        "refused": None if view.refusal is None else _refusal(view.refusal, filters or {}),
        "otherPods": _verdicts(view.verdicts, filters or {}),
        "decisions": [_decision(decision) for decision in view.decisions],
        "inferenceService": {
            "name": spec.service,
            "exists": service is not None,
            "ready": view.service_ready,
            "url": view.url,
            "serverType": service.server_type if service is not None else None,
            "formats": sorted(service.formats) if service is not None else [],
            "capacityBytes": service.capacity_bytes if service is not None else None,
            "placement": None if service is None else "strict" if service.strict else "overcommit",
            "activationTimeoutSeconds": service.activation_timeout if service is not None else None,
            "maxHeldRequests": service.max_held if service is not None else None,
            "pods": view.phase,
            "idleSeconds": service.idle if service is not None else None,
            "wakeTimeoutSeconds": service.wake_timeout if service is not None and service.idle is not None else None,
            "memoryPressure": view.pressure,
        },
    }


def summary(view: ModelView) -> str:
    """One sentence: where the model is, and why not elsewhere."""
    serving = sum(copy.serving for copy in view.copies)
    if serving:
        return f"{serving} of {max(view.wanted_copies, serving)} wanted copies answer requests."
    if view.on_demand:
        ready, *_ = diagnose(view).values()
        if view.phase is Phase.ZERO:
            return "No pod runs, which is as wanted: a request has one started, and the model loaded."
        return ready.text or "Not loaded, which is as wanted: a request has it loaded."
    ready, *parts = diagnose(view).values()
    if ready.text:
        return f"Not loaded: {ready.text}"
    return next((part.text for part in parts if not part.good and part.text), "On its way: see copies.")


def not_known(namespace: str, name: str, *, recovering: bool, is_service: bool, models: int | None) -> Problem:
    """Why there is nothing to explain. ``models``: TrainedModels known in that namespace; None: not counted.
    ``is_service``: there is an InferenceService of that name."""
    if recovering:
        return Problem(
            "Recovering", "The operator has just started and does not know all models yet; ask again in some seconds."
        )
    if is_service:
        return Problem(
            "NotATrainedModel",
            f"{namespace}/{name} is an InferenceService; name one of its TrainedModels: kubectl get tm -n {namespace}",
        )
    if models == 0:
        return Problem(
            "NamespaceWithoutModels",
            f"No TrainedModel is known in namespace {namespace}. If kubectl get tm -n {namespace} shows some, the "
            "operator does not watch that namespace.",
        )
    return Problem(
        "ModelNotFound",
        f"There is no TrainedModel {name} in namespace {namespace}; kubectl get tm -n {namespace} lists those there "
        "are.",
    )


def _copy(copy: CopyView) -> Object:
    return {
        "pod": copy.pod,
        "podUid": copy.pod_uid,
        "state": copy.state.value,
        "serving": copy.serving,
        "revision": copy.revision or None,
        "requestsPerSecond": round(copy.requests_per_second, 3),
        "loadedForSeconds": _seconds(copy.age_seconds),
        "failure": _failure(copy.failure),
    }


def _failure(failure: CopyFailure | None) -> Object | None:
    if failure is None:
        return None
    return {
        "stage": failure.stage.value,
        "reason": failure.reason,
        "message": failure.message,
        "attempts": failure.attempts,
        "retryAt": failure.retry_at,
        "retryTime": _moment(failure.retry_at),
    }


def _memory(view: ModelView) -> Object:
    return {
        "bytes": view.memory_bytes,
        "shown": format_bytes(view.memory_bytes) if view.memory_bytes is not None else None,
        "found": _how(view.spec, view.memory_bytes),
    }


def _how(spec: ModelSpec, size: int | None) -> str:
    if size is None:
        return "not known yet: spec.model.memory is left out, and no agent has seen the artifact"
    if spec.memory_bytes is None:
        return "estimated from the artifact's size and from what models of this format take on the pods"
    workers = spec.tuning.workers
    return "declared in spec.model.memory" + (f", of each of its {workers} workers" if workers > 1 else "")


def _refusal(refusal: Refusal, filters: Mapping[str, str]) -> Object:
    return {"missingBytes": refusal.missing_bytes, "verdicts": _verdicts(refusal.verdicts, filters)}


def _verdicts(verdicts: Sequence[Verdict], filters: Mapping[str, str]) -> list[Object]:
    shown = sorted(verdicts, key=lambda verdict: verdict.pod)[:MAX_VERDICTS]
    return [
        {
            "pod": verdict.pod,
            "filter": verdict.filter,
            "message": verdict.message,
            "rule": filters.get(verdict.filter, ""),
        }
        for verdict in shown
    ]


def _decision(decision: Decision) -> Object:
    return {
        "secondsAgo": _seconds(decision.seconds_ago),
        "pod": decision.pod,
        "what": decision.what,
        "why": decision.why,
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _moment(seconds_since_epoch: float | None) -> str | None:
    if seconds_since_epoch is None:
        return None
    return timestamp(datetime.fromtimestamp(seconds_since_epoch, UTC))

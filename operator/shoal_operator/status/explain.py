"""Everything about one model for GET /explain/<namespace>/<model>: conditions, each copy, each pod's word. Pure."""

from typing import Any

from shoal_operator.state.views import CopyView, ModelView

from .model_status import diagnose

Object = dict[str, Any]


def explain(view: ModelView) -> Object:
    """A JSON object for people; fields are added, not renamed."""
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
            "content": spec.content,
        },
        "inferenceService": {
            "name": spec.service,
            "exists": service is not None,
            "ready": view.service_ready,
            "url": view.url,
            "serverType": service.server_type if service is not None else None,
            "formats": sorted(service.formats) if service is not None else [],
            "capacityBytes": service.capacity_bytes if service is not None else None,
        },
        "answers": view.answers,
        "artifactSeen": view.artifact_seen,
        "updateBlocked": view.update_blocked,
        "conditions": [
            {"type": kind, "status": found.verdict.value, "reason": found.reason, "message": found.text}
            for kind, found in diagnose(view).items()
        ],
        "copies": [_copy(copy) for copy in sorted(view.copies, key=lambda copy: copy.pod)],
        "refused": None
        if view.refusal is None
        else {
            "missingBytes": view.refusal.missing_bytes,
            "verdicts": [
                {"pod": verdict.pod, "filter": verdict.filter, "message": verdict.message}
                for verdict in view.refusal.verdicts
            ],
        },
    }


def _copy(copy: CopyView) -> Object:
    failure = copy.failure
    return {
        "pod": copy.pod,
        "podUid": copy.pod_uid,
        "state": copy.state.value,
        "serving": copy.serving,
        "failure": None
        if failure is None
        else {
            "stage": failure.stage.value,
            "reason": failure.reason,
            "message": failure.message,
            "attempts": failure.attempts,
            "retryAt": failure.retry_at,
        },
    }

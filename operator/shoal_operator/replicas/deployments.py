"""What a Deployment says of its pods, and who beside us has set their number. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shoal_api.names import FIELD_MANAGER

from shoal_operator.manifests import reasons
from shoal_operator.manifests.former import ANNOTATION_SERVES
from shoal_operator.manifests.volume_claims import NOTHING, Noted, noted
from shoal_operator.state.world.values import Problem

_NOT_AUTOSCALERS = ("kube-controller-manager", "kubectl")


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """What a Deployment says of its pods. ``refused``: why further pods cannot be made (quota, admission).
    ``serves``: what they were made for (``manifests.former``). ``starting``: not all are ready. ``claims``: what they
    mount for models.

    ``replicas``: that there are. ``wanted``: that there should be, None without a Deployment. ``scale_manager``: the
    controller that has set this through the scale subresource, if one has.
    """

    replicas: int = 0
    refused: Problem | None = None
    wanted: int | None = None
    scale_manager: str = ""
    serves: str = ""
    starting: bool = False
    claims: Noted = NOTHING


def deployment_state(obj: Mapping[str, Any]) -> DeploymentState:
    """Read from a Deployment."""
    status = obj.get("status") or {}
    refused = None
    for condition in status.get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            said = " ".join(str(condition.get("message") or "no message").split())[:400]
            refused = Problem(
                reasons.WORKLOAD_REFUSED,
                f"The API server refuses pods of Deployment {obj['metadata']['name']}: {said.rstrip('.')}. Change the "
                "quota or policy, or the InferenceService.",
            )
    wanted = (obj.get("spec") or {}).get("replicas")
    return DeploymentState(
        replicas=int(status.get("replicas") or 0),
        refused=refused,
        wanted=1 if wanted is None else int(wanted),
        scale_manager=_scale_manager(obj),
        starting=int(status.get("unavailableReplicas") or 0) > 0,
        claims=noted(obj),
        serves=str(((obj.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION_SERVES, "")),
    )


def _scale_manager(deployment: Mapping[str, Any]) -> str:
    """Who beside us has set spec.replicas through the scale subresource, as autoscalers do.

    Kubernetes' own controller is left out: it writes for HorizontalPodAutoscalers, and whether there is one is known
    from those. So is kubectl: a person's edit is put right, like any other of what we own.
    """
    names = {
        str(entry.get("manager", ""))
        for entry in (deployment.get("metadata") or {}).get("managedFields") or ()
        if entry.get("subresource") == "scale" and "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    }
    return min((n for n in names if n != FIELD_MANAGER and not n.startswith(_NOT_AUTOSCALERS)), default="")

"""The objects that an InferenceService owns: their paths, whose they are, and whether one is still as applied."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from shoal_api.names import LABEL_INFERENCE_SERVICE, LABEL_MANAGED_BY, MANAGED_BY
from shoal_api.quantity import whole_number

from shoal_operator.kube import object_path
from shoal_operator.manifests.render import fingerprint
from shoal_operator.state.world.values import ServiceKey

Object = dict[str, Any]

KINDS: Mapping[str, tuple[str, str]] = {
    "Deployment": ("apps/v1", "deployments"),
    "Service": ("v1", "services"),
    "ConfigMap": ("v1", "configmaps"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers"),
}
"""API version and plural of every kind that is applied; the watch selects them by label ``OWNED_SELECTOR``, but for
HorizontalPodAutoscalers: users bring theirs."""

UNWATCHED_KINDS = frozenset({"ConfigMap"})
"""May be read and written by name only (least privilege), so they are looked at from time to time instead."""

OWNED_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY}"

_CONTROLLERS_ANNOTATIONS = ("deployment.kubernetes.io/",)
_COMPARED = ("spec", "data", "binaryData", "immutable")


class ObjectKey(NamedTuple):
    """One owned object by name."""

    kind: str
    namespace: str
    name: str

    @property
    def path(self) -> str:
        """URL path in the API."""
        version, plural = KINDS[self.kind]
        return object_path(version, plural, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Live:
    """An owned object as last seen. ``content``: fingerprint of all that users and we write, without its status."""

    uid: str
    version: int
    owner_uid: str
    service: ServiceKey | None
    content: str


def object_key(obj: Mapping[str, Any]) -> ObjectKey:
    """The key of a manifest or live object."""
    meta = obj["metadata"]
    return ObjectKey(str(obj["kind"]), str(meta["namespace"]), str(meta["name"]))


def live(obj: Mapping[str, Any]) -> Live:
    """A live object's part that matters here."""
    meta = obj.get("metadata") or {}
    labels = meta.get("labels") or {}
    version = str(meta.get("resourceVersion", ""))
    service = labels.get(LABEL_INFERENCE_SERVICE)
    return Live(
        uid=str(meta.get("uid", "")),
        version=whole_number(version) or 0,
        owner_uid=controller_uid(meta),
        service=ServiceKey(str(meta.get("namespace", "")), str(service)) if service else None,
        content=_content(obj),
    )


def controller_uid(metadata: Mapping[str, Any]) -> str:
    """UID of the object that controls this one; empty when none does."""
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference.get("uid", ""))
    return ""


def is_ours(metadata: Mapping[str, Any]) -> bool:
    """Whether the object was made by us, by its label."""
    return (metadata.get("labels") or {}).get(LABEL_MANAGED_BY) == MANAGED_BY


def own_replicas_alone(deployment: Mapping[str, Any], manager: str) -> bool:
    """Whether nobody but ``manager`` has set spec.replicas: giving it up would then reset it to 1."""
    owners = set()
    for entry in (deployment.get("metadata") or {}).get("managedFields") or ():
        spec = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if "f:replicas" in spec:
            owners.add((entry.get("manager"), entry.get("operation")))
    return owners == {(manager, "Apply")}


def _content(obj: Mapping[str, Any]) -> str:
    meta = obj.get("metadata") or {}
    annotations = {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if not key.startswith(_CONTROLLERS_ANNOTATIONS)
    }
    compared = {key: obj[key] for key in _COMPARED if key in obj}
    return fingerprint(
        {
            "labels": meta.get("labels") or {},
            "annotations": annotations,
            "owners": meta.get("ownerReferences") or [],
            **compared,
        }
    )

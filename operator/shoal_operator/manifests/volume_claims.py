"""PersistentVolumeClaims with models on them, as pods mount them: which, by whose word, and when they need not. Pure.

They are in the pods' template, so another one replaces the pods. A claim that nobody needs any more therefore stays in
it until something else changes: what the template was made of but for the claims is noted on the Deployment, beside
the claims.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from shoal_api.claim_uri import is_claim_name
from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService
from shoal_api.names import AGENT_CONTAINER, ANNOTATION_CLAIMS, ANNOTATION_MODELS_FROM, CLAIMS_DIR
from shoal_api.storage_uri import claim_of

from .annotations import shown

Object = dict[str, Any]

ANNOTATION_MOUNTED: Final = "shoal.dev/claims-mounted"
"""On Deployments: the claims that their pods mount for models, what the template is made of beside them, and with which
of the claims a pod has started, so that an operator that starts does not doubt them."""
CLAIM_VOLUME_PREFIX: Final = "shoal-claim-"
MAX_CLAIMS: Final = 16
"""Each is a volume of every pod."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What an InferenceService itself says: ``claims``, by its annotations or for a model of its own, and those that
    its pods mount already, with the name of their ``volumes``."""

    claims: tuple[str, ...] = ()
    volumes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Noted:
    """What a Deployment says. ``there``: there is one. ``claims``: those that its template has, and what it is made of
    beside them. ``pods``: that there should be. ``works``: one of that template is available; ``rolled_out``: there are
    no others. ``proven``: claims of it with which a pod had started when it was written."""

    there: bool = False
    claims: tuple[str, ...] = ()
    template: str = ""
    pods: int = 0
    works: bool = False
    rolled_out: bool = False
    proven: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mounting:
    """``wanted``: claims that pods are to mount. ``noted``: what they do mount; None: that has to go in any case.
    ``proven``: those with which a pod has started."""

    wanted: tuple[str, ...] = ()
    noted: Noted | None = None
    proven: frozenset[str] = frozenset()

    def claims(self, template: str) -> tuple[str, ...]:
        """What a template has that is made of ``template`` beside its claims."""
        noted = self.noted
        if noted is not None and noted.template == template and set(self.wanted) <= set(noted.claims):
            return noted.claims
        return tuple(sorted(self.wanted))


NOTHING: Final = Noted()
NONE_MOUNTED: Final = Mounting()


def declared(
    isvc: InferenceService, pod_fields: Mapping[str, Any], containers: Iterable[Mapping[str, Any]] = ()
) -> tuple[Declared, tuple[str, ...]]:
    """What it says, and a sentence for what cannot be. Never raises for what is written. ``containers``: of its pods,
    beside the initContainers."""
    text = isvc.metadata.annotations.get(ANNOTATION_CLAIMS, "")
    named = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in named if not is_claim_name(name)]
    said: tuple[str, ...] = ()
    if wrong:
        said = (
            f"Annotation {ANNOTATION_CLAIMS} has {shown(wrong[0])}: write names of PersistentVolumeClaims of this "
            "namespace, with commas between them; the others hold.",
        )
    claims = [name for name in named if name not in wrong]
    claims.append(claim_of(isvc.metadata.annotations.get(ANNOTATION_MODELS_FROM, "")))
    if isvc.spec.predictor.own_model() and not isvc.spec.predictor.multi_model():
        with suppress(SpecError):  # which its model says
            claims.append(claim_of(isvc.own_location()))
    containers = (*containers, *(pod_fields.get("initContainers") or ()))
    devices = {str(each.get("name", "")) for of in containers for each in of.get("volumeDevices") or ()}
    volumes = dict(_claim_volumes(pod_fields.get("volumes") or (), devices))
    own = dict.fromkeys(name for name in claims if name and name not in volumes)
    return Declared(tuple(own)[:MAX_CLAIMS], tuple(volumes.items())), said


def _claim_volumes(volumes: Iterable[Mapping[str, Any]], devices: set[str]) -> Iterable[tuple[str, str]]:
    """Claims and the volumes that have their files: one that a container has as a device has none."""
    for volume in volumes:
        claim, name = str((volume.get("persistentVolumeClaim") or {}).get("claimName", "")), str(volume.get("name", ""))
        if is_claim_name(claim) and name not in devices:
            yield claim, name


def mount(template: Object, claims: Iterable[str], volumes: Mapping[str, str]) -> Object:
    """A pods' template whose agent has ``claims``; ``volumes``: those of them that are volumes already, by name. Nobody
    but the agent has them: the model server sees what was copied."""
    names = {claim: volumes.get(claim) or claim_volume(claim) for claim in claims}
    if not names:
        return template
    spec = template["spec"]
    mounts = [
        {"name": volume, "mountPath": f"{CLAIMS_DIR}/{claim}", "readOnly": True} for claim, volume in names.items()
    ]
    # Read-only as a whole, not only for the agent: else the kubelet would have its files change owner (fsGroup).
    more = [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        for claim, volume in names.items()
        if claim not in volumes
    ]
    containers = [
        {**each, "volumeMounts": [*each["volumeMounts"], *mounts]} if each["name"] == AGENT_CONTAINER else each
        for each in spec["initContainers"]
    ]
    return {**template, "spec": {**spec, "initContainers": containers, "volumes": [*spec["volumes"], *more]}}


def claim_volume(claim: str) -> str:
    """Name of a claim's volume: claims' names may be longer than volumes', and hold dots."""
    return f"{CLAIM_VOLUME_PREFIX}{hashlib.blake2b(claim.encode(), digest_size=6).hexdigest()}"


def note(claims: Iterable[str], template: str, proven: Collection[str] = ()) -> str:
    """The annotation's value."""
    there = sorted(claims)
    known = [claim for claim in there if claim in proven]
    return json.dumps(
        {"claims": there, "template": template, **({"proven": known} if known else {})}, separators=(",", ":")
    )


def noted(deployment: Mapping[str, Any]) -> Noted:
    """Read from a Deployment. Never raises for what others wrote."""
    meta, spec, status = (deployment.get(key) or {} for key in ("metadata", "spec", "status"))
    claims, template, proven = _read(str((meta.get("annotations") or {}).get(ANNOTATION_MOUNTED, "")))
    pods = 1 if spec.get("replicas") is None else int(spec["replicas"])
    count = {key: int(status.get(key) or 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    others = count["replicas"] - count["updatedReplicas"]
    seen = status.get("observedGeneration") == meta.get("generation")
    return Noted(
        there=True,
        claims=claims,
        template=template,
        pods=pods,
        works=seen and count["updatedReplicas"] > 0 and count["availableReplicas"] > others,
        rolled_out=seen and others == 0 and count["availableReplicas"] == count["replicas"] >= pods,
        proven=proven,
    )


def _read(annotation: str) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    try:
        read = json.loads(annotation)
        claims = tuple(str(name) for name in read["claims"])
        proven = {str(name) for name in read.get("proven") or ()}
        if len(claims) <= MAX_CLAIMS and all(map(is_claim_name, claims)):
            return claims, str(read["template"]), tuple(claim for claim in claims if claim in proven)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return (), "", ()

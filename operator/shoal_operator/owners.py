"""InferenceServices as they are written: which bring pods, which a model of their own, and which both.

The rest does not know the difference: pods are a group's, whoever it is of, and models are models.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.inference_service import MODEL_MESH, InferenceService
from shoal_api.names import ANNOTATION_DEPLOYMENT_MODE

from .manifests.groups import DEFAULT_GROUPS, GroupSettings
from .manifests.runtimes import Runtime, asked
from .members import Members
from .state.world.events import Event, ModelSeen
from .state.world.values import Content, ModelKey, ModelSpec, Problem, ServiceKey, ServiceSpec, Source
from .watch.claims import Claims
from .watch.own_model import PINNED_BYTES, own_model
from .watch.parse import failure, last_good, vouched
from .workloads import WorkloadController

Object = Mapping[str, Any]


LEFT_TO_KSERVE = "ServedByKServe"
_KSERVES = Problem(
    LEFT_TO_KSERVE,
    "KServe's CRDs are in this cluster, so that an InferenceService without annotation "
    f"{ANNOTATION_DEPLOYMENT_MODE}: {MODEL_MESH} is KServe's, and Shoal has taken its pods away. Set that annotation "
    "to have Shoal serve it; where KServe's controller does not run, set operator.inferenceServices of the chart.",
)


class Owners:
    """``handle`` gets what is told of models; ``lost``: told of objects whose status may have changed. ``settings``: of
    the pods of ModelMesh's InferenceServices."""

    def __init__(
        self,
        workloads: WorkloadController,
        handle: Callable[[Event], None],
        holder: Callable[[ModelKey], ModelSpec | None],
        lost: Callable[[Source, ModelKey], None],
        settings: GroupSettings = DEFAULT_GROUPS,
    ) -> None:
        self._workloads = workloads
        self.claims = Claims(handle, holder, lost)
        self._members = Members(workloads, self.claims, settings)
        self._lost = lost
        self._left: dict[ModelKey, ServiceSpec] = {}
        self._wishes: dict[ModelKey, int] = {}  # of members: thousands, whose statuses change more often

    def seen(self, obj: Object) -> None:
        """An InferenceService is there, as it is now."""
        meta = obj["metadata"]
        key, uid = ModelKey(str(meta["namespace"]), str(meta["name"])), str(meta["uid"])
        if self._wishes.get(key) == (wish := _wish(meta)):
            return  # only its status changed
        if meta.get("deletionTimestamp") is not None:
            self._no_model(key, uid)
            self._workloads.inference_service_seen(obj)
            return
        try:
            isvc = InferenceService.read(dict(obj))
            shared = isvc.deployment_mode() == MODEL_MESH and isvc.spec.predictor.own_model()
            taken = self._workloads.takes(isvc)
            model = own_model(isvc, shared=shared) if taken else None
        except SpecError:
            if key not in self._members:  # else what it was before goes on
                self._workloads.inference_service_seen(obj)
            return
        self._leave(key, obj, taken=taken)
        if model is None or not shared:
            self._no_member(key, uid)
            self._workloads.inference_service_seen(obj)
        if model is None:
            self.claims.gone(Source.INFERENCE_SERVICE, key, uid)
            return
        said = last_good(obj)
        if shared:
            self._workloads.released(ServiceKey(*key))
            self._wishes[key] = wish
            self._members.seen(ModelSeen(model, vouched(obj), said, failure(obj)), asked(isvc))
        else:
            self.claims.seen(ModelSeen(model, vouched(obj), _counted(said), failure(obj)))

    def gone(self, namespace: str, name: str, uid: str) -> None:
        """An InferenceService is no more."""
        self._no_model(ModelKey(namespace, name), uid)
        self._workloads.inference_service_gone(namespace, name, uid)

    def left_to_kserve(self, key: ServiceKey) -> ServiceSpec | None:
        """What is to be said once more of an InferenceService that was ours and is KServe's now."""
        return self._left.get(ModelKey(*key))

    def _leave(self, key: ModelKey, obj: Object, *, taken: bool) -> None:
        """Its last status of ours says Ready still: KServe writes its own over it, where its controller runs."""
        if taken or not _said_by_us(obj):
            self._left.pop(key, None)
            return
        meta = obj["metadata"]
        bare = ServiceSpec(
            *key, str(meta["uid"]), int(meta.get("generation") or 0), 0, frozenset(), "", problem=_KSERVES
        )
        self._left[key] = bare
        self._lost(Source.INFERENCE_SERVICE, key)

    def runtime_seen(self, obj: Object) -> None:
        """A ServingRuntime or ClusterServingRuntime is there, as it is now."""
        self._workloads.runtime_seen(obj)
        runtime = Runtime.read(dict(obj))
        self._members.runtime_changed(runtime.namespace, runtime.name, runtime)

    def runtime_gone(self, namespace: str, name: str) -> None:
        """It is no more; a ClusterServingRuntime has no namespace."""
        self._workloads.runtime_gone(namespace, name)
        self._members.runtime_changed(namespace, name, None)

    def runtimes_listed(self) -> None:
        """All runtimes that there are have been seen."""
        self._workloads.runtimes_listed()
        self._members.runtimes_listed()

    def services_listed(self) -> None:
        """So have all InferenceServices, and before them all runtimes."""
        self._workloads.groups_known()

    def _no_model(self, key: ModelKey, uid: str) -> None:
        self._left.pop(key, None)
        self._no_member(key, uid)
        self.claims.gone(Source.INFERENCE_SERVICE, key, uid)

    def _no_member(self, key: ModelKey, uid: str) -> None:
        self._wishes.pop(key, None)
        self._members.gone(key, uid)


def _said_by_us(obj: Object) -> bool:
    """Its status is one of ours, and not the last one: KServe gives IngressReady no reason while all is well."""
    status = obj.get("status") or {}
    found = {each.get("type"): each for each in status.get("conditions") or () if isinstance(each, Mapping)}
    ours = found.get("IngressReady", {}).get("reason") in ("Ready", "NoGateway")
    return ours and found.get("Ready", {}).get("reason") != LEFT_TO_KSERVE


def _wish(meta: Object) -> int:
    """Differs when anything does that users write."""
    annotations = tuple(sorted((meta.get("annotations") or {}).items()))
    return hash((meta.get("uid"), meta.get("generation"), meta.get("deletionTimestamp"), annotations))


def _counted(content: Content | None) -> Content | None:
    return replace(content, memory_bytes=PINNED_BYTES) if content is not None else None

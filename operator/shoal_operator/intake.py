"""From what the informers tell to the rooms that want it (watch.informer.Sink)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from shoal_api.names import LABEL_INFERENCE_SERVICE

from shoal_operator.owners import Owners
from shoal_operator.state.world.events import Event, Kind, Listed, ModelSeen, PodGone, PodSeen
from shoal_operator.state.world.values import ModelKey, ServiceKey, Source
from shoal_operator.status.writer import StatusWriter
from shoal_operator.watch import kinds
from shoal_operator.watch.informer import Gone
from shoal_operator.watch.parse import failure, last_good, model_spec, vouched
from shoal_operator.watch.pods import pod_spec
from shoal_operator.workloads import WorkloadController

Object = Mapping[str, Any]


class Intake:
    """Parses each object once, and keeps nothing of it."""

    def __init__(
        self,
        handle: Callable[[Event], None],
        workloads: WorkloadController,
        owners: Owners,
        status: StatusWriter,
        failed: Callable[[ServiceKey | None, str, Exception], None],
    ) -> None:
        """``failed``: told of an object that could not be read at all, with its InferenceService if it names one."""
        self._handle = handle
        self._failed = failed
        self._workloads = workloads
        self._owners = owners
        self._status = status
        self._runtimes_to_come = {each.kind for each in kinds.RUNTIMES}
        self._services_listed = False
        self._seen: dict[str, Callable[[Object], None]] = {
            kinds.MODELS.kind: self._model_seen,
            kinds.SERVICES.kind: self._service_seen,
            kinds.PODS.kind: lambda obj: handle(PodSeen(pod_spec(obj))),
            **{each.kind: owners.runtime_seen for each in kinds.RUNTIMES},
            **{each.kind: partial(self._owned_seen, each.kind) for each in kinds.OWNED},
        }
        self._gone: dict[str, Callable[[Gone], None]] = {
            kinds.MODELS.kind: self._model_gone,
            kinds.SERVICES.kind: self._service_gone,
            kinds.PODS.kind: lambda gone: handle(PodGone(gone.uid)),
            **{each.kind: self._runtime_gone for each in kinds.RUNTIMES},
            **{each.kind: partial(self._owned_gone, each.kind) for each in kinds.OWNED},
        }

    def seen(self, kind: str, obj: Object) -> None:
        try:
            self._seen[kind](obj)
        except Exception as error:  # one object's trouble must not end the watch of all
            self._failed(_service(kind, obj), f"reading {kind}", error)

    def gone(self, kind: str, gone: Gone) -> None:
        try:
            self._gone[kind](gone)
        except Exception as error:
            self._failed(None, f"end of {kind}", error)

    def listed(self, kind: str) -> None:
        if kind in self._runtimes_to_come:
            self._runtimes_to_come.discard(kind)
            if not self._runtimes_to_come:
                self._owners.runtimes_listed()
                if self._services_listed:
                    self._all_services_told()
        elif kind == Kind.SERVICE:
            self._services_listed = True
            if not self._runtimes_to_come:  # until then no InferenceService has been passed on
                self._all_services_told()
        elif kind == kinds.AUTOSCALERS.kind:
            self._workloads.autoscalers_listed()
        elif kind in (Kind.MODEL, Kind.POD):
            self._handle(Listed(Kind(kind)))

    def _all_services_told(self) -> None:
        self._owners.services_listed()
        self._handle(Listed(Kind.SERVICE))

    def _model_seen(self, obj: Object) -> None:
        meta = obj["metadata"]
        key, version = ModelKey(meta["namespace"], meta["name"]), str(meta.get("resourceVersion", ""))
        self._status.observed_model_status(key, meta["uid"], version, obj.get("status"))
        if meta.get("deletionTimestamp") is not None:
            self._status.model_deleting(obj)
            self._owners.claims.gone(Source.TRAINED_MODEL, key, meta["uid"])
        else:
            self._owners.claims.seen(ModelSeen(model_spec(obj), vouched(obj), last_good(obj), failure(obj)))

    def _model_gone(self, gone: Gone) -> None:
        key = ModelKey(gone.namespace, gone.name)
        self._owners.claims.gone(Source.TRAINED_MODEL, key, gone.uid)
        self._status.model_gone(key)

    def _service_seen(self, obj: Object) -> None:
        meta = obj["metadata"]
        key, version = ServiceKey(meta["namespace"], meta["name"]), str(meta.get("resourceVersion", ""))
        self._status.observed_service_status(key, meta["uid"], version, obj.get("status"))
        self._owners.seen(obj)

    def _service_gone(self, gone: Gone) -> None:
        self._owners.gone(*gone)
        self._status.service_gone(ServiceKey(gone.namespace, gone.name))

    def _runtime_gone(self, gone: Gone) -> None:
        self._owners.runtime_gone(gone.namespace, gone.name)

    def _owned_seen(self, kind: str, obj: Object) -> None:
        meta = obj["metadata"]
        self._workloads.owned_object_changed(kind, meta["namespace"], meta["name"], obj)

    def _owned_gone(self, kind: str, gone: Gone) -> None:
        self._workloads.owned_object_changed(kind, gone.namespace, gone.name, None)


def _service(kind: str, obj: Object) -> ServiceKey | None:
    """Whose object it is, as far as that can be read."""
    meta, spec = obj["metadata"], obj.get("spec")
    name: Any = (meta.get("labels") or {}).get(LABEL_INFERENCE_SERVICE)
    if kind == kinds.SERVICES.kind:
        name = meta["name"]
    elif kind == kinds.MODELS.kind:
        name = spec.get("inferenceService") if isinstance(spec, Mapping) else None
    return ServiceKey(str(meta.get("namespace", "")), name) if isinstance(name, str) and name else None

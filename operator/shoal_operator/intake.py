"""From what the watch delivers to the rooms that want it (watch.handlers.Sink)."""

from collections.abc import Callable, Mapping
from typing import Any

from shoal_operator.state.events import Event, Kind, ModelGone, ModelSeen, PodGone, PodSeen
from shoal_operator.state.values import ModelKey, ServiceKey
from shoal_operator.status.writer import StatusWriter
from shoal_operator.watch.parse import model_spec, vouched
from shoal_operator.watch.sweep import Uids
from shoal_operator.workloads.controller import WorkloadController
from shoal_operator.workloads.pods import pod_spec

Object = Mapping[str, Any]


class Intake:
    """Parses each object once, and remembers only its UID (for the sweep)."""

    def __init__(self, handle: Callable[[Event], None], workloads: WorkloadController, status: StatusWriter) -> None:
        self._handle = handle
        self._workloads = workloads
        self._status = status
        self._uids: dict[Kind, Uids] = {kind: {} for kind in Kind}

    def known(self, kind: Kind) -> Uids:
        """UIDs by (namespace, name) of what the watch has delivered and not taken back."""
        return self._uids[kind]

    def model(self, obj: Object, *, gone: bool) -> None:
        name = self._note(Kind.MODEL, obj, gone)
        key, meta = ModelKey(*name), obj["metadata"]
        if gone:
            self._handle(ModelGone(key, meta["uid"]))
            if name not in self._uids[Kind.MODEL]:  # else another object has the name by now
                self._status.model_gone(key)
            return
        self._status.observed_model_status(key, meta["uid"], str(meta.get("resourceVersion", "")), obj.get("status"))
        if meta.get("deletionTimestamp") is not None:
            self._status.model_deleting(obj)
            self._handle(ModelGone(key, meta["uid"]))
        else:
            self._handle(ModelSeen(model_spec(obj), vouched(obj)))

    def inference_service(self, obj: Object, *, gone: bool) -> None:
        name = self._note(Kind.SERVICE, obj, gone)
        key, meta = ServiceKey(*name), obj["metadata"]
        if gone:
            self._workloads.inference_service_gone(*name, meta["uid"])
            if name not in self._uids[Kind.SERVICE]:
                self._status.service_gone(key)
            return
        self._status.observed_service_status(key, meta["uid"], str(meta.get("resourceVersion", "")), obj.get("status"))
        self._workloads.inference_service_seen(obj)

    def runtime(self, obj: Object, *, gone: bool) -> None:
        if gone:
            self._workloads.runtime_gone(obj)
        else:
            self._workloads.runtime_seen(obj)

    def pod(self, obj: Object, *, gone: bool) -> None:
        self._note(Kind.POD, obj, gone)
        self._handle(PodGone(obj["metadata"]["uid"]) if gone else PodSeen(pod_spec(obj)))

    def owned(self, kind: str, obj: Object, *, gone: bool) -> None:
        meta = obj["metadata"]
        self._workloads.owned_object_changed(kind, meta["namespace"], meta["name"], None if gone else obj)

    def _note(self, kind: Kind, obj: Object, gone: bool) -> tuple[str, str]:
        meta = obj["metadata"]
        key = (str(meta["namespace"]), str(meta["name"]))
        if not gone:
            self._uids[kind][key] = str(meta["uid"])
        elif self._uids[kind].get(key) == meta["uid"]:
            del self._uids[kind][key]
        return key

"""InferenceServices as they are written: which bring pods, which a model of their own, and which both.

The rest does not know the difference: pods are a group's, whoever it is of, and models are models.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService

from .state.world.events import Event, ModelSeen
from .state.world.values import Content, ModelKey, ModelSpec, Source
from .watch.claims import Claims
from .watch.own_model import PINNED_BYTES, own_model
from .watch.parse import failure, last_good, vouched
from .workloads import WorkloadController

Object = Mapping[str, Any]


class Owners:
    """``handle`` gets what is told of models; ``lost``: told of objects whose status may have changed."""

    def __init__(
        self,
        workloads: WorkloadController,
        handle: Callable[[Event], None],
        holder: Callable[[ModelKey], ModelSpec | None],
        lost: Callable[[Source, ModelKey], None],
    ) -> None:
        self._workloads = workloads
        self.claims = Claims(handle, holder, lost)

    def seen(self, obj: Object) -> None:
        """An InferenceService is there, as it is now."""
        self._workloads.inference_service_seen(obj)
        meta = obj["metadata"]
        key, uid = ModelKey(str(meta["namespace"]), str(meta["name"])), str(meta["uid"])
        if meta.get("deletionTimestamp") is not None:
            self.claims.gone(Source.INFERENCE_SERVICE, key, uid)
            return
        try:
            isvc = InferenceService.read(dict(obj))
            model = own_model(isvc) if self._workloads.takes(isvc) else None
        except SpecError:
            return  # which its pods' condition says; what it was before goes on
        if model is None:
            self.claims.gone(Source.INFERENCE_SERVICE, key, uid)
        else:
            self.claims.seen(ModelSeen(model, vouched(obj), _counted(last_good(obj)), failure(obj)))

    def gone(self, namespace: str, name: str, uid: str) -> None:
        """An InferenceService is no more."""
        self.claims.gone(Source.INFERENCE_SERVICE, ModelKey(namespace, name), uid)
        self._workloads.inference_service_gone(namespace, name, uid)


def _counted(content: Content | None) -> Content | None:
    return replace(content, memory_bytes=PINNED_BYTES) if content is not None else None

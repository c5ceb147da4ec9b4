"""What the workloads know: of one InferenceService what it says, what was resolved of that, and what was applied last;
and the runtimes that there are."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService

from .manifests.cluster.storage_reader import DEFAULT_SERVICE_ACCOUNT, Account
from .manifests.resolve import Resolution, is_taken, resolve, unreadable
from .manifests.runtimes import Runtime
from .manifests.settings import WorkloadSettings
from .manifests.storage import Storage
from .replicas.pod_counts import Count
from .state.world.values import Problem, ServiceKey, ServiceSpec

log = logging.getLogger(__name__)

Object = dict[str, Any]


@dataclass(slots=True)
class Workload:
    """``isvc`` is None when the object cannot be read; ``taken`` False: it is not ours. ``broken``: it cannot be read
    for an error of our own, and is tried again."""

    uid: str
    obj: Object
    isvc: InferenceService | None = None
    resolution: Resolution | None = None
    applied: tuple[InferenceService, Resolution] | None = None  # the last that the API server took
    taken: bool = True
    broken: bool = False
    untold: bool = False  # the state could not be told what changed
    refused: Problem | None = None  # by the API server, at the last apply
    told: ServiceSpec | None = None  # as the state was last told
    storage: Storage | None = None  # as its pods' storage.json says; None: not known yet
    count: Count = field(default_factory=Count)

    @property
    def account(self) -> Account | None:
        isvc = self.isvc or (self.applied[0] if self.applied is not None else None)
        if isvc is None:
            return None
        name = isvc.spec.predictor.service_account_name or DEFAULT_SERVICE_ACCOUNT
        return isvc.metadata.namespace, name

    def resolve(self, key: ServiceKey, runtimes: Iterable[Runtime], settings: WorkloadSettings) -> None:
        """What it says, with the runtime that it gets."""
        try:
            self.isvc = InferenceService.read(self.obj)
            self.taken = is_taken(self.isvc, settings.require_model_mesh)
            known = (runtime for runtime in runtimes if runtime.namespace in ("", key.namespace))
            self.resolution = resolve(self.isvc, known, settings.policy, settings.limits) if self.taken else None
            self.applied = self.applied if self.taken else None
            self.broken = False
        except SpecError as error:
            self.cannot_be_read(error)

    def cannot_be_read(self, error: SpecError, *, broken: bool = False) -> None:
        """It says nothing that can be used."""
        self.isvc, self.resolution, self.broken = None, unreadable(self.obj, error), broken


def same_wish(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Two states of the object differ in nothing that users write."""

    def wish(obj: Mapping[str, Any]) -> tuple[Any, ...]:
        meta = obj.get("metadata") or {}
        labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
        return meta.get("generation"), labels, annotations, obj.get("spec")

    return bool(before) and wish(before) == wish(after)


class Runtimes(dict[tuple[str, str], Runtime]):
    """By namespace, which is empty for the cluster's, and name."""

    def seen(self, obj: Mapping[str, Any]) -> str | None:
        """One was added or changed; the namespace that this concerns, None: nothing that matters has changed."""
        meta = obj.get("metadata") or {}
        key = str(meta.get("namespace") or ""), str(meta.get("name", ""))
        runtime, before = Runtime.read(dict(obj)), self.get(key)
        if runtime.problem:
            extra = {"event": "RuntimeUnreadable", "object": "/".join(key).strip("/"), "answer": runtime.problem}
            log.warning("a runtime cannot be read; who uses it is told", extra=extra)
            if before is not None:  # whom it was picked for must not get another meanwhile
                runtime = replace(before, problem=runtime.problem)
        if before == runtime:
            return None
        self[key] = runtime
        return key[0]

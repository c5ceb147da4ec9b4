"""Why a model is not Ready: one decision, made of facts, for its route, the counts, its conditions and explain. Pure.

What somebody has to act on comes before what passes by itself, and causes come before their effects.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shoal_api.messages import CopyFailure, FailureStage

from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import ModelSpec, Problem, Refusal, ServiceSpec

ACTIVATION_TIMEOUT: Final = "ActivationTimeout"
"""Reason of a 503, and of a condition: a request has waited in vain as long as one may."""


class Cause(StrEnum):
    """Why nothing answers for a model, and a request would have no copy loaded."""

    NO_SERVICE = "NoService"  # its InferenceService does not exist
    SINGLE_MODEL = "SingleModel"  # its InferenceService takes no TrainedModels
    SERVICE_PROBLEM = "ServiceProblem"
    FRAMEWORK = "Framework"  # the runtime does not load its format
    SPEC_PROBLEM = "SpecProblem"  # its object cannot be used, and never could
    TOO_LARGE = "TooLarge"  # for any pod
    NO_MEMORY = "NoMemory"  # beside what stays
    STORAGE_FAILED = "StorageFailed"
    LOAD_FAILED = "LoadFailed"
    NO_PODS = "NoPods"  # none takes models just now
    NO_POD_FITS = "NoPodFits"  # for another reason than memory
    NOT_LOOKED_UP = "NotLookedUp"  # no pod runs that could look its artifact up, and none has before
    LATE = "Late"  # it is being loaded for longer than a request may wait
    COMPLAINT = "Complaint"  # its object cannot be used any more, and what it was before is not known to work

    @property
    def waits(self) -> bool:
        """It passes by itself, as soon as something else is there."""
        return self in (Cause.NO_SERVICE, Cause.NO_PODS, Cause.NOT_LOOKED_UP, Cause.LATE)

    @property
    def unavailable(self) -> Unavailable:
        """What a request is told; COLD: it is held, since it may well be answered."""
        return _TOLD.get(self, Unavailable.COLD)


_TOLD: Final[Mapping[Cause, Unavailable]] = {
    Cause.NO_SERVICE: Unavailable.SERVICE_NOT_FOUND,
    Cause.SINGLE_MODEL: Unavailable.SERVICE_NOT_READY,
    Cause.SERVICE_PROBLEM: Unavailable.SERVICE_NOT_READY,
    Cause.FRAMEWORK: Unavailable.NO_RUNTIME,
    Cause.SPEC_PROBLEM: Unavailable.STORAGE_FAILED,
    Cause.TOO_LARGE: Unavailable.MODEL_TOO_LARGE,
    Cause.NO_MEMORY: Unavailable.NO_MEMORY,
    Cause.STORAGE_FAILED: Unavailable.STORAGE_FAILED,
    Cause.LOAD_FAILED: Unavailable.LOAD_FAILED,
    Cause.NO_PODS: Unavailable.SERVICE_NOT_READY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the cause depends on.

    ``service`` None: it does not exist. ``service_ready``: at least one pod can take models. ``complaint``: what is
    wrong with the object as it is now; ``spec``, the last usable one, stays in force. ``failure``: why the wanted
    content is not loaded, of a copy or of an attempt whose copy has made way meanwhile. ``fallback``: copies load the
    last good content instead. ``restoring``: one does just now, and has not failed. ``memory_bytes``: declared or
    estimated; None: not known yet. ``min_copies``: with the InferenceService's default applied. ``placed``: copies that
    are loaded or on their way. ``refusal``: why no pod was found. ``kept_out``: what minCopies keeps leaves no pod with
    room for it. ``late``: a request has waited in vain as long as one may, and the load goes on. ``not_looked_up``:
    nobody has seen its artifact, and no pod runs that could.
    """

    spec: ModelSpec
    service: ServiceSpec | None
    service_ready: bool
    complaint: Problem | None = None
    failure: CopyFailure | None = None
    fallback: bool = False
    restoring: bool = False
    memory_bytes: int | None = None
    min_copies: int = 1
    placed: int = 0
    refusal: Refusal | None = None
    kept_out: bool = False
    late: bool = False
    not_looked_up: bool = False

    @property
    def size(self) -> int | None:
        """Bytes of memory of what the spec names."""
        return self.memory_bytes if self.memory_bytes is not None else self.spec.memory_bytes

    @property
    def unsupported(self) -> bool:
        """The runtime does not load what the spec names."""
        service = self.service
        return service is not None and service.problem is None and self.spec.framework.lower() not in service.formats

    @property
    def too_large(self) -> bool:
        """What the spec names fits no pod, were it empty."""
        service = self.service
        usable = service is not None and service.problem is None
        return usable and service is not None and self.size is not None and self.size > service.capacity_bytes

    @property
    def lacks_memory(self) -> bool:
        """No pod has room, whoever makes way."""
        return self.kept_out or (self.refusal is not None and self.refusal.missing_bytes > 0)

    @property
    def fits_no_pod(self) -> bool:
        """Pods refuse it for other reasons than memory; a new content may wait for the pod that holds the former."""
        refused = self.refusal is not None and self.refusal.missing_bytes <= 0
        return refused and not 0 < self.placed >= self.min_copies


def _returns(facts: Facts) -> bool:
    return facts.fallback and (facts.restoring or not facts.service_ready)


def cause(facts: Facts) -> Cause | None:
    """Why the model is not Ready, for one that is not; None: nothing stands in its way, so it is on its way."""
    return _of_service(facts.service, facts.spec) or _of_model(facts)


def _of_service(service: ServiceSpec | None, model: ModelSpec) -> Cause | None:
    if service is None:
        return Cause.NO_SERVICE
    if not service.takes(model):
        return Cause.SINGLE_MODEL
    return Cause.SERVICE_PROBLEM if service.problem is not None else None


def _of_model(facts: Facts) -> Cause | None:
    complains = facts.complaint is not None and facts.min_copies == 0  # a copy that is kept is on its way by itself
    found = (
        # Where the last good content is loaded instead, it does not matter why what the spec names cannot be.
        (Cause.FRAMEWORK, facts.unsupported and not facts.fallback),
        (Cause.SPEC_PROBLEM, facts.spec.problem is not None and not facts.fallback),
        (Cause.TOO_LARGE, facts.too_large and not facts.fallback),
        (Cause.NO_MEMORY, facts.lacks_memory),
        # Nor does it where that only waits for a pod, or for its load.
        (_of_failure(facts.failure), facts.failure is not None and not _returns(facts)),
        (Cause.NO_PODS, not facts.service_ready),
        (Cause.NOT_LOOKED_UP, facts.not_looked_up),
        (Cause.NO_POD_FITS, facts.fits_no_pod),
        (Cause.LATE, facts.late),
        (Cause.COMPLAINT, complains),
    )
    return next((cause for cause, is_so in found if is_so), None)


def _of_failure(failure: CopyFailure | None) -> Cause:
    storage = failure is not None and failure.stage is FailureStage.STORAGE
    return Cause.STORAGE_FAILED if storage else Cause.LOAD_FAILED

"""What is said of each cause for which a model is not Ready: reason, what is the case, what to do about it. Pure.

Which cause it is, ``state.world.cause`` decides, for routes and counts as well; conditions of single matters say
the same words.
"""

from collections.abc import Callable, Mapping
from typing import Final

from shoal_api.messages import FailureStage
from shoal_api.quantity import format_bytes

from shoal_operator.state.world.advice import ADVICE
from shoal_operator.state.world.cause import ACTIVATION_TIMEOUT, Cause
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.views import ModelView

from . import reasons
from .conditions import Finding, false, unknown

_MEBIBYTE = 1 << 20
_MAX_VERDICTS = 3
_MAX_FORMATS = 8


def finding(cause: Cause, view: ModelView) -> Finding:
    """Not Ready for that cause."""
    return _SAID[cause](view)


def no_service(view: ModelView) -> Finding:
    return false(
        reasons.SERVICE_NOT_FOUND,
        f"There is no InferenceService {view.spec.service} in namespace {view.spec.namespace}.",
        "The TrainedModel stays and waits: it is loaded as soon as there is one. Apply it, or correct "
        "spec.inferenceService.",
    )


def single_model(view: ModelView) -> Finding:
    problem = view.service.problem if view.service is not None else None
    if problem is not None:
        return false(reasons.NOT_MULTI_MODEL, problem.message)
    return false(
        reasons.NOT_MULTI_MODEL,
        f"InferenceService {view.spec.service} has a model of its own (storageUri or storage), and serves no "
        "TrainedModels.",
        "Name another one in spec.inferenceService, or take the model out of that predictor.",
    )


def service_problem(view: ModelView) -> Finding:
    problem = view.service.problem if view.service is not None else None
    return false(problem.reason, problem.message) if problem is not None else unknown()


def no_pods(view: ModelView) -> Finding:
    name = view.spec.service
    return false(
        reasons.PODS_NOT_READY,
        f"No pod of InferenceService {name} can take models yet.",
        f"If it lasts: kubectl describe isvc {name}",
    )


def framework(view: ModelView) -> Finding:
    formats = sorted(view.service.formats) if view.service is not None else []
    shown = ", ".join(formats[:_MAX_FORMATS]) + (", …" if len(formats) > _MAX_FORMATS else "")
    return false(
        reasons.FRAMEWORK_NOT_SUPPORTED,
        f"The runtime of InferenceService {view.spec.service} does not load framework {view.spec.framework!r}; "
        f"it loads {shown or 'none'}.",
        ADVICE[Unavailable.NO_RUNTIME],
    )


def object_problem(view: ModelView) -> Finding:
    """What is wrong with the present object."""
    problem = view.complaint or view.spec.problem
    return false(problem.reason, problem.message) if problem is not None else unknown()


def too_large(view: ModelView) -> Finding:
    room = view.service.capacity_bytes if view.service is not None else 0
    processes = view.service.processes if view.service is not None else 1
    shared = f", its limits.memory by the {processes} processes that each hold every model" if processes > 1 else ""
    estimated = view.spec.memory_bytes is None
    return false(
        reasons.MODEL_TOO_LARGE,
        f"The model takes {format_bytes(view.size or 0)}{' by its artifact' if estimated else ''}, and a pod of "
        f"InferenceService {view.spec.service} has room for {format_bytes(room)}{shared}.",
        ADVICE[Unavailable.MODEL_TOO_LARGE],
    )


def no_memory(view: ModelView) -> Finding:
    size = view.size or 0
    if view.kept_out and view.service is not None and not view.service.strict:
        return false(
            reasons.INSUFFICIENT_MEMORY,
            f"The model takes {format_bytes(size)}, and no pod of InferenceService {view.spec.service} has as much "
            "left beside the models that spec.serving.minCopies keeps in memory.",
            ADVICE[Unavailable.NO_MEMORY],
        )
    missing_bytes = view.refusal.missing_bytes if view.refusal is not None else 0
    if missing_bytes <= 0:
        missing_bytes = size - (view.obtainable_bytes or 0)  # where all models stay: before a plan says so
    missing = -(-missing_bytes // _MEBIBYTE)
    return false(
        reasons.UPDATE_BLOCKED if view.update_blocked else reasons.INSUFFICIENT_MEMORY,
        f"The {'new content' if view.update_blocked else 'model'} takes {format_bytes(size)}, and {missing}Mi are "
        f"missing on the pod of InferenceService {view.spec.service} that has most room.",
        ADVICE[Unavailable.NO_MEMORY],
    )


def failed(view: ModelView) -> Finding:
    """An attempt to load the wanted content came to this."""
    failure = view.failure
    return false(failure.reason, failure.message) if failure is not None else unknown()


def failed_in(view: ModelView, stage: FailureStage) -> bool:
    """The last attempt at the wanted content ended there, and it is loaded nowhere."""
    return view.failure is not None and view.failure.stage is stage and not view.loaded


def no_pod_fits(view: ModelView) -> Finding:
    what = f"{view.placed} of {view.min_copies} copies have a pod" if view.placed else "No pod takes the model"
    action = "Raise the predictor's minReplicas, or lower spec.serving.minCopies." if view.placed else ""
    return false(reasons.NO_POD_FITS, f"{what}: {_verdicts(view)}.", action)


def update_blocked(view: ModelView) -> Finding:
    """Why the new content is loaded nowhere while the one before it serves: memory, or what the pods say."""
    if view.refusal is not None and view.refusal.missing_bytes > 0:
        return no_memory(view)
    name = view.spec.service
    return false(
        reasons.UPDATE_BLOCKED,
        f"No pod takes the new content: {_verdicts(view)}.",
        f"If it lasts: kubectl describe isvc {name}, or raise the predictor's minReplicas.",
    )


def _verdicts(view: ModelView) -> str:
    verdicts = view.refusal.verdicts if view.refusal is not None else ()
    said = [f"{v.pod}: {v.message}" for v in sorted(verdicts, key=lambda v: v.pod)]
    shown = "; ".join(said[:_MAX_VERDICTS]) + (f"; and {len(said) - _MAX_VERDICTS} more" if len(said) > 3 else "")
    return shown or "there is none"


def late(view: ModelView) -> Finding:
    seconds = view.service.activation_timeout if view.service is not None else 0.0
    return false(
        ACTIVATION_TIMEOUT,
        f"A request waited {seconds:g} s for it in vain; the load goes on.",
        "If it lasts: see the pod's containers shoal-agent and kserve-container, or raise annotation "
        f"shoal.dev/activation-timeout of InferenceService {view.spec.service}.",
    )


def not_looked_up(view: ModelView) -> Finding:
    return unknown(
        reasons.NOT_LOOKED_UP,
        f"InferenceService {view.spec.service} has no pod (minReplicas 0) that could look the artifact up. One is "
        "started for that, at most once a minute.",
    )


_SAID: Final[Mapping[Cause, Callable[[ModelView], Finding]]] = {
    Cause.NO_SERVICE: no_service,
    Cause.SINGLE_MODEL: single_model,
    Cause.SERVICE_PROBLEM: service_problem,
    Cause.FRAMEWORK: framework,
    Cause.SPEC_PROBLEM: object_problem,
    Cause.TOO_LARGE: too_large,
    Cause.NO_MEMORY: no_memory,
    Cause.STORAGE_FAILED: failed,
    Cause.LOAD_FAILED: failed,
    Cause.NO_PODS: no_pods,
    Cause.NOT_LOOKED_UP: not_looked_up,
    Cause.NO_POD_FITS: no_pod_fits,
    Cause.LATE: late,
    Cause.COMPLAINT: object_problem,
}

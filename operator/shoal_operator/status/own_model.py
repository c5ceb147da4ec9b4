"""What an InferenceService says of a model of its own: KServe's and ModelMesh's modelStatus, and its conditions. Pure.

In KServe's words (ModelStatus of its v1beta1 API). Like a TrainedModel's status it is the same whether a model that
may be cold is loaded at the moment: such a one is Standby, one that is kept Loaded.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from shoal_api.names import LOADED, READY, STORAGE_RESOLVED

from shoal_operator.state.world.values import Problem
from shoal_operator.state.world.views import CopyState, ModelView

from . import model_status, reasons
from .conditions import Finding, Verdict, timestamp

Object = dict[str, Any]

SHOWN: Final = (STORAGE_RESOLVED, LOADED)
"""Of the conditions of a model those that its InferenceService has as well: they say which step failed."""


class Transition(StrEnum):
    """``transitionStatus``: whether what the spec names is what is served."""

    UP_TO_DATE = "UpToDate"
    IN_PROGRESS = "InProgress"
    BLOCKED = "BlockedByFailedLoad"
    INVALID = "InvalidSpec"


class State(StrEnum):
    """A model's state."""

    PENDING = "Pending"
    STANDBY = "Standby"
    LOADING = "Loading"
    LOADED = "Loaded"
    FAILED = "FailedToLoad"


# KServe's FailureReason of the reasons of an InferenceService's problem; of a model's own they are ModelLoadFailed.
_FAILURES: Final[Mapping[str, str]] = {
    "RuntimeNotFound": "NoSupportingRuntime",
    "FormatNotSupported": "NoSupportingRuntime",
    "ProtocolNotSupported": "NoSupportingRuntime",
    reasons.FRAMEWORK_NOT_SUPPORTED: "NoSupportingRuntime",
    "RuntimeDisabled": "RuntimeDisabled",
    "RuntimeNotSupported": "RuntimeNotRecognized",
    "RuntimeInvalid": "RuntimeNotRecognized",
    "RuntimeHasNoContainer": "RuntimeNotRecognized",
    "CrashLoop": "RuntimeUnhealthy",
    "OutOfMemory": "RuntimeUnhealthy",
    "ImagePullFailed": "RuntimeUnhealthy",
    "ContainerNotCreated": "RuntimeUnhealthy",
    "PodFailed": "RuntimeUnhealthy",
    "Unschedulable": "RuntimeUnhealthy",
}
_INVALID: Final = "InvalidPredictorSpec"
_LOAD_FAILED: Final = "ModelLoadFailed"


def findings(view: ModelView) -> dict[str, Finding]:
    """The model's own conditions, by type: READY, and those that are SHOWN."""
    found = model_status.diagnose(view)
    return {kind: found[kind] for kind in (READY, *SHOWN)}


def says(view: ModelView, trouble: Finding, previous: Mapping[str, Any] | None, now: datetime) -> Object:
    """``modelStatus``. ``trouble``: what the predictor's condition says; ``previous``: the last whole status."""
    found = model_status.diagnose(view)
    wrong = _wrong(view, found, trouble)
    target = _target(view, wrong)
    active = target if not view.ready or target in (State.LOADED, State.STANDBY) else _answering(view)
    status: Object = {
        "transitionStatus": _transition(view, target, wrong),
        "states": {"activeModelState": active, "targetModelState": target},
        "copies": _copies(view, failed=target is State.FAILED),
    }
    if wrong is not None:
        status["lastFailureInfo"] = _failure(view, wrong, previous, now)
    return status


def _wrong(view: ModelView, found: Mapping[str, Finding], trouble: Finding) -> Finding | None:
    """Why what the spec names is not loaded and somebody has to act; None: it is, or is on its way."""
    kinds = (STORAGE_RESOLVED, LOADED, READY)
    for finding in (*(found[kind] for kind in kinds), trouble):
        if finding.verdict is Verdict.FALSE and not finding.waits:
            return finding
    return None


def _transition(view: ModelView, target: State, wrong: Finding | None) -> Transition:
    if _problem(view) is not None:
        return Transition.INVALID
    if wrong is not None:
        return Transition.BLOCKED
    return Transition.UP_TO_DATE if target in (State.LOADED, State.STANDBY) else Transition.IN_PROGRESS


def _target(view: ModelView, wrong: Finding | None) -> State:
    if wrong is not None:
        return State.FAILED
    if view.ready and _wanted(view):
        return _answering(view)
    loading = any(copy.state in (CopyState.PULLING, CopyState.PULLED, CopyState.LOADING) for copy in view.copies)
    return State.LOADING if loading and view.min_copies else State.PENDING


def _wanted(view: ModelView) -> bool:
    """It is what the spec names that requests are answered with."""
    return view.loaded or not view.answers


def _answering(view: ModelView) -> State:
    return State.LOADED if view.min_copies else State.STANDBY


def _copies(view: ModelView, *, failed: bool) -> Object:
    """Numbers of copies; of a model that may be cold they change with every request, and are not said."""
    if not view.min_copies:
        return {"failedCopies": int(failed)}
    failing = sum(copy.state is CopyState.FAILED for copy in view.copies)
    return {"failedCopies": failing, "totalCopies": sum(copy.serving for copy in view.copies)}


def _failure(view: ModelView, wrong: Finding, previous: Mapping[str, Any] | None, now: datetime) -> Object:
    if _problem(view) is not None:
        reason = _FAILURES.get(wrong.reason, _INVALID)
    else:
        reason = _FAILURES.get(wrong.reason, _LOAD_FAILED)
    failure: Object = {"reason": reason, "message": wrong.text}
    pod = next((copy.pod for copy in view.copies if copy.state is CopyState.FAILED), "")
    if pod and reason == _LOAD_FAILED:
        failure["location"] = pod
    before = ((previous or {}).get("modelStatus") or {}).get("lastFailureInfo") or {}
    same = {key: value for key, value in before.items() if key != "time"} == failure
    return {**failure, "time": before["time"] if same and before.get("time") else timestamp(now)}


def _problem(view: ModelView) -> Problem | None:
    return view.complaint or view.spec.problem

"""What an InferenceService says of a model of its own, in KServe's words."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from shoal_operator.state.world.values import Content, Problem
from shoal_operator.state.world.views import CopyState, ModelView, ServiceView
from shoal_operator.status.service_status import service_status, trouble

from .model_views import LOAD, NOW, PULL, SERVICE, SPEC, UNSUPPORTED, copy, view

OWN = replace(SERVICE, multi_model=False)
POD = Problem("ImagePullFailed", "The image cannot be pulled.")


def shown(model: ModelView, previous: Any = None, *, later: int = 0, **changes: Any) -> dict[str, Any]:
    whole = ServiceView(OWN, "http://iris.demo.example.com", 1, 1, 1, 1, 0, gateways=1)
    given = replace(whole, **{"model": model, **changes})
    return service_status(given, previous, NOW + timedelta(seconds=later))


def own(*copies: Any, **changes: Any) -> ModelView:
    kept = {"spec": replace(SPEC, uid="s", name="iris"), "service": OWN, "min_copies": 1}
    return view(*copies, **{**kept, **changes})


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


LOADED, LOADING, OUTDATED = copy(CopyState.LOADED), copy(CopyState.LOADING), copy(CopyState.OUTDATED)


@pytest.mark.parametrize(
    ("model", "ready", "transition", "active", "target"),
    [
        (own(LOADED), ("True", "Loaded"), "UpToDate", "Loaded", "Loaded"),
        (own(), ("Unknown", "Pending"), "InProgress", "Pending", "Pending"),
        (own(LOADING), ("Unknown", "Pending"), "InProgress", "Loading", "Loading"),
        (own(OUTDATED, copy(CopyState.LOADING, pod="p2")), ("True", "Updating"), "InProgress", "Loaded", "Loading"),
        (
            own(copy(CopyState.OUTDATED, LOAD)),
            ("True", "UpdateFailed"),
            "BlockedByFailedLoad",
            "Loaded",
            "FailedToLoad",
        ),
        (
            own(copy(CopyState.FAILED, PULL)),
            ("False", "AccessDenied"),
            "BlockedByFailedLoad",
            "FailedToLoad",
            "FailedToLoad",
        ),
        (
            own(LOADED, complaint=UNSUPPORTED),
            ("True", "UpdateFailed"),
            "InvalidSpec",
            "Loaded",
            "FailedToLoad",
        ),
        (
            own(spec=replace(SPEC, uid="s", problem=UNSUPPORTED)),
            ("False", "StorageUriNotSupported"),
            "InvalidSpec",
            "FailedToLoad",
            "FailedToLoad",
        ),
        (
            own(min_copies=0, on_demand=True, artifact_seen=True),
            ("True", "OnDemand"),
            "UpToDate",
            "Standby",
            "Standby",
        ),
        (own(LOADED, min_copies=0), ("True", "OnDemand"), "UpToDate", "Standby", "Standby"),
    ],
)
def test_states(model: ModelView, ready: tuple[str, str], transition: str, active: str, target: str) -> None:
    status = shown(model)
    assert conditions(status)["Ready"] == ready
    assert conditions(status)["PredictorReady"] == ready
    said = status["modelStatus"]
    assert said["transitionStatus"] == transition
    assert said["states"] == {"activeModelState": active, "targetModelState": target}


def test_it_counts_no_trained_models() -> None:
    status = shown(own(LOADED))
    assert "models" not in status
    assert "modelsReady" not in status
    assert status["modelStatus"]["copies"] == {"failedCopies": 0, "totalCopies": 1}
    assert "lastFailureInfo" not in status["modelStatus"]


def test_the_last_failure_says_where_and_keeps_its_time() -> None:
    failed = own(copy(CopyState.FAILED, LOAD))
    first = shown(failed)
    assert first["modelStatus"]["lastFailureInfo"] == {
        "reason": "ModelLoadFailed",
        "message": "ValueError: no joblib.",
        "location": "p1",
        "time": "2026-08-01T12:00:00Z",
    }
    assert shown(failed, first, later=60) == first, "nothing is written anew"


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (Problem("RuntimeNotFound", "None."), "NoSupportingRuntime"),
        (Problem("RuntimeDisabled", "Off."), "RuntimeDisabled"),
        (Problem("RuntimeInvalid", "What?"), "RuntimeNotRecognized"),
    ],
)
def test_without_a_runtime(problem: Problem, reason: str) -> None:
    broken = replace(OWN, problem=problem)
    status = shown(own(service=broken), spec=broken)
    assert conditions(status)["PredictorReady"] == ("False", problem.reason)
    assert status["modelStatus"]["lastFailureInfo"]["reason"] == reason
    assert status["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad"


def test_pods_that_cannot_start() -> None:
    status = shown(own(), pods_ready=0, pod_problem=POD)
    assert conditions(status)["Ready"] == ("False", "ImagePullFailed")
    assert status["modelStatus"]["lastFailureInfo"]["reason"] == "RuntimeUnhealthy"


def test_a_model_that_crashes_its_pods_is_named_before_them() -> None:
    crash = Problem("CrashLoop", "Container kserve-container keeps ending with code 1.")
    model = own(copy(CopyState.FAILED, LOAD))
    assert conditions(shown(model, pods_ready=0, pod_problem=crash))["Ready"] == ("False", "LoadFailed")


def test_what_is_served_is_said_for_the_next_operator() -> None:
    good = Content("s3://bucket/m", "sklearn", "digest", 1)
    assert shown(own(LOADED, last_good=good))["content"]["storageUri"] == "s3://bucket/m"


def test_events_tell_of_the_model() -> None:
    whole = ServiceView(OWN, "http://x", 1, 1, 1, 1, 0, gateways=1, model=own(copy(CopyState.FAILED, PULL)))
    found = trouble(whole)
    assert found is not None
    assert found.reason == "AccessDenied"

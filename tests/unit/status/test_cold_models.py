"""A model that may be cold: its status is the same whether it is loaded or not, and says why when it cannot be."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from shoal_operator.state.world.advice import ADVICE
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import Refusal, Verdict
from shoal_operator.state.world.views import CopyState, CopyView, ModelView
from shoal_operator.status import stored
from shoal_operator.status.model_status import model_status

from .model_views import LOAD, MEBIBYTE, NOW, PULL, SERVICE, SPEC, UNSUPPORTED, copy, message, verdicts, view

OVERCOMMIT = {"min_copies": 0, "wanted_copies": 0, "memory_bytes": 256 * MEBIBYTE}


def cold(*copies: CopyView, **changes: Any) -> ModelView:
    """A model that may be cold, whose artifact was seen; without copies it is."""
    given = {"artifact_seen": True, **OVERCOMMIT, **changes}
    of = view(*copies, **given)
    return replace(of, **{"on_demand": _on_demand(of), **changes})


def _on_demand(of: ModelView) -> bool:
    """What state says of such a model (state.copies.routes.on_demand), which has no former content."""
    known = of.artifact_seen or any(copy.state is CopyState.LOADED for copy in of.copies)
    failed = of.failure is not None or any(copy.failure is not None for copy in of.copies)
    failed = failed and not any(copy.state is CopyState.LOADED for copy in of.copies)
    usable = of.service is not None and of.service.problem is None and of.service_ready and of.spec.problem is None
    usable = usable and of.service is not None and of.spec.framework in of.service.formats
    fits = of.memory_bytes is None or (of.service is not None and of.memory_bytes <= of.service.capacity_bytes)
    refused = of.refusal is not None and of.service is not None and of.service.strict
    return known and not failed and usable and fits and not refused and of.min_copies == 0


PHASES: list[tuple[str, ModelView]] = [
    ("cold", cold()),
    ("never loaded by this operator, used long ago", cold(idle_seconds=9000.0)),
    ("asked for", cold(copy(CopyState.PENDING), wanted_copies=1)),
    ("pulling", cold(copy(CopyState.PULLING), wanted_copies=1)),
    ("pulled, room is being made", cold(copy(CopyState.PULLED), wanted_copies=1)),
    ("loading", cold(copy(CopyState.LOADING), wanted_copies=1)),
    ("loaded", cold(copy(CopyState.LOADED), wanted_copies=1, requests_per_second=3.0, idle_seconds=0.1)),
    ("loaded before its artifact was noted", cold(copy(CopyState.LOADED), artifact_seen=False)),
    ("loaded twice", cold(copy(CopyState.LOADED), copy(CopyState.LOADED, pod="p2"), wanted_copies=2)),
    ("loaded, a second copy fails", cold(copy(CopyState.LOADED), copy(CopyState.FAILED, LOAD, "p2"))),
    ("loaded, its server does not answer just now", cold(replace(copy(CopyState.LOADED), serving=False))),
    ("making way", cold(copy(CopyState.DRAINING))),
    ("unloading", cold(copy(CopyState.UNLOADING))),
    ("moving", cold(copy(CopyState.DRAINING), copy(CopyState.LOADING, pod="p2"))),
    ("refused a moment ago", cold(refusal=Refusal(missing_bytes=5), pressure=True)),
    ("every pod said no a moment ago", cold(refusal=Refusal((Verdict("p1", "NameFree", "still unloading"),)))),
]


@pytest.mark.parametrize(("phase", "of"), PHASES, ids=[phase for phase, _ in PHASES])
def test_a_model_that_may_be_cold_says_the_same_wherever_its_copies_stand(phase: str, of: ModelView) -> None:
    first = stored.dump(model_status(cold(), None, NOW))
    assert stored.dump(model_status(of, None, NOW)) == first
    # And after the watch has told it back, an hour later.
    later = model_status(of, json.loads(first), NOW + timedelta(hours=1))
    assert stored.dump(later) == first


def test_what_a_cold_model_says() -> None:
    assert verdicts(cold()) == {
        "Ready": ("True", "OnDemand"),
        "InferenceServiceReady": ("True", "Ready"),
        "IsMMSPredictor": ("True", "MultiModel"),
        "Scheduled": ("True", "OnDemand"),
        "MemoryResourceAvailable": ("True", "Fits"),
        "StorageResolved": ("True", "Resolved"),
        "Loaded": ("True", "OnDemand"),
    }
    assert message(cold(), "Loaded") == "A request has it loaded."
    assert message(cold()) == ""


NEVER_SEEN = {"artifact_seen": False, "memory_bytes": None, "spec": replace(SPEC, memory_bytes=None)}
ON_DEMAND_SITUATIONS: list[tuple[str, ModelView, tuple[str, str], str, tuple[str, str]]] = [
    ("never seen", cold(artifact_seen=False), ("Unknown", "Pending"), "StorageResolved", ("Unknown", "Pending")),
    (
        "never seen, being looked up",
        cold(copy(CopyState.PENDING), artifact_seen=False),
        ("Unknown", "Pending"),
        "Loaded",
        ("Unknown", "Pending"),
    ),
    ("size not known", cold(**NEVER_SEEN), ("Unknown", "Pending"), "MemoryResourceAvailable", ("Unknown", "Pending")),
    (
        "the last load failed and its copy made way",
        cold(failure=LOAD),
        ("False", "LoadFailed"),
        "Loaded",
        ("False", "LoadFailed"),
    ),
    (
        "it is being tried again",
        cold(copy(CopyState.PULLING), failure=LOAD),
        ("False", "LoadFailed"),
        "Loaded",
        ("False", "LoadFailed"),
    ),
    (
        "it fails on its pod",
        cold(copy(CopyState.FAILED, LOAD)),
        ("False", "LoadFailed"),
        "StorageResolved",
        ("True", "Resolved"),
    ),
    (
        "the artifact is gone since",
        cold(failure=PULL),
        ("False", "AccessDenied"),
        "StorageResolved",
        ("False", "AccessDenied"),
    ),
    (
        "the artifact was never found",
        cold(failure=PULL, artifact_seen=False),
        ("False", "AccessDenied"),
        "Loaded",
        ("Unknown", "Pending"),
    ),
    (
        "loaded after a failure",
        cold(copy(CopyState.LOADED), failure=LOAD),
        ("True", "OnDemand"),
        "Loaded",
        ("True", "OnDemand"),
    ),
    (
        "larger than a pod",
        cold(memory_bytes=1 << 30),
        ("False", "ModelTooLarge"),
        "Loaded",
        ("Unknown", "Pending"),
    ),
    (
        "another framework",
        cold(spec=replace(SPEC, framework="pytorch")),
        ("False", "FrameworkNotSupported"),
        "Loaded",
        ("Unknown", "Pending"),
    ),
    (
        "a URI that cannot be used",
        cold(spec=replace(SPEC, problem=UNSUPPORTED)),
        ("False", "StorageUriNotSupported"),
        "Loaded",
        ("Unknown", "Pending"),
    ),
    (
        "no pod is there",
        cold(service_ready=False),
        ("False", "PodsNotReady"),
        "Loaded",
        ("True", "OnDemand"),
    ),
    (
        "its service is gone",
        cold(service=None, service_ready=False),
        ("False", "InferenceServiceNotFound"),
        "Scheduled",
        ("Unknown", "Pending"),
    ),
    (
        "updating",
        cold(copy(CopyState.OUTDATED), artifact_seen=False),
        ("True", "Updating"),
        "Loaded",
        ("Unknown", "Pending"),
    ),
    (
        "the update cannot be loaded",
        cold(copy(CopyState.OUTDATED), failure=LOAD),
        ("True", "UpdateFailed"),
        "Loaded",
        ("False", "LoadFailed"),
    ),
    (
        "the update waits for the pod that holds the content before it",  # "1 of 0 copies have a pod" was said
        cold(
            copy(CopyState.OUTDATED),
            failure=LOAD,
            refusal=Refusal(verdicts=(Verdict("p", "not_here", "it holds a copy already"),)),
            update_blocked=True,
        ),
        ("True", "UpdateFailed"),
        "Scheduled",
        ("True", "OnDemand"),
    ),
    (
        "no room for the update",
        cold(copy(CopyState.OUTDATED), refusal=Refusal(missing_bytes=5), update_blocked=True),
        ("True", "UpdateBlocked"),
        "MemoryResourceAvailable",
        ("False", "UpdateBlocked"),
    ),
    (
        "the old content made way before the new one was seen",
        cold(artifact_seen=False, idle_seconds=5.0),
        ("Unknown", "Pending"),
        "Loaded",
        ("Unknown", "Pending"),
    ),
    (
        "no room under strict",
        cold(service=replace(SERVICE, strict=True), refusal=Refusal(missing_bytes=5)),
        ("False", "InsufficientMemory"),
        "Scheduled",
        ("False", "InsufficientMemory"),
    ),
    (
        "kept warm, and loaded",
        cold(copy(CopyState.LOADED), min_copies=1, wanted_copies=1),
        ("True", "Loaded"),
        "Loaded",
        ("True", "Loaded"),
    ),
    (
        "kept warm, waiting for room that others leave",
        cold(copy(CopyState.PULLED), min_copies=1, wanted_copies=1),
        ("Unknown", "Pending"),
        "Loaded",
        ("Unknown", "MakingRoom"),
    ),
    (
        "kept warm, loaded, but its server does not answer",
        cold(replace(copy(CopyState.LOADED), serving=False), min_copies=1, wanted_copies=1),
        ("Unknown", "Pending"),
        "Loaded",
        ("True", "Loaded"),
    ),
    (
        "kept warm, and refused",
        cold(min_copies=1, wanted_copies=1, on_demand=False, refusal=Refusal(missing_bytes=5)),
        ("False", "InsufficientMemory"),
        "MemoryResourceAvailable",
        ("False", "InsufficientMemory"),
    ),
    (
        "kept warm, failed, and its copy made way",
        cold(min_copies=1, wanted_copies=1, on_demand=False, failure=LOAD),
        ("False", "LoadFailed"),
        "Loaded",
        ("False", "LoadFailed"),
    ),
]


@pytest.mark.parametrize(
    ("case", "of", "ready", "kind", "part"), ON_DEMAND_SITUATIONS, ids=[s[0] for s in ON_DEMAND_SITUATIONS]
)
def test_on_demand_situations(
    case: str, of: ModelView, ready: tuple[str, str], kind: str, part: tuple[str, str]
) -> None:
    assert verdicts(of)["Ready"] == ready
    assert verdicts(of)[kind] == part


def test_a_model_never_seen_says_who_is_looking() -> None:
    assert "An agent is looking the artifact up" in message(cold(artifact_seen=False))
    assert "being estimated" in message(cold(**NEVER_SEEN), "MemoryResourceAvailable")


def test_nothing_is_being_estimated_of_what_cannot_be_used() -> None:
    bad = cold(memory_bytes=None, spec=replace(SPEC, memory_bytes=None, problem=UNSUPPORTED))
    assert "being estimated" not in message(bad, "MemoryResourceAvailable")
    assert "not declared" in message(bad, "MemoryResourceAvailable")


def test_missing_bytes_of_a_model_that_is_kept_warm() -> None:
    said = message(cold(min_copies=1, refusal=Refusal(missing_bytes=100 * MEBIBYTE)))
    assert "256Mi" in said
    assert "100Mi are missing" in said


def estimated(size: int | None, **changes: Any) -> ModelView:
    return cold(spec=replace(SPEC, memory_bytes=None), memory_bytes=size, **changes)


def test_an_estimate_is_said_and_stays_while_it_is_about_right() -> None:
    first = model_status(estimated(100 * MEBIBYTE), None, NOW)
    assert message(estimated(100 * MEBIBYTE), "MemoryResourceAvailable") == "Estimated from the artifact: about 100Mi."
    for size in (81, 99, 124):
        assert model_status(estimated(size * MEBIBYTE), first, NOW) == first
    for size in (60, 200):
        moved = model_status(estimated(size * MEBIBYTE), first, NOW)
        assert f"about {size}Mi." in next(c["message"] for c in moved["conditions"] if c["reason"] == "Fits")


def test_a_restarted_operator_keeps_what_was_found_until_it_has_estimated_anew() -> None:
    before = model_status(estimated(100 * MEBIBYTE), None, NOW)
    assert model_status(estimated(None), before, NOW + timedelta(minutes=1)) == before
    # Not for another spec, nor for an artifact that nobody has seen.
    edited = replace(SPEC, memory_bytes=None, generation=5)
    for other in (cold(spec=edited, memory_bytes=None), estimated(None, artifact_seen=False)):
        said = {c["type"]: c["status"] for c in model_status(other, before, NOW)["conditions"]}
        assert said["MemoryResourceAvailable"] == "Unknown"


@pytest.mark.parametrize(
    "told", ["Estimated from the artifact: about many.", "Estimated from the artifact: about 0.", "x", ""]
)
def test_an_estimate_that_somebody_else_wrote_is_no_obstacle(told: str) -> None:
    condition = {"type": "MemoryResourceAvailable", "status": "True", "reason": "Fits", "message": told}
    status = model_status(estimated(MEBIBYTE), {"conditions": [condition]}, NOW)
    assert next(c["message"] for c in status["conditions"] if c["reason"] == "Fits").endswith("about 1Mi.")


def test_an_estimate_that_is_too_large_says_how_to_correct_it() -> None:
    said = message(estimated(1 << 30))
    assert "1Gi by its artifact" in said
    assert "declare spec.model.memory" in said


def test_room_that_several_processes_share_is_said_so() -> None:
    view = cold(memory_bytes=1 << 30)
    assert view.service is not None
    said = message(replace(view, service=replace(view.service, processes=2)))
    assert "room for 512Mi, its limits.memory by the 2 processes that each hold every model." in said


def test_a_model_declared_too_large_is_told_so() -> None:
    said = message(cold(memory_bytes=1 << 30))
    assert "by its artifact" not in said
    assert said.endswith(ADVICE[Unavailable.MODEL_TOO_LARGE])


@pytest.mark.parametrize("without_room", [{"memory_bytes": 1 << 30}, {"kept_out": True, "obtainable_bytes": MEBIBYTE}])
def test_a_cold_model_that_no_pod_takes_gets_none_by_a_request(without_room: dict[str, Any]) -> None:
    assert verdicts(cold())["Scheduled"] == ("True", "OnDemand")
    assert verdicts(cold(on_demand=False, **without_room))["Scheduled"] == ("False", "InsufficientMemory")

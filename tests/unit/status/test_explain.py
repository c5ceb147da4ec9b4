"""What /explain says of a model: everything that is known, in words where words help."""

import json
from dataclasses import replace

import pytest
from shoal_api.tuning import Tuning
from shoal_operator.placement.filters import DESCRIPTIONS
from shoal_operator.state.world.values import Content, Refusal, Verdict
from shoal_operator.state.world.views import CopyState, Decision, ModelView
from shoal_operator.status.explain import MAX_VERDICTS, explain, not_known, summary

from .model_views import LOAD, MEBIBYTE, PULL, SERVICE, SPEC, copy, view

GOOD = Content("s3://bucket/before", "sklearn", "before", MEBIBYTE)


def test_copies_and_each_pods_word() -> None:
    refusal = Refusal((Verdict("p1", "FitsMemory", "100Mi missing"),), 100 * MEBIBYTE)
    said = explain(
        view(copy(CopyState.FAILED, PULL, "p2"), copy(CopyState.LOADED), refusal=refusal), filters=DESCRIPTIONS
    )
    assert [c["pod"] for c in said["copies"]] == ["p1", "p2"]
    assert said["copies"][1]["failure"]["attempts"] == 7
    assert said["refused"]["missingBytes"] == 100 * MEBIBYTE
    (verdict,) = said["refused"]["verdicts"]
    assert (verdict["pod"], verdict["filter"], verdict["message"]) == ("p1", "FitsMemory", "100Mi missing")
    assert verdict["rule"] == DESCRIPTIONS["FitsMemory"]
    assert said["answers"] is True
    assert {c["type"] for c in said["conditions"]} >= {"Ready", "Loaded"}


def test_everything_that_is_known_of_a_cold_model() -> None:
    failure = LOAD.model_copy(update={"attempts": 3, "retry_at": 1_785_585_600.0})
    said = explain(
        view(
            spec=replace(SPEC, max_copies=4, idle_unload=600.0, memory_bytes=None),
            failure=failure,
            on_demand=True,
            artifact_seen=True,
            artifact_bytes=9 * MEBIBYTE,
            memory_bytes=12 * MEBIBYTE,
            min_copies=0,
            wanted_copies=0,
            wish="Cold",
            idle_seconds=61.234,
            requests_per_second=0.12345,
            verdicts=(Verdict("p2", "NotLeaving", "the pod is leaving"), Verdict("p1", "FitsMemory", "full")),
            decisions=(Decision(12.34, "p1", "Evicted", "m2 was asked for"),),
            pressure=True,
        ),
        waiting_requests=7,
    )
    assert said["onDemand"] is True
    assert said["copiesWanted"] == {"now": 0, "wish": "Cold", "min": 0, "max": 4}
    assert said["use"] == {
        "requestsPerSecond": 0.123,
        "idleSeconds": 61.2,
        "idleUnloadSeconds": 600.0,
        "waitingRequests": 7,
    }
    assert said["memory"]["bytes"] == 12 * MEBIBYTE
    assert said["memory"]["shown"] == "12Mi"
    assert said["artifactBytes"] == 9 * MEBIBYTE
    assert said["failure"]["reason"] == "LoadFailed"
    assert said["failure"]["retryTime"] == "2026-08-01T12:00:00Z"
    assert [v["pod"] for v in said["otherPods"]] == ["p1", "p2"]
    assert said["decisions"] == [{"secondsAgo": 12.3, "pod": "p1", "what": "Evicted", "why": "m2 was asked for"}]
    assert said["inferenceService"]["memoryPressure"] is True
    assert said["inferenceService"]["placement"] == "overcommit"
    json.dumps(said)


@pytest.mark.parametrize(
    ("declared", "size", "workers", "words"),
    [
        (None, None, 1, "not known yet"),
        (None, MEBIBYTE, 1, "estimated from the artifact"),
        (MEBIBYTE, MEBIBYTE, 1, "declared in spec.model.memory"),
        (2 * MEBIBYTE, 2 * MEBIBYTE, 2, "of each of its 2 workers"),
    ],
)
def test_how_the_memory_was_found(declared: int | None, size: int | None, workers: int, words: str) -> None:
    tuning = Tuning(workers_max=workers)
    said = explain(view(spec=replace(SPEC, memory_bytes=declared, tuning=tuning), memory_bytes=size))
    assert words in said["memory"]["found"]


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (view(copy(CopyState.LOADED)), "1 of 1 wanted copies answer"),
        (view(copy(CopyState.LOADED), wanted_copies=3), "1 of 3"),
        (view(on_demand=True, artifact_seen=True, min_copies=0, wanted_copies=0), "a request has it loaded"),
        (view(artifact_seen=True, min_copies=0, failure=LOAD), "Not loaded: ValueError: no joblib."),
        (
            view(on_demand=True, min_copies=0, failure=LOAD, last_good=GOOD),
            "the previous content. ValueError: no joblib.",
        ),
        (view(copy(CopyState.FAILED, PULL)), "403 for s3://bucket/m."),
        (view(service=None, service_ready=False), "no InferenceService iris"),
        (view(min_copies=0), "looking the artifact up"),
        (view(copy(CopyState.LOADING)), "On its way"),
        (view(refusal=Refusal(missing_bytes=5)), "are missing"),
    ],
)
def test_the_summary_is_what_one_wants_to_know_first(of: ModelView, words: str) -> None:
    assert words in summary(of)


def test_an_answer_with_thousands_of_pods_stays_bounded() -> None:
    many = tuple(Verdict(f"p{number:05d}", "PodReady", "its agent is not connected") for number in range(5000))
    said = explain(view(verdicts=many, refusal=Refusal(many)))
    assert len(said["otherPods"]) == MAX_VERDICTS == len(said["refused"]["verdicts"])


def test_a_strict_service_and_a_missing_one() -> None:
    assert explain(view(service=replace(SERVICE, strict=True)))["inferenceService"]["placement"] == "strict"
    assert explain(view(service=None))["inferenceService"]["exists"] is False


@pytest.mark.parametrize(
    ("recovering", "is_service", "models", "reason", "words"),
    [
        (True, False, 0, "Recovering", "ask again"),
        (False, True, 3, "NotATrainedModel", "is an InferenceService"),
        (False, False, 0, "NamespaceWithoutModels", "does not watch that namespace"),
        (False, False, 3, "ModelNotFound", "no TrainedModel m in namespace demo"),
        (False, False, None, "ModelNotFound", "kubectl get tm -n demo"),
    ],
)
def test_why_there_is_nothing_to_explain(
    recovering: bool, is_service: bool, models: int | None, reason: str, words: str
) -> None:
    problem = not_known("demo", "m", recovering=recovering, is_service=is_service, models=models)
    assert problem.reason == reason
    assert words in problem.message

"""A TrainedModel's conditions: what each situation says, and that nothing changes without a cause."""

from dataclasses import replace
from datetime import timedelta

import pytest
from shoal_api.messages import CopyFailure, FailureStage, content_digest
from shoal_api.tuning import Tuning
from shoal_operator.state.world.values import Content, Problem, Refusal, Verdict
from shoal_operator.state.world.views import CopyState, ModelView
from shoal_operator.status.model_status import model_status, trouble
from shoal_operator.watch import parse

from .model_views import LOAD, MEBIBYTE, NOW, PULL, SERVICE, SPEC, UNSUPPORTED, copy, message, verdicts, view


def test_a_loaded_model_is_true_throughout() -> None:
    status = model_status(view(copy(CopyState.LOADED), artifact_seen=True), None, NOW)
    assert status["observedGeneration"] == 4
    assert status["url"] == "http://iris.demo.example.com/v1/models/m:predict"
    assert status["address"]["url"] == "http://iris.demo.svc.cluster.local/v1/models/m:predict"
    assert {c["type"] for c in status["conditions"]} == {
        "Ready",
        "InferenceServiceReady",
        "IsMMSPredictor",
        "MemoryResourceAvailable",
        "StorageResolved",
        "Scheduled",
        "Loaded",
    }
    assert all(c["status"] == "True" and "message" not in c for c in status["conditions"])
    assert all(c["lastTransitionTime"] == "2026-08-01T12:00:00Z" for c in status["conditions"])


def test_url_of_protocol_v2() -> None:
    status = model_status(view(service=replace(SERVICE, protocol="v2")), None, NOW, "c.l")
    assert status["url"].endswith("/v2/models/m/infer")
    assert status["address"]["url"] == "http://iris.demo.svc.c.l/v2/models/m/infer"


SITUATIONS: list[tuple[str, ModelView, tuple[str, str], str, tuple[str, str]]] = [
    ("just placed", view(copy(CopyState.PENDING)), ("Unknown", "Pending"), "Scheduled", ("True", "Placed")),
    ("pulling", view(copy(CopyState.PULLING)), ("Unknown", "Pending"), "Loaded", ("Unknown", "Pulling")),
    ("loading", view(copy(CopyState.LOADING)), ("Unknown", "Pending"), "Loaded", ("Unknown", "Loading")),
    (
        "no InferenceService",
        view(service=None, service_ready=False),
        ("False", "InferenceServiceNotFound"),
        "InferenceServiceReady",
        ("False", "InferenceServiceNotFound"),
    ),
    (
        "no pod yet",
        view(service_ready=False),
        ("False", "PodsNotReady"),
        "InferenceServiceReady",
        ("False", "PodsNotReady"),
    ),
    (
        "a service with a problem",
        view(service=replace(SERVICE, problem=Problem("NoMemoryLimit", "Set it."))),
        ("False", "NoMemoryLimit"),
        "InferenceServiceReady",
        ("False", "NoMemoryLimit"),
    ),
    (
        "a single-model service",
        view(service=replace(SERVICE, multi_model=False, problem=Problem("NotMultiModel", "Leave storageUri out."))),
        ("False", "NotMultiModel"),
        "IsMMSPredictor",
        ("False", "NotMultiModel"),
    ),
    (
        "no room",
        view(refusal=Refusal(missing_bytes=100 * MEBIBYTE + 1)),
        ("False", "InsufficientMemory"),
        "MemoryResourceAvailable",
        ("False", "InsufficientMemory"),
    ),
    (
        "larger than a pod",
        view(spec=replace(SPEC, memory_bytes=1 << 30), refusal=Refusal(missing_bytes=512 * MEBIBYTE)),
        ("False", "ModelTooLarge"),
        "Scheduled",
        ("False", "InsufficientMemory"),
    ),
    (
        "another framework",
        view(spec=replace(SPEC, framework="pytorch")),
        ("False", "FrameworkNotSupported"),
        "Scheduled",
        ("False", "FrameworkNotSupported"),
    ),
    (
        "pods refuse for other reasons",
        view(refusal=Refusal((Verdict("p1", "recent-failure", "it failed to load there"),))),
        ("False", "NoPodFits"),
        "Scheduled",
        ("False", "NoPodFits"),
    ),
    (
        "pull failed",
        view(copy(CopyState.FAILED, PULL)),
        ("False", "AccessDenied"),
        "StorageResolved",
        ("False", "AccessDenied"),
    ),
    (
        "load failed",
        view(copy(CopyState.FAILED, LOAD), artifact_seen=True),
        ("False", "LoadFailed"),
        "StorageResolved",
        ("True", "Resolved"),
    ),
    (
        "a URI that cannot be used",
        view(spec=replace(SPEC, problem=UNSUPPORTED)),
        ("False", "StorageUriNotSupported"),
        "StorageResolved",
        ("False", "StorageUriNotSupported"),
    ),
    (
        "one copy of two failed",
        view(copy(CopyState.LOADED), copy(CopyState.FAILED, PULL, "p2")),
        ("True", "Loaded"),
        "StorageResolved",
        ("True", "Resolved"),
    ),
    (
        "no pod for the second copy",
        view(copy(CopyState.LOADED), min_copies=2, refusal=Refusal()),
        ("True", "Loaded"),
        "Scheduled",
        ("False", "NoPodFits"),
    ),
    ("updating", view(copy(CopyState.OUTDATED)), ("True", "Updating"), "Loaded", ("Unknown", "Pending")),
    (
        "the new content fails to load",
        view(copy(CopyState.OUTDATED, LOAD), artifact_seen=True),
        ("True", "UpdateFailed"),
        "Loaded",
        ("False", "LoadFailed"),
    ),
    (
        "the new content cannot be pulled",
        view(copy(CopyState.OUTDATED, PULL)),
        ("True", "UpdateFailed"),
        "StorageResolved",
        ("False", "AccessDenied"),
    ),
    (
        "no room for the new content",
        view(copy(CopyState.OUTDATED), refusal=Refusal(missing_bytes=5), update_blocked=True),
        ("True", "UpdateBlocked"),
        "MemoryResourceAvailable",
        ("False", "UpdateBlocked"),
    ),
    (
        "its service is gone while it is loaded",
        view(copy(CopyState.LOADED), service=None, service_ready=False),
        ("False", "InferenceServiceNotFound"),
        "Loaded",
        ("True", "Loaded"),
    ),
    (
        "only a leaving copy",
        view(copy(CopyState.DRAINING)),
        ("Unknown", "Pending"),
        "Scheduled",
        ("Unknown", "Pending"),
    ),
]


@pytest.mark.parametrize(("case", "of", "ready", "kind", "part"), SITUATIONS, ids=[s[0] for s in SITUATIONS])
def test_situations(case: str, of: ModelView, ready: tuple[str, str], kind: str, part: tuple[str, str]) -> None:
    assert verdicts(of)["Ready"] == ready
    assert verdicts(of)[kind] == part


def test_messages_say_what_is_missing_and_what_to_do() -> None:
    memory = message(view(refusal=Refusal(missing_bytes=100 * MEBIBYTE + 1)))
    assert "256Mi" in memory
    assert "101Mi are missing" in memory
    assert "limits.memory or minReplicas" in memory
    assert "larger" not in memory
    absent = message(view(service=None, service_ready=False))
    assert "no InferenceService iris in namespace demo" in absent
    assert message(view(copy(CopyState.FAILED, PULL))) == "403 for s3://bucket/m."
    formats = message(view(spec=replace(SPEC, framework="pytorch")))
    assert "it loads sklearn, xgboost" in formats
    kept = message(view(copy(CopyState.OUTDATED, LOAD)))
    assert kept == "The previous content keeps serving. ValueError: no joblib."


def test_messages_are_bounded() -> None:
    long = CopyFailure(stage=FailureStage.LOAD, reason="LoadFailed", message="x" * 1024)
    assert len(message(view(copy(CopyState.OUTDATED, long)))) == 1024


def test_more_attempts_change_nothing() -> None:
    before = model_status(view(copy(CopyState.FAILED, PULL)), None, NOW)
    later = PULL.model_copy(update={"attempts": 8, "retry_at": 1.0})
    assert model_status(view(copy(CopyState.FAILED, later)), before, NOW + timedelta(minutes=1)) == before


def test_the_order_of_copies_changes_nothing() -> None:
    one, two = copy(CopyState.FAILED, PULL, "p1"), copy(CopyState.FAILED, LOAD, "p2")
    assert model_status(view(one, two), None, NOW) == model_status(view(two, one), None, NOW)


def test_transition_time_moves_only_with_the_status() -> None:
    before = model_status(view(copy(CopyState.FAILED, PULL)), None, NOW)
    after = model_status(view(copy(CopyState.FAILED, LOAD), artifact_seen=True), before, NOW + timedelta(minutes=1))
    times = {c["type"]: c["lastTransitionTime"] for c in after["conditions"]}
    assert times["Ready"] == "2026-08-01T12:00:00Z"  # still False, for another reason
    assert times["StorageResolved"] == "2026-08-01T12:01:00Z"


def test_a_status_of_another_writer_is_no_obstacle() -> None:
    for previous in ({"conditions": None}, {"conditions": ["odd"]}, {"conditions": [{"type": "Ready"}]}):
        assert model_status(view(), previous, NOW) == model_status(view(), None, NOW)


@pytest.mark.parametrize(
    ("of", "reason"),
    [
        (view(copy(CopyState.LOADED), artifact_seen=True), None),
        (view(copy(CopyState.PENDING)), None),
        (view(service=None, service_ready=False), None),
        (view(service_ready=False), None),
        (view(copy(CopyState.FAILED, PULL)), "AccessDenied"),
        (view(copy(CopyState.OUTDATED, LOAD), artifact_seen=True), "LoadFailed"),
        (view(refusal=Refusal(missing_bytes=1)), "InsufficientMemory"),
    ],
)
def test_trouble_is_what_someone_has_to_act_on(of: ModelView, reason: str | None) -> None:
    found = trouble(of)
    assert (found.reason if found else None) == reason


@pytest.mark.parametrize(
    ("of", "word"),
    [
        (view(copy(CopyState.LOADED)), "Kept"),
        (view(copy(CopyState.LOADED), min_copies=0, artifact_seen=True), "OnDemand"),
        (view(min_copies=0, wanted_copies=0, artifact_seen=True, on_demand=True), "OnDemand"),
        (view(copy(CopyState.FAILED, LOAD)), "Failed"),
        (view(copy(CopyState.LOADING)), "Waiting"),
        (view(service=None), "Waiting"),
    ],
)
def test_one_word_says_how_requests_are_answered(of: ModelView, word: str) -> None:
    assert model_status(of, None, NOW)["serving"] == word


def test_fields_that_nobody_reads_are_a_condition() -> None:
    of = view(copy(CopyState.LOADED), spec=replace(SPEC, ignored_fields=("spec.model.memroy",)))
    assert verdicts(of)["FieldsIgnored"] == ("True", "FieldsNotSupported")
    assert message(of, "FieldsIgnored") == "Without effect here: spec.model.memroy."
    assert "FieldsIgnored" not in verdicts(view(copy(CopyState.LOADED)))


def test_tuning_that_the_server_cannot_honour_is_named_and_breaks_nothing() -> None:
    tuning = Tuning(workers_max=4, batch_size=8)
    of = view(copy(CopyState.LOADED), spec=replace(SPEC, tuning=tuning))
    assert verdicts(of)["Ready"][0] == "True"
    assert verdicts(of)["TuningNotSupported"] == ("True", "TuningNotSupported")
    said = message(of, "TuningNotSupported") or ""
    assert "spec.serving.workers: MLServer cannot do that (it honours batch.size, batch.delay); leave it out" in said
    assert "batch.size:" not in said, "that it can"
    honoured = view(copy(CopyState.LOADED), spec=replace(SPEC, tuning=Tuning(batch_size=8)))
    assert "TuningNotSupported" not in verdicts(honoured)
    # A type that this operator has no profile of (any more) is nothing to complain about here.
    gone = view(copy(CopyState.LOADED), spec=replace(SPEC, tuning=tuning), service=replace(SERVICE, server_type="gone"))
    assert "TuningNotSupported" not in verdicts(gone)


def test_which_revision_requests_can_count_on_and_since_when() -> None:
    """Written again only when it is another one; another operator reads it there."""
    good = Content("s3://bucket/m", "sklearn", content_digest("s3://bucket/m", "sklearn"), MEBIBYTE, revision="a" * 16)
    first = model_status(view(copy(CopyState.LOADED), last_good=good), None, NOW)
    assert (first["content"]["revision"], first["content"]["revisionSeen"]) == ("a" * 16, "2026-08-01T12:00:00Z")
    assert parse.last_good({"status": first}) == good
    later = NOW + timedelta(hours=1)
    assert model_status(view(copy(CopyState.LOADED), last_good=good), first, later) == first
    other = model_status(view(copy(CopyState.LOADED), last_good=replace(good, revision="b" * 16)), first, later)
    assert (other["content"]["revision"], other["content"]["revisionSeen"]) == ("b" * 16, "2026-08-01T13:00:00Z")
    none = model_status(view(copy(CopyState.LOADED), last_good=replace(good, revision="")), first, later)
    assert "revision" not in none["content"]

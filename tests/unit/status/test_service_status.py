"""An InferenceService's conditions, address and counts."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from shoal_operator.state.world.values import Problem, ServiceSpec
from shoal_operator.state.world.views import ServiceView
from shoal_operator.status.service_status import service_status, trouble

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
SPEC = ServiceSpec("demo", "iris", "s", 3, 1 << 30, frozenset({"sklearn"}), "mlserver")
VIEW = ServiceView(SPEC, "http://iris.demo.example.com", 3, 3, 60, 59, 1, gateways=2)
QUOTA = Problem("WorkloadRefused", "Quota.")
IMAGE = Problem("ImagePullFailed", "The image cannot be pulled.")


def verdicts(view: ServiceView, previous: dict[str, Any] | None = None) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in service_status(view, previous, NOW)["conditions"]}


def test_a_ready_service() -> None:
    status = service_status(VIEW, None, NOW)
    assert status["observedGeneration"] == 3
    assert status["url"] == "http://iris.demo.example.com"
    assert status["address"] == {"url": "http://iris.demo.svc.cluster.local"}
    assert status["components"]["predictor"]["url"] == "http://iris.demo.example.com"
    assert status["models"] == {"total": 60, "ready": 59, "failed": 1}
    assert status["modelsReady"] == "59/60"
    assert verdicts(VIEW) == {
        "Ready": ("True", "Ready"),
        "PredictorReady": ("True", "Ready"),
        "IngressReady": ("True", "Ready"),
    }


@pytest.mark.parametrize(
    ("view", "ready"),
    [
        (replace(VIEW, pods_ready=0), ("Unknown", "PodsStarting")),
        (replace(VIEW, pods_ready=2), ("Unknown", "PodsStarting")),
        (replace(VIEW, pods_ready=0, pod_problem=IMAGE), ("False", "ImagePullFailed")),
        (replace(VIEW, pods_ready=2, pod_problem=IMAGE), ("False", "ImagePullFailed")),
        (replace(VIEW, pods_ready=2, spec=replace(SPEC, degraded=QUOTA)), ("False", "WorkloadRefused")),
        (replace(VIEW, spec=replace(SPEC, degraded=QUOTA)), ("True", "WorkloadRefused")),
        (replace(VIEW, spec=replace(SPEC, problem=QUOTA)), ("False", "WorkloadRefused")),
        (replace(VIEW, gateways=0), ("False", "NoGateway")),
        (replace(VIEW, pod_problem=IMAGE), ("True", "Ready")),
    ],
)
def test_situations(view: ServiceView, ready: tuple[str, str]) -> None:
    assert verdicts(view)["Ready"] == ready


def test_once_ready_a_pod_that_is_replaced_does_not_take_it_away() -> None:
    before = service_status(VIEW, None, NOW)
    one_less = replace(VIEW, pods_ready=2, pod_problem=IMAGE)
    assert verdicts(one_less, before)["Ready"] == ("True", "PodsMissing")
    assert verdicts(replace(VIEW, pods_ready=0), before)["Ready"] == ("Unknown", "PodsStarting")


def test_ignored_fields_are_named() -> None:
    view = replace(VIEW, spec=replace(SPEC, ignored_fields=("spec.transformer", "spec.predictor.logger")))
    conditions = service_status(view, None, NOW)["conditions"]
    ignored = next(c for c in conditions if c["type"] == "FieldsIgnored")
    assert ignored["message"] == "Without effect here: spec.transformer, spec.predictor.logger."
    assert verdicts(view)["Ready"] == ("True", "Ready")


def test_trouble_is_what_someone_has_to_act_on() -> None:
    assert trouble(VIEW) is None
    assert trouble(replace(VIEW, pods_ready=0)) is None
    found = trouble(replace(VIEW, pods_ready=0, pod_problem=IMAGE))
    assert found is not None
    assert found.reason == "ImagePullFailed"


def message(view: ServiceView, kind: str, previous: dict[str, Any] | None = None) -> str | None:
    found = {c["type"]: c.get("message", "") for c in service_status(view, previous, NOW)["conditions"]}
    return found.get(kind)


def test_a_working_set_larger_than_memory_is_said_with_what_to_do_and_breaks_nothing() -> None:
    pressed = replace(VIEW, pressure=True)
    assert verdicts(pressed)["MemoryPressure"] == ("True", "WorkingSetTooLarge")
    assert verdicts(pressed)["Ready"] == ("True", "Ready")
    assert "maxReplicas" in str(message(pressed, "MemoryPressure"))
    assert trouble(pressed) is None
    assert message(VIEW, "MemoryPressure") is None


@pytest.mark.parametrize(
    ("ratios", "reason", "words"),
    [
        ((("sklearn", 1.0), ("xgboost", 1.5), ("lightgbm", 0.5)), None, ""),
        ((("sklearn", 2.34),), "DeclaredTooLittle", "sklearn models take 2.3 times the memory that they declare."),
        ((("sklearn", 0.1),), "DeclaredTooMuch", "sklearn models take 0.10 times"),
        ((("sklearn", 0.0),), "DeclaredTooMuch", "sklearn models take 0.01 times"),
        ((("a", 0.2), ("b", 3.0), ("c", 12.0)), "DeclaredTooLittle", "c models take 12.0 times"),
        (tuple((f"f{n}", 2.0) for n in range(9)), "DeclaredTooLittle", "; and 5 more."),
    ],
)
def test_declarations_that_are_far_off_are_named(
    ratios: tuple[tuple[str, float], ...], reason: str | None, words: str
) -> None:
    view = replace(VIEW, memory_ratios=ratios)
    assert verdicts(view).get("MemoryMisdeclared", (None, None))[1] == reason
    if reason is not None:
        said = str(message(view, "MemoryMisdeclared"))
        assert words in said
        assert "spec.model.memory" in said
    assert verdicts(view)["Ready"] == ("True", "Ready")


def test_measured_ratios_that_drift_are_not_said_anew() -> None:
    def view(ratio: float) -> ServiceView:
        return replace(VIEW, memory_ratios=(("sklearn", ratio), ("xgboost", 1.0)))

    first = service_status(view(1.6), None, NOW)
    for ratio in (1.55, 1.45, 1.9):  # 1.45 by itself would not be worth saying
        assert service_status(view(ratio), first, NOW) == first
    assert "take 2.5 times" in str(message(view(2.5), "MemoryMisdeclared", first))
    assert message(view(1.2), "MemoryMisdeclared", first) is None
    foreign = {
        "conditions": [{"type": "MemoryMisdeclared", "status": "True", "message": "sklearn models take 0 times"}]
    }
    assert "take 2.5 times" in str(message(view(2.5), "MemoryMisdeclared", foreign))


def test_why_there_are_so_many_pods_is_shown_and_does_not_change_with_every_number() -> None:
    scaled = replace(VIEW, spec=replace(SPEC, autoscaled=True), pods_wanted=3)
    first = service_status(replace(scaled, scaling_reason="412.5 requests/s, 200 a pod"), None, NOW)
    assert next(c["message"] for c in first["conditions"] if c["type"] == "Scaled") == (
        "3 pods: 412.5 requests/s, 200 a pod"
    )
    assert service_status(replace(scaled, scaling_reason="498 requests/s, 200 a pod"), first, NOW) == first
    more = replace(scaled, pods_wanted=4, pods_ready=4, scaling_reason="788 requests/s, 200 a pod")
    assert message(more, "Scaled", first) == "4 pods: 788 requests/s, 200 a pod"
    other = replace(scaled, scaling_reason="memory that models in use need")
    assert message(other, "Scaled", first) == "3 pods: memory that models in use need"
    assert message(replace(scaled, pods_wanted=1, scaling_reason="quiet"), "Scaled") == "1 pod: quiet"
    assert message(replace(VIEW, scaling_reason="left from before"), "Scaled") is None


def test_loading_and_unloading_changes_nothing() -> None:
    first = service_status(VIEW, None, NOW)
    assert service_status(replace(VIEW, models_loaded=17), first, NOW) == first


def test_pods_that_start_say_what_they_wait_for() -> None:
    waiting = "Container kserve-container runs, and its startupProbe has not passed. It last said: HTTP 500."
    status = service_status(replace(VIEW, pods_ready=0, pod_waiting=waiting), None, NOW)
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert (ready["reason"], ready["message"]) == ("PodsStarting", f"0 of 3 pods are ready. {waiting}")


def test_many_ignored_fields_are_cut_short() -> None:
    fields = tuple(f"spec.predictor.field{n}" for n in range(40))
    status = service_status(replace(VIEW, spec=replace(SPEC, ignored_fields=fields)), None, NOW)
    said = next(c["message"] for c in status["conditions"] if c["type"] == "FieldsIgnored")
    assert "spec.predictor.field0" in said
    assert said.endswith("and 28 more.")


def test_a_storage_secret_that_is_not_there_is_named() -> None:
    view = replace(VIEW, spec=replace(SPEC, missing_secrets=("a", "b", "c", "d", "e")))
    conditions = service_status(view, None, NOW)["conditions"]
    (said,) = [each for each in conditions if each["type"] == "StorageSecretMissing"]
    assert (said["status"], said["reason"]) == ("True", "SecretNotFound")
    assert "a, b, c, d, …" in said["message"]
    ready = next(each for each in conditions if each["type"] == "Ready")
    assert ready["status"] == "True"  # models that need no Secret are served


def test_a_server_setting_that_cannot_be_is_named() -> None:
    spec = replace(SPEC, not_tuned=("shoal.dev/server-config: x has no setting 'y' here",))
    conditions = service_status(replace(VIEW, spec=spec), None, NOW)["conditions"]
    (said,) = [each for each in conditions if each["type"] == "TuningNotSupported"]
    assert (said["status"], said["reason"]) == ("True", "TuningNotSupported")
    assert said["message"] == "Without effect here: shoal.dev/server-config: x has no setting 'y' here."

"""An InferenceService's conditions, address and counts."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from shoal_operator.state.values import Problem, ServiceSpec
from shoal_operator.state.views import ServiceView
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

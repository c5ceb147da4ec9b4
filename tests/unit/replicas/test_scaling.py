"""Who decides how many pods an InferenceService has: KServe's fields, its annotation, and what others have done."""

from typing import Any

import pytest
from shoal_operator.manifests.scaling import Decision, Scaling
from shoal_operator.replicas.decide import LiveReplicas, decide
from shoal_operator.replicas.deployments import deployment_state
from shoal_operator.state.world.values import ScaleMetric

from tests.unit.manifests.objects import LIMITS, isvc, resolved, runtime

CLASS = "serving.kserve.io/autoscalerClass"
CPU: dict[str, Any] = {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m"}}


def asked(annotations: dict[str, str] | None = None, **predictor: Any) -> Scaling:
    return resolved(isvc(annotations, sklearn={"resources": CPU}, **predictor)).scaling


def spec_of(annotations: dict[str, str] | None = None, **predictor: Any) -> Any:
    return resolved(isvc(annotations, sklearn={"resources": CPU}, **predictor)).spec


@pytest.mark.parametrize(
    ("predictor", "autoscaled", "metric", "target"),
    [
        ({}, False, None, None),
        ({"minReplicas": 3}, False, None, None),
        ({"minReplicas": 3, "maxReplicas": 3}, False, None, None),
        ({"minReplicas": 2, "maxReplicas": 0}, False, None, None),  # KServe: 0 is no bound, and no autoscaling here
        ({"maxReplicas": 4}, True, None, None),
        ({"minReplicas": 0, "maxReplicas": 1}, False, None, None),
        ({"minReplicas": 0, "maxReplicas": 2}, True, None, None),
        ({"maxReplicas": 4, "scaleMetric": "concurrency"}, True, ScaleMetric.CONCURRENCY, 100.0),
        ({"maxReplicas": 4, "scaleMetric": "concurrency", "scaleTarget": 5}, True, ScaleMetric.CONCURRENCY, 5.0),
        ({"maxReplicas": 4, "scaleMetric": "rps"}, True, ScaleMetric.RPS, 200.0),
        ({"maxReplicas": 4, "scaleMetric": "rps", "scaleTarget": 30}, True, ScaleMetric.RPS, 30.0),
        ({"maxReplicas": 4, "scaleMetric": "rps", "scaleTarget": 0}, True, ScaleMetric.RPS, 200.0),
        ({"maxReplicas": 4, "scaleMetric": "cpu", "scaleTarget": 50}, False, None, None),
        ({"maxReplicas": 4, "scaleMetric": "memory"}, False, None, None),
        ({"minReplicas": 2, "scaleMetric": "rps"}, False, None, None),
        ({"maxReplicas": 4, "scaleMetric": "gpu"}, True, None, None),
    ],
)
def test_what_state_decides_by(
    predictor: dict[str, Any], autoscaled: bool, metric: ScaleMetric | None, target: float | None
) -> None:
    spec = spec_of(**predictor)
    assert (spec.autoscaled, spec.scale_metric, spec.scale_target) == (autoscaled, metric, target)


@pytest.mark.parametrize(
    ("value", "autoscaled", "said"),
    [("hpa", True, ""), ("none", False, ""), ("external", False, ""), ("keda", False, ""), ("kpa", True, "'kpa'")],
)
def test_autoscaler_class(value: str, autoscaled: bool, said: str) -> None:
    spec = spec_of({CLASS: value}, maxReplicas=4)
    assert spec.autoscaled is autoscaled
    assert (said in spec.degraded.message) if said else spec.degraded is None


@pytest.mark.parametrize(
    ("predictor", "words"),
    [
        ({"maxReplicas": 4, "scaleMetric": "gpu"}, ("scaleMetric is 'gpu'", "concurrency, rps, cpu or memory")),
        ({"maxReplicas": 4, "scaleMetric": "rps", "scaleTarget": -1}, ("scaleTarget is -1", "from 1")),
    ],
)
def test_what_cannot_be_is_said_and_blocks_nothing(predictor: dict[str, Any], words: tuple[str, ...]) -> None:
    spec = spec_of(**predictor)
    assert spec.problem is None
    assert spec.degraded.reason == "InvalidSetting"
    assert all(word in spec.degraded.message for word in words), spec.degraded.message


@pytest.mark.parametrize(
    ("resources", "on_runtime", "said"),
    [
        (CPU, {}, False),
        ({"limits": {"memory": "512Mi", "cpu": "1"}}, {}, False),  # a request that is left out is the limit
        (LIMITS, {"requests": {"cpu": "1"}}, False),
        (LIMITS, {}, True),
    ],
)
def test_cpu_cannot_be_measured_against_nothing(resources: Any, on_runtime: Any, said: bool) -> None:
    loads = runtime(containers=[{"name": "kserve-container", "image": "x", "resources": on_runtime}])
    service = isvc(sklearn={"resources": resources}, maxReplicas=3, scaleMetric="cpu")
    degraded = resolved(service, loads).spec.degraded
    assert (degraded is not None and "resources.requests.cpu" in degraded.message) is said


def test_fields_that_count_are_not_called_ignored() -> None:
    honoured = spec_of(maxReplicas=4, scaleMetric="rps", scaleTarget=10, scaleMetricType="Utilization")
    assert honoured.ignored_fields == ()
    alone = spec_of(maxReplicas=4, scaleTarget=10, scaleMetricType="AverageValue", autoScaling={"metrics": []})
    assert alone.ignored_fields == (
        "spec.predictor.autoScaling",
        "spec.predictor.scaleTarget without scaleMetric",
        "spec.predictor.scaleMetricType: AverageValue",
    )


OURS = "iris-predictor"
FIXED: dict[str, Any] = {"minReplicas": 2}
GROWS: dict[str, Any] = {"minReplicas": 2, "maxReplicas": 6}


@pytest.mark.parametrize(
    ("predictor", "wanted", "live", "replicas"),
    [
        (FIXED, None, None, 2),
        (FIXED, 5, 4, 2),  # no longer autoscaled: the user's number counts
        (GROWS, None, None, 2),
        (GROWS, None, 4, 4),  # an operator that has just started takes no pods away
        (GROWS, None, 1, 2),
        (GROWS, None, 9, 6),
        (GROWS, 3, 5, 3),
        (GROWS, 1, 5, 2),
        (GROWS, 9, 5, 6),
    ],
)
def test_how_many_we_write(predictor: dict[str, Any], wanted: int | None, live: int | None, replicas: int) -> None:
    assert decide(asked(**predictor), wanted, LiveReplicas(live), OURS) == Decision(replicas)


NONE: dict[str, Any] = {"minReplicas": 0}
CPUS: dict[str, Any] = {"minReplicas": 0, "maxReplicas": 4, "scaleMetric": "cpu"}


@pytest.mark.parametrize(
    ("predictor", "wanted", "live", "replicas"),
    [
        (NONE, None, None, 0),  # nobody has asked for anything
        (NONE, None, 1, 1),  # an operator that has just started takes no pods away
        (NONE, 0, 1, 0),
        (NONE, 1, 0, 1),
        (NONE, 3, 1, 1),
        ({**NONE, "maxReplicas": 4}, 3, 1, 3),
        ({**NONE, "maxReplicas": 4}, 0, 3, 0),
        (CPUS, None, None, 0),
        (CPUS, None, 2, None),  # as many as its autoscaler says
        (CPUS, 0, 2, 0),
        (CPUS, 1, 0, 1),
        (CPUS, 1, 3, None),
        ({**CPUS, "minReplicas": 1}, 0, 2, None),
    ],
)
def test_none_while_nobody_asks(
    predictor: dict[str, Any], wanted: int | None, live: int | None, replicas: int | None
) -> None:
    decision = decide(asked(**predictor), wanted, LiveReplicas(live), OURS)
    assert (decision.replicas, decision.autoscaler) == (replicas, "scaleMetric" in predictor)


def test_beside_anothers_autoscaler_none_is_not_ours_to_say() -> None:
    decision = decide(asked(**NONE), 0, LiveReplicas(2, autoscaler="mine"), OURS)
    assert (decision.replicas, "mine" in decision.by) == (None, True)


@pytest.mark.parametrize(
    ("annotations", "predictor", "live", "words"),
    [
        ({CLASS: "external"}, FIXED, LiveReplicas(4), "autoscalerClass: external"),
        ({CLASS: "keda"}, GROWS, LiveReplicas(4), "autoscalerClass: keda. Shoal makes no ScaledObject"),
        ({}, FIXED, LiveReplicas(4, autoscaler="mine"), "HorizontalPodAutoscaler mine"),
        ({CLASS: "none"}, FIXED, LiveReplicas(4, autoscaler="mine"), "HorizontalPodAutoscaler mine"),
        ({CLASS: "external"}, GROWS, LiveReplicas(4, autoscaler="mine"), "HorizontalPodAutoscaler mine"),
        ({}, {**GROWS, "scaleMetric": "cpu"}, LiveReplicas(4, autoscaler="mine"), "HorizontalPodAutoscaler mine"),
        ({}, FIXED, LiveReplicas(4, manager="my-scaler"), "my-scaler has set"),
        ({}, GROWS, LiveReplicas(4, manager="my-scaler"), "autoscalerClass: hpa"),
    ],
)
def test_another_decides_and_is_named(
    annotations: dict[str, str], predictor: dict[str, Any], live: LiveReplicas, words: str
) -> None:
    decision = decide(asked(annotations, **predictor), 3, live, OURS)
    assert decision.replicas is None
    assert not decision.autoscaler, "two autoscalers would fight"
    assert words in decision.by


def test_our_own_autoscaler_decides_for_cpu_and_memory() -> None:
    decision = decide(asked(**GROWS, scaleMetric="memory"), 3, LiveReplicas(4, manager="x"), OURS)
    assert (decision.replicas, decision.autoscaler) == (None, True)
    assert decision.by == "HorizontalPodAutoscaler iris-predictor decides how many pods there are, by memory."


@pytest.mark.parametrize(("value", "replicas"), [("none", 2), ("hpa", 3)])
def test_the_users_word_takes_the_replicas_back_from_who_has_set_them(value: str, replicas: int) -> None:
    live = LiveReplicas(4, manager="my-scaler")
    assert decide(asked({CLASS: value}, **GROWS), 3, live, OURS) == Decision(replicas)


def managed(*entries: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    fields = [
        {"manager": manager, "operation": "Update", "subresource": subresource, "fieldsV1": content}
        for manager, subresource, content in entries
    ]
    return {"metadata": {"name": "d", "managedFields": fields}, "spec": {"replicas": 4}, "status": {"replicas": 3}}


REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}


@pytest.mark.parametrize(
    ("entries", "manager"),
    [
        ((), ""),
        ((("my-scaler", "scale", REPLICAS),), "my-scaler"),
        ((("shoal", "", REPLICAS), ("shoal", "scale", REPLICAS)), ""),
        ((("my-editor", "", REPLICAS),), ""),  # an edit of the object: put right, like any other
        ((("kubectl", "scale", REPLICAS),), ""),  # kubectl scale: a person, not an autoscaler
        ((("kube-controller-manager", "scale", REPLICAS),), ""),  # for an HPA, which is seen itself
        ((("my-scaler", "status", {"f:status": {}}),), ""),
        ((("b", "scale", REPLICAS), ("a", "scale", REPLICAS)), "a"),
    ],
)
def test_who_has_set_the_replicas_through_the_scale_subresource(entries: Any, manager: str) -> None:
    state = deployment_state(managed(*entries))
    assert (state.wanted, state.replicas, state.scale_manager) == (4, 3, manager)

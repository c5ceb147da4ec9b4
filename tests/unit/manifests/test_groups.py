"""The pods that a ServingRuntime's models share, written as an InferenceService's."""

from typing import Any

import pytest
from shoal_api.grammar import SERVICE_NAME
from shoal_api.inference_service import InferenceService
from shoal_operator.manifests.groups import DEFAULT_GROUPS, GroupSettings, group_key, group_object
from shoal_operator.manifests.render import render
from shoal_operator.manifests.resolve import is_taken, resolve
from shoal_operator.manifests.runtimes import Runtime
from shoal_operator.manifests.scaling import Decision
from shoal_operator.manifests.storage import Storage

from .objects import SETTINGS

# Of modelmesh-serving's config/runtimes, in what matters here: its server listens on loopback, behind an adapter.
MODELMESH_RUNTIME: dict[str, Any] = {
    "metadata": {"name": "mlserver-1.x", "uid": "uid-runtime", "generation": 4},
    "spec": {
        "supportedModelFormats": [
            {"name": "sklearn", "version": "0", "autoSelect": True},
            {"name": "xgboost", "version": "1", "autoSelect": True},
        ],
        "protocolVersions": ["grpc-v2"],
        "multiModel": True,
        "grpcEndpoint": "port:8085",
        "grpcDataEndpoint": "port:8001",
        "containers": [
            {
                "name": "mlserver",
                "image": "seldonio/mlserver:1.3.2",
                "env": [
                    {"name": "MLSERVER_MODELS_DIR", "value": "/models/_mlserver_models/"},
                    {"name": "MLSERVER_GRPC_PORT", "value": "8001"},
                    {"name": "MLSERVER_HTTP_PORT", "value": "8002"},
                    {"name": "MLSERVER_LOAD_MODELS_AT_STARTUP", "value": "false"},
                    {"name": "MLSERVER_MODEL_NAME", "value": "dummy-model-fixme"},
                    {"name": "MLSERVER_HOST", "value": "127.0.0.1"},
                ],
                "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "5", "memory": "1Gi"}},
            }
        ],
        "builtInAdapter": {
            "serverType": "mlserver",
            "runtimeManagementPort": 8001,
            "memBufferBytes": 134217728,
            "modelLoadingTimeoutMillis": 90000,
        },
    },
}


def runtime(namespace: str = "", annotations: dict[str, str] | None = None, **spec: Any) -> Runtime:
    meta = {**MODELMESH_RUNTIME["metadata"], "annotations": annotations or {}}
    if namespace:
        meta["namespace"] = namespace
    read = Runtime.read({"metadata": meta, "spec": {**MODELMESH_RUNTIME["spec"], **spec}})
    assert not read.problem
    return read


def group(of: Runtime, settings: GroupSettings = DEFAULT_GROUPS) -> InferenceService:
    return InferenceService.read(group_object("demo", of, settings))


def test_modelmeshs_runtime_is_taken_as_it_is() -> None:
    of = runtime()
    resolution = resolve(group(of), [of])
    assert resolution.spec.problem is None
    assert (resolution.spec.capacity_bytes, resolution.buffer_bytes) == (1 << 30, 134217728)
    assert resolution.spec.formats == {"sklearn", "xgboost"}
    manifests = render(group(of), resolution, Storage(), SETTINGS, Decision(2))
    deployment = next(each for each in manifests if each["kind"] == "Deployment")
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    env = {each["name"]: each.get("value") for each in server["env"]}
    assert env["MLSERVER_HOST"] == "0.0.0.0"  # noqa: S104
    assert env["MLSERVER_GRPC_PORT"] == "8081"


def test_what_it_owns_goes_with_its_runtime_and_it_has_no_services() -> None:
    for of, kind in ((runtime(), "ClusterServingRuntime"), (runtime("demo"), "ServingRuntime")):
        manifests = render(group(of), resolve(group(of), [of]), Storage(), SETTINGS, Decision(2))
        assert {each["kind"] for each in manifests} == {
            "ConfigMap",
            "Deployment",
            "PodDisruptionBudget",
            "NetworkPolicy",
        }
        for each in manifests:
            (owner,) = each["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["name"], owner["uid"]) == (kind, "mlserver-1.x", "uid-runtime")


@pytest.mark.parametrize(
    ("annotations", "spec", "pods"),
    [
        ({}, {}, (2, 2)),
        ({}, {"replicas": 3}, (3, 3)),
        ({"serving.kserve.io/min-scale": "1", "serving.kserve.io/max-scale": "4"}, {"replicas": 3}, (1, 4)),
        ({"serving.kserve.io/max-scale": "many"}, {}, (2, 2)),
    ],
)
def test_pods(annotations: dict[str, str], spec: dict[str, Any], pods: tuple[int, int]) -> None:
    of = runtime("", annotations, **spec)
    resolved = resolve(group(of), [of]).spec
    assert (resolved.min_replicas, resolved.max_replicas) == pods


@pytest.mark.parametrize(
    ("annotations", "spec", "idle", "pods"),
    [
        ({}, {"replicas": 0}, 600.0, (1, 1)),
        ({"serving.kserve.io/min-scale": "0"}, {"replicas": 3}, 600.0, (1, 1)),
        (
            {
                "serving.kserve.io/min-scale": "0",
                "serving.kserve.io/max-scale": "4",
                "shoal.dev/scale-to-zero-after": "1m",
            },
            {},
            60.0,
            (1, 4),
        ),
        ({"serving.kserve.io/min-scale": "no"}, {"replicas": 3}, None, (3, 3)),
    ],
)
def test_no_pod_while_nobody_asks(
    annotations: dict[str, str], spec: dict[str, Any], idle: float | None, pods: tuple[int, int]
) -> None:
    of = runtime("", annotations, **spec)
    resolved = resolve(group(of), [of]).spec
    assert (resolved.idle, (resolved.min_replicas, resolved.max_replicas)) == (idle, pods)


def test_annotations_of_the_runtime_hold_for_its_models() -> None:
    of = runtime("", {"shoal.dev/activation-timeout": "90s", "other": "x"})
    assert resolve(group(of), [of]).spec.activation_timeout == 90.0
    assert group(of, GroupSettings(1, "models")).spec.predictor.service_account_name == "models"


def test_a_runtime_without_a_memory_limit_says_so_by_its_own_name() -> None:
    containers = [{"name": "mlserver", "image": "seldonio/mlserver:1.3.2"}]
    of = runtime("", containers=containers)
    problem = resolve(group(of), [of]).spec.problem
    assert problem is not None
    assert "ClusterServingRuntime mlserver-1.x" in problem.message


def test_names() -> None:
    assert group_key("demo", "mlserver-1.x").name == "runtime.mlserver-1.x"
    names = {group_key("demo", "x" * length).name for length in range(40, 200)}
    assert len(names) == 160
    assert all(len(name) <= SERVICE_NAME.longest for name in names)
    assert not any(SERVICE_NAME.matches(name) for name in names)


def test_groups_are_ours_beside_kserve_too() -> None:
    assert is_taken(group(runtime()), require_model_mesh=True)

"""What an InferenceService's pods hold and run, or why they can hold nothing."""

from dataclasses import replace
from typing import Any

import pytest
from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService
from shoal_operator.manifests.former import served, serves
from shoal_operator.manifests.resolve import is_taken, resolve, unreadable

from .objects import LIMITS, isvc, resolved, runtime

MMS = [{"name": "MULTI_MODEL_SERVER", "value": "true"}]


def custom(**fields: Any) -> dict[str, Any]:
    return {"name": "mine", "image": "example.com/mlserver:1", "env": MMS, "resources": LIMITS, **fields}


def test_an_ordinary_predictor() -> None:
    spec = resolved(isvc(sklearn={"resources": LIMITS}, minReplicas=2, maxReplicas=5)).spec
    assert (spec.namespace, spec.name, spec.uid, spec.generation) == ("demo", "iris", "uid-iris", 2)
    assert spec.capacity_bytes == 512 << 20
    assert spec.formats == {"sklearn"}
    assert (spec.server_type, spec.protocol) == ("mlserver", "v1")
    assert (spec.min_replicas, spec.max_replicas) == (2, 5)
    assert spec.problem is None


@pytest.mark.parametrize(
    ("predictor", "replicas"),
    [
        ({}, (1, 1)),
        ({"minReplicas": 3}, (3, 3)),
        ({"maxReplicas": 4}, (1, 4)),
        ({"minReplicas": 3, "maxReplicas": 2}, (3, 3)),
        ({"minReplicas": 0}, (1, 1)),
    ],
)
def test_replicas(predictor: dict[str, Any], replicas: tuple[int, int]) -> None:
    spec = resolved(isvc(sklearn={"resources": LIMITS}, **predictor)).spec
    assert (spec.min_replicas, spec.max_replicas) == replicas


@pytest.mark.parametrize(
    ("server", "unseen"), [("mlserver", 0.0), ("triton", 0.0), ("kserve", 90.0), ("sagemaker", 90.0)]
)
def test_how_long_a_request_may_run_of_which_nobody_knows(server: str, unseen: float) -> None:
    said = {"serving.kserve.io/server-type": server}
    spec = resolved(isvc(said, containers=[custom(image="example.com/mine:1")], timeout=90)).spec
    assert (spec.server_type, spec.unseen) == (server, unseen)


def test_room_for_models_comes_from_the_runtime_when_the_predictor_says_nothing() -> None:
    loads = runtime(containers=[{"name": "kserve-container", "resources": {"limits": {"memory": "2Gi"}}}])
    assert resolved(isvc(sklearn={}), loads).spec.capacity_bytes == 2 << 30
    assert resolved(isvc(sklearn={"resources": LIMITS}), loads).spec.capacity_bytes == 512 << 20


@pytest.mark.parametrize(
    ("server", "config", "env", "processes"),
    [
        ("mlserver", "", "", 1),
        ("mlserver", "parallel_workers=0", "", 1),
        ("mlserver", "parallel_workers=1", "", 1),
        ("mlserver", "parallel_workers=4", "", 4),
        ("mlserver", "parallel_workers=-4", "", 1),
        ("mlserver", "parallel_workers=4", "2", 2),  # what the user's env says, MLServer does
        ("mlserver", "", "many", 1),
        ("torchserve", "default_workers_per_model=2", "", 2),
        ("mms", "default_workers_per_model=2", "", 2),
        ("triton", "model-load-thread-count=2", "", 1),
    ],
)
def test_room_is_divided_by_the_processes_that_each_hold_every_model(
    server: str, config: str, env: str, processes: int
) -> None:
    written = [{"name": "MLSERVER_PARALLEL_WORKERS", "value": env}] if env else []
    annotations = {"shoal.dev/server-config": config} if config else {}
    found = resolved(isvc(annotations, sklearn={"resources": LIMITS, "env": written}), runtime(server=server))
    assert found.spec.problem is None
    assert (found.spec.processes, found.spec.capacity_bytes) == (processes, (512 << 20) // processes)
    assert found.models_bytes == 512 << 20, "the container's limit is not divided"
    former = served(replace(found.spec, capacity_bytes=0, processes=1), serves(found.spec))
    assert former == found.spec, "and an operator that starts beside a broken spec knows it"


@pytest.mark.parametrize("resources", [{}, {"requests": {"memory": "1Gi"}}, {"limits": {"memory": 0}}])
def test_no_memory_limit_is_a_problem(resources: dict[str, Any]) -> None:
    problem = resolved(isvc(sklearn={"resources": resources})).spec.problem
    assert problem is not None
    assert problem.reason == "NoMemoryLimit"
    assert "spec.predictor.sklearn.resources.limits.memory" in problem.message


@pytest.mark.parametrize(
    ("predictor", "words"),
    [
        ({"containers": [{"name": "mine", "image": "x"}]}, "MULTI_MODEL_SERVER"),
        ({"huggingface": {"resources": LIMITS}}, "huggingface"),
    ],
)
def test_a_server_that_holds_no_model_and_takes_none_is_named_so(predictor: dict[str, Any], words: str) -> None:
    spec = resolved(isvc(**predictor)).spec
    assert not spec.multi_model
    assert spec.problem is not None
    assert spec.problem.reason == "NotMultiModel"
    assert words in spec.problem.message


@pytest.mark.parametrize(
    "predictor",
    [
        {"sklearn": {"storageUri": "s3://b/m", "resources": LIMITS}},
        {"model": {"modelFormat": {"name": "sklearn"}, "storage": {"path": "m"}, "resources": LIMITS}},
    ],
)
def test_a_model_of_its_own_has_the_pods_to_itself(predictor: dict[str, Any]) -> None:
    spec = resolved(isvc(**predictor, minReplicas=2)).spec
    assert (spec.problem, spec.multi_model, spec.min_replicas) == (None, False, 2)
    assert "sklearn" in spec.formats


class TestCustomContainers:
    def test_server_by_image(self) -> None:
        resolution = resolved(isvc(containers=[custom()]))
        assert resolution.spec.problem is None
        assert resolution.spec.server_type == "mlserver"
        assert {"sklearn", "custom"} <= resolution.spec.formats
        assert resolution.runtime is None

    @pytest.mark.parametrize("where", ["predictor", "service"])
    def test_server_by_annotation(self, where: str) -> None:
        said = {"serving.kserve.io/server-type": "mlserver"}
        predictor: dict[str, Any] = {"containers": [custom(image="example.com/mine@sha256:00")]}
        if where == "predictor":
            predictor["annotations"] = said
        service = isvc(said if where == "service" else None, **predictor)
        assert resolved(service).spec.server_type == "mlserver"

    def test_an_unknown_server_is_refused_and_says_how(self) -> None:
        problem = resolved(isvc(containers=[custom(image="example.com/own-server:1")])).spec.problem
        assert problem is not None
        assert problem.reason == "RuntimeNotSupported"
        assert "annotation serving.kserve.io/server-type is not set" in problem.message

    def test_protocol_by_kserves_variable(self) -> None:
        env = [*MMS, {"name": "PROTOCOL", "value": "v2"}]
        assert resolved(isvc(containers=[custom(env=env)])).spec.protocol == "v2"

    def test_other_containers_stay_beside(self) -> None:
        resolution = resolved(isvc(containers=[custom(), {"name": "log-shipper", "image": "x"}]))
        assert [c["name"] for c in resolution.sidecars] == ["log-shipper"]


class TestMergedContainer:
    def test_runtime_and_predictor(self) -> None:
        base = {
            "name": "mlserver",
            "image": "mlserver:1.7.1",
            "args": ["--a"],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}],
            "resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "1"}},
        }
        over = {
            "args": ["--b"],
            "env": [{"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "C"}],
            "resources": {"limits": {"memory": "512Mi"}},
            "protocolVersion": "v1",
            "name": "sklearn-iris-predictor",
        }
        container = resolved(isvc(sklearn=over), runtime(containers=[base])).container
        assert container is not None
        assert container["args"] == ["--a", "--b"]
        assert container["env"] == [
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "C"},
        ]
        assert container["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
        assert "protocolVersion" not in container

    @pytest.mark.parametrize(
        ("image", "version", "result"),
        [
            ("mlserver:1.7.1", "1.6.0", "mlserver:1.6.0"),
            ("registry:5000/mlserver", "1.6.0", "registry:5000/mlserver:1.6.0"),
            ("mlserver@sha256:00", "1.6.0", "mlserver@sha256:00"),
        ],
    )
    def test_runtime_version_is_the_images_tag(self, image: str, version: str, result: str) -> None:
        loads = runtime(containers=[{"name": "kserve-container", "image": image}])
        container = resolved(isvc(sklearn={"runtimeVersion": version, "resources": LIMITS}), loads).container
        assert container is not None
        assert container["image"] == result

    def test_placeholders(self) -> None:
        env = [
            {"name": "NAME", "value": "{{.Name}}.{{ .Namespace }}"},
            {"name": "CLASS", "value": "{{.Labels.modelClass}}"},
            {"name": "TEAM", "value": "{{.Annotations.team}}"},
        ]
        loads = runtime(containers=[{"name": "kserve-container", "env": env}])
        container = resolved(isvc({"team": "fish"}, sklearn={"resources": LIMITS}), loads).container
        assert container is not None
        # No label modelClass: an empty implementation would keep MLServer from loading anything.
        assert container["env"] == [{"name": "NAME", "value": "iris.demo"}, {"name": "TEAM", "value": "fish"}]

    def test_several_containers_and_none_named_is_refused(self) -> None:
        loads = runtime(containers=[{"name": "a"}, {"name": "b"}])
        problem = resolved(isvc(sklearn={"resources": LIMITS}), loads).spec.problem
        assert problem is not None
        assert problem.reason == "RuntimeHasNoContainer"


MULTI_MODEL = {"name": "MULTI_MODEL_SERVER", "value": "true"}


def test_what_only_a_model_predictor_says_is_named_elsewhere() -> None:
    said = {"resources": LIMITS, "runtime": "mine", "modelFormat": {"name": "sklearn"}}
    spec = resolved(isvc(sklearn=said)).spec
    assert spec.ignored_fields == ("spec.predictor.sklearn.modelFormat", "spec.predictor.sklearn.runtime")
    named = resolved(isvc(model={**said, "runtime": "shoal-mlserver"}), runtime())
    assert named.spec.ignored_fields == ()


@pytest.mark.parametrize(
    ("predictor", "path"),
    [
        ({"sklearn": {"resources": LIMITS, "image": ""}}, "spec.predictor.sklearn.image"),
        (
            {
                "containers": [
                    {"name": "own", "image": "x/mlserver:1", "resources": LIMITS, "env": [MULTI_MODEL]},
                    {"name": "sidecar", "image": ""},
                ]
            },
            "spec.predictor.containers[1].image",
        ),
        (
            {"sklearn": {"resources": LIMITS}, "initContainers": [{"name": "first", "image": ""}]},
            "spec.predictor.initContainers[0].image",
        ),
    ],
)
def test_an_image_that_is_empty_is_said_by_its_path(predictor: dict[str, Any], path: str) -> None:
    problem = resolved(isvc(**predictor)).spec.problem
    assert problem is not None
    assert problem.reason == "InvalidSpec"
    assert f"{path} is empty, and an image is expected" in problem.message


def test_a_runtime_without_an_image_is_named() -> None:
    problem = resolved(isvc(), runtime(image="")).spec.problem
    assert problem is not None
    assert "shoal-mlserver" in problem.message
    assert "containers[0].image is empty" in problem.message


@pytest.mark.parametrize(
    ("server", "asked", "protocols", "said"),
    [
        # A runtime may promise what its server has not.
        ("triton", "v1", ("v1", "v2"), "Triton speaks grpc-v2, v2 here"),
        ("triton", "v2", ("v1", "v2"), ""),
        ("triton", None, ("v1", "v2"), ""),
        ("djl", "v2", (), "DJL Serving speaks /predictions/{model}, /models/{model}/invoke here"),
        ("mlserver", "grpc-v2", (), ""),
    ],
)
def test_a_protocol_that_the_server_has_not_is_named(
    server: str, asked: str | None, protocols: tuple[str, ...], said: str
) -> None:
    written = {"protocolVersion": asked} if asked else {}
    found = resolved(
        isvc(sklearn={"resources": LIMITS, **written}), runtime(server=server, protocols=protocols)
    ).spec.ignored_fields
    assert found == ((f"spec.predictor.sklearn.protocolVersion: {asked} ({said})",) if said else ())


def test_ignored_fields_are_named() -> None:
    service = isvc(
        sklearn={"resources": LIMITS, "confidential": {"enabled": True}},
        canaryTrafficPercent=10,
        containerConcurrency=1,
        logger={"mode": "all"},
        minReplicas=0,
        novelty=True,
    )
    service.spec.transformer = {"containers": []}
    assert set(resolved(service).spec.ignored_fields) == {
        "spec.transformer",
        "spec.predictor.canaryTrafficPercent",
        "spec.predictor.containerConcurrency",
        "spec.predictor.logger",
        "spec.predictor.novelty",
        "spec.predictor.sklearn.confidential",
    }


@pytest.mark.parametrize(
    ("annotations", "predictor", "idle", "wake", "said"),
    [
        ({}, {}, None, 120.0, ""),
        ({}, {"minReplicas": 0}, 600.0, 120.0, ""),
        ({}, {"minReplicas": 0, "maxReplicas": 3}, 600.0, 120.0, ""),
        ({"shoal.dev/scale-to-zero-after": "90s"}, {"minReplicas": 1}, None, 120.0, ""),
        ({"shoal.dev/scale-to-zero-after": "90s", "shoal.dev/wake-timeout": "5m"}, {"minReplicas": 0}, 90.0, 300.0, ""),
        ({"shoal.dev/scale-to-zero-after": "1s"}, {"minReplicas": 0}, 600.0, 120.0, "from 10s to 168h; 600s holds"),
        ({"shoal.dev/wake-timeout": "1h"}, {"minReplicas": 0}, 600.0, 120.0, "from 1s to 10m; 120s holds"),
        ({"shoal.dev/placement": "strict"}, {"minReplicas": 0}, 600.0, 120.0, "'overcommit' holds"),
    ],
)
def test_no_pod_while_nobody_asks(
    annotations: dict[str, str], predictor: dict[str, int], idle: float | None, wake: float, said: str
) -> None:
    spec = resolved(isvc(annotations, sklearn={"resources": LIMITS}, **predictor)).spec
    assert (spec.idle, spec.wake_timeout, spec.strict) == (idle, wake, False)
    assert spec.min_replicas == 1, "while there are any"
    assert (said in spec.degraded.message) if said else spec.degraded is None


def test_kserves_fields_that_count_are_not_called_ignored() -> None:
    service = isvc(
        model={"modelFormat": {"name": "sklearn"}, "runtime": "shoal-mlserver", "resources": LIMITS, "env": []},
        serviceAccountName="sa",
        nodeSelector={"a": "b"},
        tolerations=[],
        affinity={},
    )
    assert resolved(service).spec.ignored_fields == ()


@pytest.mark.parametrize(
    ("annotations", "beside_kserve", "taken"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"serving.kserve.io/deploymentMode": "ModelMesh"}, True, True),
        ({"serving.kserve.io/deploymentMode": "Standard"}, True, False),
    ],
)
def test_beside_kserve_only_its_model_mesh_services_are_taken(
    annotations: dict[str, str], beside_kserve: bool, taken: bool
) -> None:
    assert is_taken(isvc(annotations), beside_kserve) is taken


def test_an_unreadable_object_is_known_by_name() -> None:
    obj = {"metadata": {"name": "iris", "namespace": "demo", "uid": "u", "generation": 3}}
    spec = unreadable(obj, SpecError("InvalidSpec", "spec.predictor: field required")).spec
    assert (spec.name, spec.uid, spec.generation) == ("iris", "u", 3)
    assert spec.problem is not None
    assert spec.problem.reason == "InvalidSpec"


def test_top_level_fields_and_annotations_that_nobody_reads_are_named() -> None:
    obj = {
        "metadata": {"name": "iris", "namespace": "demo", "annotations": {"shoal.dev/placment": "strict", "x": "y"}},
        "spec": {
            "predictr": {},
            "predictor": {"model": {"modelFormat": {"name": "sklearn", "versoin": "1"}, "resources": LIMITS}},
        },
    }
    spec = resolve(InferenceService.read(obj), (runtime(),)).spec
    assert spec.problem is None
    assert {
        "spec.predictr",
        "metadata.annotations[shoal.dev/placment]",
        "spec.predictor.model.modelFormat.versoin",
    } <= set(spec.ignored_fields)

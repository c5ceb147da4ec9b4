"""Reading users' objects: nothing is lost, and what cannot be used is said in the user's own words."""

import copy
from typing import Any

import pytest
from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService
from shoal_api.serving_runtime import ClusterServingRuntime, ServingRuntime
from shoal_api.trained_model import TrainedModel

from tests import kserve_samples as samples


@pytest.mark.parametrize("predictor", samples.PREDICTORS.values(), ids=samples.PREDICTORS)
def test_an_inference_service_is_read_and_written_back_unchanged(predictor: samples.Object) -> None:
    obj = samples.inference_service(predictor)
    before = copy.deepcopy(obj)
    assert InferenceService.read(obj).to_object() == before
    assert obj == before


@pytest.mark.parametrize(
    "obj",
    [
        samples.trained_model(),
        samples.trained_model(memory=1073741824, unknown={"a": [1]}),
        samples.trained_model(memory=None),
    ],
)
def test_a_trained_model_is_read_and_written_back_unchanged(obj: samples.Object) -> None:
    assert TrainedModel.read(obj).to_object() == obj


@pytest.mark.parametrize("kind", [ServingRuntime, ClusterServingRuntime])
def test_a_runtime_is_read_and_written_back_unchanged(kind: type[ServingRuntime]) -> None:
    obj = samples.runtime(kind=kind.kind_name, volumes=[{"name": "v", "emptyDir": {}}], grpcEndpoint="port:8085")
    assert kind.read(obj).to_object() == obj


def test_snake_case_is_an_unknown_field_and_not_ours() -> None:
    obj = samples.trained_model(storage_uri="other")
    read = TrainedModel.read(obj)
    assert read.spec.model.storage_uri == "s3://models/sklearn/1.0"
    assert read.to_object() == obj


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ({"spec": {}}, "spec.inferenceService"),
        ({}, "spec"),
        ({"spec": {"inferenceService": "a", "model": {"storageUri": "s3://b/m"}}}, "spec.model.framework"),
        ({"spec": {"inferenceService": "a", "model": "x"}}, "spec.model"),
    ],
)
def test_what_cannot_be_read_names_the_field(broken: samples.Object, word: str) -> None:
    with pytest.raises(SpecError) as caught:
        TrainedModel.read(broken)
    assert caught.value.reason == "InvalidSpec"
    assert f"{word}:" in caught.value.message
    assert "apply again" in caught.value.message


def test_errors_stay_short_and_keep_values_to_themselves() -> None:
    obj = samples.inference_service({"sklearn": {"env": [{"name": 1, "value": "hunter2" * 500}] * 50}})
    with pytest.raises(SpecError) as caught:
        InferenceService.read(obj)
    assert "spec.predictor.sklearn.env[0].name" in caught.value.message
    assert "hunter2" not in caught.value.message
    assert len(caught.value.message) < 600


def test_a_status_that_cannot_be_read_does_not_stop_the_spec() -> None:
    obj = {**samples.trained_model(), "status": {"conditions": "nonsense"}}
    assert TrainedModel.read(obj).status.conditions == []
    assert InferenceService.read({**samples.inference_service(samples.SKLEARN), "status": 5}).status.url is None


def test_kserves_status_is_read() -> None:
    obj = {
        **samples.trained_model(),
        "status": {
            "observedGeneration": 3,
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            ],
            "url": "http://a",
            "address": {"url": "http://b", "CACerts": "x"},
            "annotations": {"k": "v"},
        },
    }
    status = TrainedModel.read(obj).status
    assert (status.observed_generation, status.url, status.conditions[0].reason) == (3, "http://a", "R")
    assert TrainedModel.read(obj).to_object() == obj


@pytest.mark.parametrize(("written", "size"), [("256Mi", 2**28), (2**20, 2**20), (None, None), ("0", None), (0, None)])
def test_declared_memory(written: Any, size: int | None) -> None:
    assert TrainedModel.read(samples.trained_model(memory=written)).memory_bytes() == size


def test_memory_that_kserve_lets_through_and_nobody_can_use() -> None:
    with pytest.raises(SpecError, match=r"spec\.model\.memory is '-1Gi'"):
        TrainedModel.read(samples.trained_model(memory="-1Gi")).memory_bytes()


def test_serving_from_the_spec_or_from_the_annotation() -> None:
    obj = samples.trained_model()
    assert TrainedModel.read(obj).serving().min_copies is None
    obj["metadata"]["annotations"] = {"shoal.dev/serving": '{"minCopies": 2, "workers": {"min": 1, "max": 3}}'}
    read = TrainedModel.read(obj).serving()
    assert (read.min_copies, read.workers and read.workers.max) == (2, 3)
    obj["spec"]["serving"] = {"minCopies": 4}
    assert TrainedModel.read(obj).serving().min_copies == 4


@pytest.mark.parametrize(
    ("annotation", "word"),
    [
        ("minCopies: 2", "shoal.dev/serving"),
        ('{"minCopies": "many"}', "minCopies"),
        ('{"minCopies": 3, "maxCopies": 2}', r"minCopies \(3\) is above maxCopies \(2\)"),
        ('{"timeout": "soon"}', r"timeout is 'soon'"),
        ("[]", "shoal.dev/serving"),
    ],
)
def test_a_bad_serving_annotation_says_what_and_where(annotation: str, word: str) -> None:
    obj = samples.trained_model()
    obj["metadata"]["annotations"] = {"shoal.dev/serving": annotation}
    with pytest.raises(SpecError, match=word):
        TrainedModel.read(obj).serving()


@pytest.mark.parametrize(
    ("predictor", "key", "model_format", "protocol", "multi"),
    [
        (samples.SKLEARN, "sklearn", "sklearn", "v1", True),
        (samples.TRITON, "triton", "triton", "v2", True),
        (samples.BY_FORMAT, "model", "sklearn", "v2", True),
        (samples.CUSTOM, "containers", None, "v1", True),
        ({"containers": [{"name": "any", "image": "x"}]}, "containers", None, "v1", False),
        ({"sklearn": {"storageUri": "s3://a/b"}}, "sklearn", "sklearn", "v1", False),
        ({"sklearn": {"storage": {"path": "a"}}}, "sklearn", "sklearn", "v1", False),
        ({"huggingface": {}}, "huggingface", "huggingface", "v1", False),
        ({"pytorch": {}, "containers": [{"name": "sidecar", "image": "x"}]}, "pytorch", "pytorch", "v1", False),
    ],
)
def test_which_predictor_it_is(
    predictor: samples.Object, key: str, model_format: str | None, protocol: str, multi: bool
) -> None:
    read = InferenceService.read(samples.inference_service(predictor)).spec.predictor
    found = read.model_format()
    assert read.implementation().key == key
    assert (found and found.name) == model_format
    assert read.protocol() == protocol
    assert read.multi_model() is multi


@pytest.mark.parametrize(
    ("predictor", "found"), [({}, "no kind"), ({"sklearn": {}, "xgboost": {}}, "sklearn and xgboost")]
)
def test_not_exactly_one_predictor(predictor: samples.Object, found: str) -> None:
    read = InferenceService.read(samples.inference_service(predictor)).spec.predictor
    with pytest.raises(SpecError, match=found) as caught:
        read.implementation()
    assert caught.value.reason == "InvalidPredictor"


@pytest.mark.parametrize(
    ("predictor", "replicas"),
    [({}, (1, 1)), ({"minReplicas": 0}, (0, 0)), ({"minReplicas": 3}, (3, 3)), ({"maxReplicas": 4}, (1, 4))],
)
def test_replicas(predictor: samples.Object, replicas: tuple[int, int]) -> None:
    obj = samples.inference_service({"sklearn": {}, **predictor})
    assert InferenceService.read(obj).spec.predictor.replicas() == replicas


def test_room_for_models() -> None:
    def limit(predictor: samples.Object) -> int | None:
        return InferenceService.read(samples.inference_service(predictor)).spec.predictor.memory_limit_bytes()

    assert limit(samples.SKLEARN) == 512 * 2**20
    assert limit({"sklearn": {}}) is None
    assert limit({"containers": [{"name": "a", "resources": {"limits": {"memory": "1Gi"}}}]}) == 2**30
    with pytest.raises(SpecError, match=r"spec\.predictor\.sklearn\.resources\.limits\.memory is 'lots'"):
        limit({"sklearn": {"resources": {"limits": {"memory": "lots"}}}})


def test_fields_that_nothing_honours_are_named() -> None:
    obj = samples.inference_service(samples.POD_LEVEL)
    obj["spec"]["transformer"] = {"containers": []}
    assert InferenceService.read(obj).ignored_fields() == (
        "spec.transformer",
        "spec.predictor.batcher",
        "spec.predictor.canaryTrafficPercent",
        "spec.predictor.logger",
    )


@pytest.mark.parametrize(
    ("own", "serving", "named"),
    [
        ({}, '{"threads": 2}', {"metadata.annotations[shoal.dev/serving]"}),
        ({"storageUri": "s3://models/iris"}, '{"threads": 2}', set()),
        ({"storageUri": "s3://models/iris"}, '{"thread": 2}', {"annotation shoal.dev/serving.thread"}),
        ({"storageUri": "s3://models/iris"}, "{", set()),
    ],
)
def test_of_an_inference_service_annotations_that_are_not_read_there_are_named(
    own: samples.Object, serving: str, named: set[str]
) -> None:
    obj = samples.inference_service({"sklearn": own})
    obj["metadata"]["annotations"] = {"shoal.dev/serving": serving, "shoal.dev/capacity-bytes": "1"}
    found = InferenceService.read(obj).ignored_fields()
    assert set(found) == named | {"metadata.annotations[shoal.dev/capacity-bytes]"}


def test_what_has_no_kind_of_predictor_names_its_fields_all_the_same() -> None:
    obj = samples.inference_service({"minReplicas": 1})
    obj["metadata"]["annotations"] = {"shoal.dev/retires": "1"}
    assert InferenceService.read(obj).ignored_fields() == ("metadata.annotations[shoal.dev/retires]",)

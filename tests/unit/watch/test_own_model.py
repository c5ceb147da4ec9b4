"""What an InferenceService says of a model of its own."""

from typing import Any

import pytest
from shoal_api.inference_service import InferenceService
from shoal_api.messages import content_digest
from shoal_operator.state.world.values import ModelSpec, Source
from shoal_operator.watch.own_model import own_model


def isvc(annotations: dict[str, str] | None = None, **predictor: Any) -> InferenceService:
    meta = {"name": "iris", "namespace": "ns", "uid": "u", "generation": 3, "creationTimestamp": "2026-01-01T00:00:10Z"}
    return InferenceService.read(
        {"metadata": {**meta, "annotations": annotations or {}}, "spec": {"predictor": predictor}}
    )


def model(annotations: dict[str, str] | None = None, **predictor: Any) -> ModelSpec:
    found = own_model(isvc(annotations, **predictor))
    assert found is not None
    return found


def by_format(**fields: Any) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": "SKLearn"}, **fields}}


def test_it_is_called_as_its_inference_service() -> None:
    spec = model(sklearn={"storageUri": "s3://bucket/iris"})
    assert (spec.namespace, spec.name, spec.service, spec.uid, spec.generation) == ("ns", "iris", "iris", "u", 3)
    assert (spec.source, spec.created) == (Source.INFERENCE_SERVICE, 1767225610)
    assert (spec.storage_uri, spec.framework) == ("s3://bucket/iris", "sklearn")
    assert spec.content == content_digest("s3://bucket/iris", "sklearn")
    assert spec.problem is None


STORAGE = {"key": "store", "path": "a/m", "parameters": {"bucket": "bucket"}}


@pytest.mark.parametrize(
    ("annotations", "fields", "uri"),
    [
        ({}, {"storageUri": "s3://bucket/m"}, "s3://bucket/m"),
        ({}, {"storage": STORAGE}, "storage://store/a/m?bucket=bucket"),
        ({}, {"storage": {"path": "m"}}, "storage:///m"),
        (
            {"serving.kserve.io/secretKey": "store"},
            {"storageUri": "s3://bucket/a/m"},
            "storage://store/a/m?bucket=bucket",
        ),
        ({"serving.kserve.io/secretKey": "store"}, {"storageUri": "https://h/m.zip"}, "https://h/m.zip"),
    ],
)
def test_where_it_lies(annotations: dict[str, str], fields: dict[str, Any], uri: str) -> None:
    spec = model(annotations, **by_format(**fields))
    assert (spec.storage_uri, spec.problem) == (uri, None)


@pytest.mark.parametrize(
    "predictor",
    [
        {"sklearn": {}},
        {"containers": [{"name": "x", "image": "y"}]},
        {
            "sklearn": {},
            "containers": [{"name": "x", "image": "y", "env": [{"name": "MULTI_MODEL_SERVER", "value": "true"}]}],
        },
    ],
)
def test_without_one(predictor: dict[str, Any]) -> None:
    assert own_model(isvc(**predictor)) is None


@pytest.mark.parametrize(
    ("annotations", "fields", "reason", "words"),
    [
        ({}, {"storageUri": "s3:/b"}, "StorageUriInvalid", "no scheme"),
        ({}, {"storageUri": "hdfs://b/m"}, "StorageUriNotSupported", "hdfs"),
        ({}, {"storageUri": "s3://bucket/m", "storage": STORAGE}, "InvalidSpec", "spec.predictor.model has both"),
        ({"shoal.dev/serving": "{"}, {"storageUri": "s3://bucket/m"}, "InvalidSpec", "annotation shoal.dev/serving"),
    ],
)
def test_what_is_wrong_with_it(annotations: dict[str, str], fields: dict[str, Any], reason: str, words: str) -> None:
    problem = model(annotations, **by_format(**fields)).problem
    assert problem is not None
    assert problem.reason == reason
    assert words in problem.message


def test_tuning_by_annotation_is_part_of_its_content() -> None:
    tuned = model({"shoal.dev/serving": '{"batch": {"size": 8}}'}, sklearn={"storageUri": "s3://bucket/m"})
    assert tuned.tuning.batch_size == 8
    assert tuned.content != model(sklearn={"storageUri": "s3://bucket/m"}).content


def test_on_pods_of_its_runtime_annotations_about_pods_and_requests_are_named() -> None:
    annotations = {
        "serving.kserve.io/deploymentMode": "ModelMesh",
        "shoal.dev/serving": '{"minCopies": 1}',
        "shoal.dev/activation-timeout": "5m",
    }
    shared = own_model(isvc(annotations, sklearn={"storageUri": "s3://bucket/m"}), shared=True)
    assert shared is not None
    assert shared.min_copies == 1
    assert shared.ignored_fields == ("metadata.annotations[shoal.dev/activation-timeout]",)

"""TrainedModel objects, good and bad, as the state gets to know them."""

from typing import Any

import pytest
from shoal_operator.watch.parse import DEFAULT_MEMORY_BYTES, model_spec


def trained_model(**model: Any) -> dict[str, Any]:
    artifact = {"storageUri": "s3://models/iris", "framework": "sklearn", "memory": "256Mi", **model}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"namespace": "ns", "name": "iris", "uid": "u-1", "generation": 3},
        "spec": {"inferenceService": "svc", "model": {k: v for k, v in artifact.items() if v is not None}},
    }


def test_a_good_one() -> None:
    spec = model_spec(trained_model())
    assert (spec.namespace, spec.name, spec.uid, spec.generation, spec.service) == ("ns", "iris", "u-1", 3, "svc")
    assert spec.memory_bytes == 256 << 20
    assert spec.problem is None
    assert spec.min_copies == 1


def test_memory_may_be_left_out() -> None:
    assert model_spec(trained_model(memory=None)).memory_bytes == DEFAULT_MEMORY_BYTES


def test_content_changes_with_what_is_loaded_only() -> None:
    content = model_spec(trained_model()).content
    assert model_spec(trained_model(memory="1Gi")).content == content
    assert model_spec(trained_model(storageUri="s3://models/other")).content != content
    assert model_spec(trained_model(framework="xgboost")).content != content


@pytest.mark.parametrize(
    ("given", "reason", "names"),
    [
        ({"storageUri": "gs://models/iris"}, "StorageUriNotSupported", "s3://"),
        ({"storageUri": "s3://models/../secret"}, "StorageUriInvalid", ".."),
        ({"storageUri": "s3:///iris"}, "StorageUriInvalid", "bucket"),
        ({"memory": "lots"}, "InvalidQuantity", "lots"),
    ],
)
def test_a_bad_one_says_what_where_and_what_next(given: dict[str, Any], reason: str, names: str) -> None:
    problem = model_spec(trained_model(**given)).problem
    assert problem is not None
    assert problem.reason == reason
    assert names in problem.message


@pytest.mark.parametrize("spec", [None, {}, {"inferenceService": "svc"}, {"model": []}, "text"])
def test_what_cannot_be_read_is_still_known_by_name(spec: Any) -> None:
    obj = trained_model()
    obj["spec"] = spec
    known = model_spec(obj)
    assert (known.name, known.uid) == ("iris", "u-1")
    assert known.problem is not None

"""TrainedModel objects, good and bad, as the state gets to know them."""

import json
from typing import Any

import pytest
from shoal_operator.watch.parse import model_spec


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
    # What was not written is left to the InferenceService's placement to decide.
    assert (spec.min_copies, spec.max_copies, spec.idle_unload) == (None, None, None)


@pytest.mark.parametrize("memory", [None, 0, "0"])
def test_memory_may_be_left_out(memory: Any) -> None:
    spec = model_spec(trained_model(memory=memory))
    assert (spec.memory_bytes, spec.problem) == (None, None)


@pytest.mark.parametrize(
    ("serving", "copies_and_idle"),
    [
        ({}, (None, None, None)),
        ({"minCopies": 0}, (0, None, None)),
        ({"minCopies": 2, "maxCopies": 5}, (2, 5, None)),
        ({"minCopies": 2, "maxCopies": 2}, (2, 2, None)),
        ({"idleUnload": "1h30m"}, (None, None, 5400.0)),
        ({"idleUnload": "0s"}, (None, None, None)),
    ],
)
@pytest.mark.parametrize("annotation", [False, True], ids=["field", "annotation"])
def test_serving_as_a_field_or_where_kserves_crds_drop_it_as_an_annotation(
    serving: dict[str, Any], copies_and_idle: tuple[Any, Any, Any], annotation: bool
) -> None:
    obj = trained_model()
    if annotation:
        obj["metadata"]["annotations"] = {"shoal.dev/serving": json.dumps(serving)}
    else:
        obj["spec"]["serving"] = serving
    spec = model_spec(obj)
    assert spec.problem is None
    assert (spec.min_copies, spec.max_copies, spec.idle_unload) == copies_and_idle


@pytest.mark.parametrize(
    ("serving", "reason", "words"),
    [
        ({"minCopies": 3, "maxCopies": 2}, "InvalidSpec", ("minCopies (3)", "maxCopies (2)", "lower one")),
        ({"minCopies": -1}, "InvalidSpec", ("minCopies",)),
        ({"idleUnload": "1d"}, "InvalidDuration", ("idleUnload", "'1d'", "1h30m")),
    ],
)
@pytest.mark.parametrize("annotation", [False, True], ids=["field", "annotation"])
def test_serving_that_cannot_be_is_a_problem(
    serving: dict[str, Any], reason: str, words: tuple[str, ...], annotation: bool
) -> None:
    """The API server refuses these, unless the CRD is KServe's."""
    obj = trained_model()
    if annotation:
        obj["metadata"]["annotations"] = {"shoal.dev/serving": json.dumps(serving)}
    else:
        obj["spec"]["serving"] = serving
    problem = model_spec(obj).problem
    assert problem is not None
    assert problem.reason == reason
    assert all(word in problem.message for word in words), problem.message
    assert ("annotation shoal.dev/serving" in problem.message) is annotation


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

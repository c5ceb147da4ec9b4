"""TrainedModel objects, good and bad, as the state gets to know them."""

import json
from typing import Any

import pytest
from shoal_api.tuning import Tuning
from shoal_operator.state.world.values import Content
from shoal_operator.status.model_status import content
from shoal_operator.watch.parse import failure, last_good, model_spec


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


def test_storage_as_kserve_has_it() -> None:
    storage = {"key": "localMinIO", "path": "sklearn/mnist", "parameters": {"bucket": "own"}, "schemaPath": "x.json"}
    spec = model_spec(trained_model(storageUri=None, storage=storage))
    assert spec.problem is None
    assert spec.storage_uri == "storage://localMinIO/sklearn/mnist?bucket=own"
    assert spec.ignored_fields == ("spec.model.storage.schemaPath",)
    other = model_spec(trained_model(storageUri=None, storage={**storage, "path": "b"}))
    assert other.content != spec.content


@pytest.mark.parametrize(
    ("model", "reason", "words"),
    [
        ({"storageUri": None}, "InvalidSpec", "neither of storageUri and storage"),
        ({"storage": {"path": "m"}}, "InvalidSpec", "both of storageUri and storage"),
        ({"storageUri": None, "storage": {"path": "../m"}}, "StorageUriInvalid", "storage.path"),
    ],
)
def test_one_of_storage_uri_and_storage(model: dict[str, Any], reason: str, words: str) -> None:
    problem = model_spec(trained_model(**model)).problem
    assert problem is not None
    assert problem.reason == reason
    assert words in problem.message


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
        ({"storageUri": "hdfs://models/iris"}, "StorageUriNotSupported", "s3://"),
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


@pytest.mark.parametrize("name", ["my.model", "a" * 254, "My-Model", "-m"])
def test_a_name_that_no_request_can_ask_for_is_said(name: str) -> None:
    """Where KServe's CRD stands instead of ours."""
    made = trained_model()
    made["metadata"]["name"] = name
    problem = model_spec(made).problem
    assert problem is not None
    assert problem.reason == "InvalidName"
    assert "lower-case letters and digits" in problem.message


@pytest.mark.parametrize("service", ["ns/svc", "Svc", "1svc", "s" * 54, ""])
def test_a_reference_that_names_no_inference_service_is_said(service: str) -> None:
    made = trained_model()
    made["spec"]["inferenceService"] = service
    problem = model_spec(made).problem
    assert problem is not None
    assert problem.reason == "InvalidSpec"
    assert "spec.inferenceService" in problem.message


def test_what_nobody_reads_is_named() -> None:
    obj = trained_model(memroy="1Gi", memory=None)
    obj["spec"]["serving"] = {"minCopys": 2, "workers": {"min": 2}}
    obj["spec"]["inferenceservice"] = "x"
    obj["metadata"]["annotations"] = {"shoal.dev/servng": "{}", "mine": "x", "kubectl.kubernetes.io/x": "y"}
    spec = model_spec(obj)
    assert spec.problem is None
    assert set(spec.ignored_fields) == {
        "spec.model.memroy",
        "spec.serving.minCopys",
        "spec.inferenceservice",
        "metadata.annotations[shoal.dev/servng]",
    }


def test_what_nobody_reads_in_the_annotation_is_named() -> None:
    obj = trained_model()
    obj["metadata"]["annotations"] = {"shoal.dev/serving": '{"minCopys": 2, "timeout": "3s"}'}
    assert model_spec(obj).ignored_fields == ("annotation shoal.dev/serving.minCopys",)
    assert model_spec(obj).tuning == Tuning(timeout=3.0)


def test_a_field_has_one_spelling() -> None:
    """That of users' YAML: our own names of the fields are nobody's, on any level."""
    obj = trained_model(storage_uri="s3://models/other", memory=None)
    obj["spec"]["inference_service"] = "other"
    obj["spec"]["serving"] = {"min_copies": 2, "idle_unload": "5m", "queue_size": 3, "workers": {"Min": 1}}
    spec = model_spec(obj)
    assert (spec.storage_uri, spec.service) == ("s3://models/iris", "svc")
    assert (spec.min_copies, spec.idle_unload, spec.tuning) == (None, None, Tuning())
    assert set(spec.ignored_fields) == {
        "spec.inference_service",
        "spec.model.storage_uri",
        "spec.serving.min_copies",
        "spec.serving.idle_unload",
        "spec.serving.queue_size",
        "spec.serving.workers.Min",
    }
    obj = trained_model()
    obj["spec"]["model"]["storage_uri"] = obj["spec"]["model"].pop("storageUri")
    problem = model_spec(obj).problem
    assert problem is not None
    assert "neither of storageUri and storage" in problem.message
    obj = trained_model()
    obj["metadata"]["annotations"] = {"shoal.dev/serving": '{"min_copies": 2}'}
    assert model_spec(obj).min_copies is None
    assert model_spec(obj).ignored_fields == ("annotation shoal.dev/serving.min_copies",)


@pytest.mark.parametrize("copies", ["true", '"2"', "2.0", "[2]", "1e0", "null"])
def test_a_number_in_the_annotation_is_a_number(copies: str) -> None:
    obj = trained_model()
    obj["metadata"]["annotations"] = {"shoal.dev/serving": f'{{"minCopies": {copies}}}'}
    problem = model_spec(obj).problem
    assert (problem is None) is (copies == "null")
    assert problem is None or "minCopies" in problem.message


def test_annotations_of_other_kinds_and_one_that_the_field_overrules_are_named() -> None:
    obj = trained_model()
    obj["metadata"]["annotations"] = {"shoal.dev/retries": "3", "shoal.dev/artifact-check": "10m"}
    assert model_spec(obj).ignored_fields == ("metadata.annotations[shoal.dev/retries]",)
    obj["metadata"]["annotations"] = {"shoal.dev/serving": '{"minCopies": 2}'}
    assert model_spec(obj).ignored_fields == ()
    obj["spec"]["serving"] = {"maxCopies": 3}
    assert model_spec(obj).ignored_fields == ("metadata.annotations[shoal.dev/serving]",)


def test_tuning_is_part_of_the_content_and_comes_back_from_the_status() -> None:
    plain = model_spec(trained_model())
    obj = trained_model()
    obj["spec"]["serving"] = {
        "workers": {"min": 1, "max": 3},
        "batch": {"size": 8, "delay": "0.5ms"},
        "queueSize": 0,
        "timeout": "1m30s",
        "threads": 2,
    }
    tuned = model_spec(obj)
    assert tuned.problem is None
    assert tuned.tuning == Tuning(
        workers_min=1, workers_max=3, batch_size=8, batch_delay=0.0005, queue_size=0, timeout=90.0, threads=2
    )
    assert tuned.content != plain.content
    # Declared is what one worker takes; it is counted for as many as there may be.
    assert plain.memory_bytes is not None
    assert tuned.memory_bytes == 3 * plain.memory_bytes
    served = Content(tuned.storage_uri, tuned.framework, tuned.content, tuned.memory_bytes, tuned.tuning)
    assert last_good({"status": {"content": content(served)}}) == served
    bare = Content(plain.storage_uri, plain.framework, plain.content, plain.memory_bytes)
    assert last_good({"status": {"content": content(bare)}}) == bare
    assert "serving" not in content(bare)


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        ({"timeout": "2h"}, "spec.serving.timeout is 2h: write at most 1h"),
        ({"batch": {"delay": "soon"}}, "spec.serving.batch.delay"),
        ({"workers": {"min": 3, "max": 2}}, "workers.min (3) is above workers.max (2)"),
        ({"threads": 0}, "spec.serving.threads"),
        ({"batch": {"size": 10**9}}, "spec.serving.batch.size"),
    ],
)
def test_tuning_that_cannot_be_is_said(serving: dict[str, Any], said: str) -> None:
    obj = trained_model()
    obj["spec"]["serving"] = serving
    problem = model_spec(obj).problem
    assert problem is not None
    assert said in problem.message


def test_however_many_fields_are_misspelt_few_are_kept() -> None:
    obj = trained_model(**{f"x{n}" + "y" * 500: n for n in range(5000)})
    spec = model_spec(obj)
    assert len(spec.ignored_fields) <= 20
    assert max(map(len, spec.ignored_fields)) < 130


def test_a_good_one_has_nothing_unread() -> None:
    assert model_spec(trained_model()).ignored_fields == ()


def _status(observed: int, *conditions: object) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": [*conditions]}}


LOAD_FAILED = {"type": "Loaded", "status": "False", "reason": "LoadFailed", "message": "ValueError: no joblib."}


def test_why_the_spec_could_not_be_loaded_is_read_from_its_status() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "UpdateFailed", "message": "The previous content serves."}
    found = failure(_status(2, ready, LOAD_FAILED))
    assert found is not None
    assert (found.stage.value, found.reason, found.message) == ("Load", "LoadFailed", "ValueError: no joblib.")
    missing = {"type": "StorageResolved", "status": "False", "reason": "ObjectNotFound"}
    found = failure(_status(2, missing))
    assert found is not None
    assert (found.stage.value, found.reason, found.message) == ("Storage", "ObjectNotFound", "")


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"status": None},
        {"status": "odd"},
        _status(1, LOAD_FAILED),
        _status(2, "odd", None),
        _status(2, {"type": "Loaded", "status": "True", "reason": "Loaded"}),
        _status(2, {"type": "Loaded", "status": "Unknown"}),
        _status(2, {"type": "Loaded", "status": "False", "reason": ["odd"]}),
        _status(2, {"type": "Loaded", "status": "False", "reason": "x" * 5000}),
    ],
)
def test_a_status_of_another_spec_or_writer_says_nothing_of_why(obj: dict[str, Any]) -> None:
    assert failure(obj) is None


def test_an_annotation_that_is_no_json_is_said_in_one_piece() -> None:
    obj = {
        "metadata": {"name": "m", "namespace": "ns", "uid": "u", "annotations": {"shoal.dev/serving": "{minCopies: 2"}},
        "spec": {"inferenceService": "svc", "model": {"storageUri": "s3://models/m", "framework": "sklearn"}},
    }
    problem = model_spec(obj).problem
    assert problem is not None
    assert problem.message.startswith("annotation shoal.dev/serving: Invalid JSON")


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, None), ("never", 0.0), ("10m", 600.0), ("1s", None), ("soon", None), ("", None)]
)
def test_how_often_the_storage_is_looked_at_and_what_cannot_be_read_stops_nothing(
    text: str | None, seconds: float | None
) -> None:
    obj = trained_model()
    if text is not None:
        obj["metadata"]["annotations"] = {"shoal.dev/artifact-check": text}
    spec = model_spec(obj)
    assert (spec.problem, spec.check) == (None, seconds)
    wrong = text is not None and seconds is None
    assert spec.ignored_fields == (("metadata.annotations[shoal.dev/artifact-check]",) if wrong else ())

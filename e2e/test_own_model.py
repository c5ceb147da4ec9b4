"""KServe's ordinary InferenceService: one model on pods of its own, from kubectl apply to an answer."""

import io
import os
import time
from typing import Any

import joblib
from sklearn.datasets import load_iris
from sklearn.svm import SVC

from demo.readiness import condition
from e2e import load
from e2e.load import Question
from e2e.space import READY_SECONDS, ROW, Space

FLOWERS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6], [5.1, 3.5, 1.4, 0.2]]


def isvc(name: str, uri: str, *, pods: int = 1, **model: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": "100m", "memory": "300Mi"}, "limits": {"cpu": "1", "memory": "300Mi"}}
    predictor = {
        "minReplicas": pods,
        "serviceAccountName": "models",
        "model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri, "resources": resources, **model},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": predictor},
    }


def wait_service(space: Space, name: str, kind: str, status: str, reason: str | None = None) -> dict[str, Any]:
    """Until a condition speaks of the present generation and has that status (and reason); the whole object."""

    def seen() -> dict[str, Any] | None:
        obj = space.inference_service(name)
        found = condition(obj, kind)
        current = obj.get("status", {}).get("observedGeneration") == obj["metadata"]["generation"]
        right = found.get("status") == status and reason in (None, found.get("reason"))
        return obj if current and right else None

    return space.wait(seen, f"isvc {name}: {kind}={status} {reason or ''}", READY_SECONDS)


def test_it_answers_as_the_model_does_by_v1_and_v2(own: Space) -> None:
    flowers = load_iris()
    model = SVC(gamma="scale", random_state=0).fit(flowers.data, flowers.target)
    file = io.BytesIO()
    joblib.dump(model, file)
    own.apply(isvc("sklearn-iris", own.put_bytes("iris", file.getvalue())))
    status = wait_service(own, "sklearn-iris", "Ready", "True")["status"]
    wanted = model.predict(FLOWERS).tolist()
    answer = own.post("/v1/models/sklearn-iris:predict", {"instances": FLOWERS}, "sklearn-iris")
    assert answer.json() == {"predictions": wanted}, answer.text
    body = {
        "inputs": [
            {"name": "x", "shape": [3, 4], "datatype": "FP64", "data": [value for row in FLOWERS for value in row]}
        ]
    }
    answer = own.post("/v2/models/sklearn-iris/infer", body, "sklearn-iris")
    assert answer.json()["outputs"][0]["data"] == wanted, answer.text
    assert status["modelStatus"]["transitionStatus"] == "UpToDate"
    assert status["modelStatus"]["states"] == {"activeModelState": "Loaded", "targetModelState": "Loaded"}
    assert status["url"].startswith("http://sklearn-iris.")


def test_another_uri_is_another_content_without_a_lost_request(own: Space) -> None:
    own.apply(isvc("shop", own.put("one", 1.0), pods=2))
    wait_service(own, "shop", "Ready", "True")
    pods = {pod["metadata"]["uid"] for pod in own.pods("shop")}
    assert len(pods) == 2
    own.apply(isvc("shop", own.uri("nowhere"), pods=2))
    said = wait_service(own, "shop", "StorageResolved", "False", "ArtifactNotFound")
    assert condition(said, "Ready")["reason"] == "UpdateFailed"
    assert said["status"]["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad"
    assert own.answer("shop", "shop") == 1.0
    uri = own.put("two", 2.0)
    with load.running(own.target("shop"), [Question("shop", ROW, (1.0, 2.0))], 20) as running:
        own.apply(isvc("shop", uri, pods=2))
        wait_service(own, "shop", "Ready", "True", "Loaded")
        own.wait(lambda: own.answer("shop", "shop") == 2.0, "the new content answers")
        time.sleep(2)
    running.result.check(at_least=20)
    assert {pod["metadata"]["uid"] for pod in own.pods("shop")} == pods, "no pod was replaced for it"


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)


def test_a_model_that_ends_its_server_is_named_and_an_edit_heals_it(own: Space) -> None:
    file = io.BytesIO()
    joblib.dump(Deadly(), file)
    own.apply(isvc("deadly", own.put_bytes("deadly", file.getvalue())))
    said = wait_service(own, "deadly", "Ready", "False", "ModelServerCrashed")
    status = said["status"]["modelStatus"]
    assert (status["transitionStatus"], status["states"]["activeModelState"]) == ("BlockedByFailedLoad", "FailedToLoad")
    own.apply(isvc("deadly", own.put("mended", 4.0)))
    wait_service(own, "deadly", "Ready", "True", "Loaded")
    assert own.answer("deadly", "deadly") == 4.0


def test_what_is_wrong_is_said_and_heals(own: Space) -> None:
    own.apply(isvc("late", own.uri("late")))
    said = wait_service(own, "late", "Ready", "False", "ArtifactNotFound")
    failure = said["status"]["modelStatus"]["lastFailureInfo"]
    assert failure["reason"] == "ModelLoadFailed"
    assert "late" in failure["message"]
    own.put("late", 3.0)
    wait_service(own, "late", "Ready", "True")
    assert own.answer("late", "late") == 3.0
    own.model("guest", own.uri("late"), "late")
    own.wait_condition("guest", "Ready", "False", "NotMultiModel")
    own.model("late", own.uri("late"), "late")
    own.wait_condition("late", "StorageResolved", "False", "NameTaken")
    assert own.answer("late", "late") == 3.0
    own.delete("inferenceservice", "late")
    own.wait(lambda: own.ask("late", "late").status in (404, 503), "nothing answers")
    own.wait(lambda: not own.pods("late"), "its pods are gone")

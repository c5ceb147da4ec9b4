"""ModelMesh's InferenceServices: one model each, on the pods of their runtime, with the Secret storage-config."""

# mypy: disable-error-code="import-untyped"

import json
import time
from typing import Any

import numpy as np
from tritonclient.grpc import InferInput

from demo import predictions
from demo.readiness import condition
from e2e import load
from e2e.installation import BUCKET
from e2e.load import Question
from e2e.space import ROW, Space
from e2e.test_own_model import wait_service

RUNTIME = "runtime.shoal-mlserver"


def storage_config(space: Space, key: str = "localStore") -> dict[str, Any]:
    """As ModelMesh's quickstart has it."""
    server = space.installation.s3
    entry = {
        "type": "s3",
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "endpoint_url": f"http://{server.endpoint_in_cluster}",
        "region": "us-east-1",
        "default_bucket": BUCKET,
    }
    meta = {"name": "storage-config"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {key: json.dumps(entry)}}


def isvc(space: Space, name: str, folder: str, **model: Any) -> dict[str, Any]:
    """Of deploymentMode ModelMesh; ``folder``: of its model in the bucket."""
    storage = {"key": "localStore", "path": f"{space.name}/{folder}/model.joblib"}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storage": storage, **model}}},
    }


def by_secret_key(space: Space, name: str, folder: str) -> dict[str, Any]:
    """The older form: an annotation beside storageUri."""
    obj = isvc(space, name, folder)
    obj["metadata"]["annotations"]["serving.kserve.io/secretKey"] = "localStore"
    obj["spec"]["predictor"] = {"sklearn": {"storageUri": space.uri(folder)}}
    return obj


def by_grpc(space: Space, model: str, **headers: str) -> float:
    """Asked over gRPC at ModelMesh's host."""
    row = InferInput("x", [1, len(ROW)], "FP64")
    row.set_data_from_numpy(np.array([ROW]))
    with predictions.grpc_client(space.target("modelmesh-serving")) as client:
        answer = client.infer(model, [row], headers=headers or None)
    return float(answer.as_numpy(answer.get_response().outputs[0].name).ravel()[0])


def test_models_share_their_runtimes_pods_and_are_asked_for_as_modelmeshs_users_do(own: Space) -> None:
    own.apply(storage_config(own))
    for number in range(3):
        own.put(f"m{number}", float(number))
    own.apply(isvc(own, "first", "m0"), isvc(own, "second", "m1"), by_secret_key(own, "third", "m2"))
    for number, name in enumerate(("first", "second", "third")):
        status = wait_service(own, name, "Ready", "True")["status"]
        assert status["modelStatus"]["transitionStatus"] == "UpToDate"
        assert status["modelStatus"]["states"]["activeModelState"] == "Standby"
        assert own.answer(name, name) == float(number)
    assert [deployment["metadata"]["name"] for deployment in own.deployments()] == [f"{RUNTIME}-predictor"]
    assert len(own.pods(RUNTIME)) == 1
    assert own.answer("second", "modelmesh-serving") == 1.0
    assert by_grpc(own, "third") == 2.0
    assert by_grpc(own, "third", **{"mm-vmodel-id": "third"}) == 2.0
    assert own.ask("nobody", "modelmesh-serving").status == 404
    component = wait_service(own, "first", "Ready", "True")["status"]["components"]["predictor"]
    assert component["grpcUrl"].startswith("grpc://")
    assert component["restUrl"].startswith("http://")


def test_what_is_wrong_with_one_is_said_and_heals_and_harms_no_other(own: Space) -> None:
    own.put("good", 1.0)
    own.apply(isvc(own, "good", "good"))
    said = wait_service(own, "good", "Ready", "False", "StorageCredentialsInvalid")
    assert "storage-config" in condition(said, "Ready")["message"]
    own.apply(storage_config(own))
    wait_service(own, "good", "Ready", "True")
    own.apply(isvc(own, "nowhere", "nowhere"), isvc(own, "unknown", "good", modelFormat={"name": "pmml"}))
    said = wait_service(own, "nowhere", "Ready", "False", "ArtifactNotFound")
    assert said["status"]["modelStatus"]["lastFailureInfo"]["reason"] == "ModelLoadFailed"
    said = wait_service(own, "unknown", "Ready", "False", "RuntimeNotFound")
    assert said["status"]["modelStatus"]["lastFailureInfo"]["reason"] == "NoSupportingRuntime"
    assert own.answer("good", "good") == 1.0
    own.put("nowhere", 2.0)
    wait_service(own, "nowhere", "Ready", "True")
    assert own.answer("nowhere", "nowhere") == 2.0


def test_an_update_loses_no_request_and_the_last_ones_end_takes_the_pods_along(own: Space) -> None:
    own.apply(storage_config(own))
    own.put("one", 1.0)
    own.put("two", 2.0)
    own.apply(isvc(own, "shop", "one"))
    wait_service(own, "shop", "Ready", "True")
    assert own.answer("shop", "shop") == 1.0
    with load.running(own.target("shop"), [Question("shop", ROW, (1.0, 2.0))], 20) as running:
        own.apply(isvc(own, "shop", "two"))
        own.wait(lambda: own.answer("shop", "shop") == 2.0, "the new content answers")
        time.sleep(2)
    running.result.check(at_least=20)
    own.delete("inferenceservice", "shop")
    own.wait(lambda: own.ask("shop", "shop").status == 404, "nobody is there")
    own.wait(lambda: not own.deployments(), "no pods are left", 120)

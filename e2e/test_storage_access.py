"""Whose credentials reach a store, as users of KServe and ModelMesh say it: on the service account, late, by key."""

import json
from collections.abc import Mapping

from demo import s3_server
from demo.readiness import condition
from e2e.installation import BUCKET
from e2e.space import Space

LATE_SECONDS = 100.0
"""From a Secret's creation to an answer; a kubelet that nobody tells takes up to 90 s by itself."""


def test_settings_on_the_service_account_and_a_runtime_as_kserve_ships_it(own: Space) -> None:
    secret = s3_server.storage_secret(own.installation.s3, "bucket-keys")
    settings = secret["metadata"].pop("annotations")
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "annotated", "annotations": settings},
        "secrets": [{"name": "bucket-keys"}],
    }
    (shipped,) = (
        runtime
        for runtime in own.get("/apis/serving.kserve.io/v1alpha1/clusterservingruntimes")["items"]
        if runtime["metadata"]["name"] == "shoal-mlserver"
    )
    as_kserve_has_it = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "team-mlserver", "annotations": {"serving.kserve.io/server-type": "mlserver"}},
        "spec": {
            "supportedModelFormats": [{"name": "sklearn", "version": "1", "autoSelect": True}],
            "protocolVersions": ["v2"],
            "containers": [
                {
                    "name": "kserve-container",
                    "image": shipped["spec"]["containers"][0]["image"],
                    "env": [{"name": "MLSERVER_MODEL_IMPLEMENTATION", "value": "{{.Labels.modelClass}}"}],
                }
            ],
        },
    }
    predictor = {
        "serviceAccountName": "annotated",
        "model": {
            "modelFormat": {"name": "sklearn"},
            "protocolVersion": "v2",
            "runtime": "team-mlserver",
            "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "50m"}},
        },
    }
    own.apply(secret, account, as_kserve_has_it, _service(own, predictor))
    own.model("basket", own.put("basket", 3.5))
    own.wait_ready("basket")
    assert own.answer("basket") == 3.5


def test_by_key_and_path_of_a_secret_that_comes_late(own: Space) -> None:
    own.put("basket", 4.5)
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "late"},
        "secrets": [{"name": "not-there"}],
    }
    predictor = {
        "serviceAccountName": "late",
        "sklearn": {"resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "50m"}}},
    }
    own.apply(account, _service(own, predictor))
    storage = {"key": "minio", "path": f"{own.name}/basket"}
    model = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": "basket"},
        "spec": {"inferenceService": "models", "model": {"framework": "sklearn", "memory": "16Mi", "storage": storage}},
    }
    own.apply(model)
    said = own.wait_condition("basket", "StorageResolved", "False", "StorageCredentialsInvalid", seconds=120)
    assert "no key 'minio'" in said["message"]
    missing = own.wait(lambda: condition(own.inference_service(), "StorageSecretMissing"), "a Secret is missing")
    assert (missing["status"], missing["reason"]) == ("True", "SecretNotFound")
    assert "not-there" in missing["message"]

    server = own.installation.s3
    entry = {
        "type": "s3",
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "endpoint_url": f"http://{server.endpoint_in_cluster}",
        "region": "us-east-1",
        "bucket": BUCKET,
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "storage-config"},
        "stringData": {"minio": json.dumps(entry)},
    }
    own.apply(secret, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "not-there"}})
    own.wait_ready("basket", seconds=LATE_SECONDS)
    assert own.answer("basket") == 4.5
    own.wait(lambda: not condition(own.inference_service(), "StorageSecretMissing"), "no Secret is missing")


def _service(space: Space, predictor: Mapping[str, object]) -> dict[str, object]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "models", "namespace": space.name},
        "spec": {"predictor": predictor},
    }

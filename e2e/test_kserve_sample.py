"""KServe's own scikit-learn multi-model sample, with nothing changed but its storage URIs."""

import io
import json
import subprocess

import joblib
from sklearn.datasets import load_iris
from sklearn.svm import SVC

from demo import manifests
from e2e.space import Space

INFERENCE_SERVICE = """
apiVersion: "serving.kserve.io/v1beta1"
kind: "InferenceService"
metadata:
  name: "sklearn-iris-example"
spec:
  predictor:
    minReplicas: 1
    sklearn:
      protocolVersion: v1
      name: "sklearn-iris-predictor"
      resources:
        limits:
          cpu: 100m
          memory: 512Mi
        requests:
          cpu: 100m
          memory: 512Mi
"""
TRAINED_MODELS = """
apiVersion: "serving.kserve.io/v1alpha1"
kind: "TrainedModel"
metadata:
  name: "model1-sklearn"
spec:
  inferenceService: "sklearn-iris-example"
  model:
    storageUri: "{uri}"
    framework: "sklearn"
    memory: "256Mi"
---
apiVersion: "serving.kserve.io/v1alpha1"
kind: "TrainedModel"
metadata:
  name: "model2-sklearn"
spec:
  inferenceService: "sklearn-iris-example"
  model:
    storageUri: "{uri}"
    framework: "sklearn"
    memory: "256Mi"
"""
SERVICE = "sklearn-iris-example"
MODELS = ("model1-sklearn", "model2-sklearn")
FLOWERS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
SLOW_START_SECONDS = 280.0
"""The sample gives its server a tenth of a core."""


def test_both_models_load_and_answer_v1_and_v2(own: Space) -> None:
    """The sample names no service account: its storage key comes with the namespace's default one, as in KServe."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    own.apply({**account, "secrets": [{"name": manifests.STORAGE_SECRET}]})
    uri = own.put_bytes("iris", _iris())
    own.apply(INFERENCE_SERVICE)
    own.apply(TRAINED_MODELS.format(uri=uri))
    own.wait_ready(*MODELS, seconds=SLOW_START_SECONDS)
    for model in MODELS:
        assert _curl_v1(own, model) == {"predictions": [1, 1]}
        body = {"inputs": [{"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": FLOWERS}]}
        answer = own.post(f"/v2/models/{model}/infer", body, SERVICE)
        assert answer.status == 200, answer.text
        assert answer.json()["outputs"][0]["data"] == [1, 1]
    url = own.trained_model(MODELS[0])["status"]["url"]
    assert url.endswith(f"/v1/models/{MODELS[0]}:predict"), url


def _curl_v1(space: Space, model: str) -> object:
    """The sample's own command: curl -d, which calls the JSON a form."""
    target = space.target(SERVICE)
    url = f"{target.url}/v1/models/{model}:predict"
    command = [
        "curl",
        "-sS",
        "--noproxy",
        "*",
        "-H",
        f"Host: {target.host}",
        url,
        "-d",
        json.dumps({"instances": FLOWERS}),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)


def _iris() -> bytes:

    rows, labels = load_iris(return_X_y=True)
    file = io.BytesIO()
    joblib.dump(SVC(gamma="scale").fit(rows, labels), file)
    return file.getvalue()

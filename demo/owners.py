"""One model of each other owner: KServe's InferenceService with a model of its own, ModelMesh's, and nobody at all."""

import json
import time
from typing import Any, Final

import httpx
import yaml
from rich.console import Console

from demo import kubernetes, manifests, predictions, settings
from demo.failure import DemoError
from demo.predictions import Target
from demo.readiness import condition, is_ready
from demo.s3_server import S3Server
from demo.training import DemoModel

NAMESPACE: Final = f"{settings.NAMESPACE}-owners"
OF_ITS_OWN: Final = "on-its-own-pods"
MODELMESHS: Final = "on-its-runtimes-pods"
OF_NOBODY: Final = "any-artifact"
"""An InferenceService on which every artifact of the bucket is a model, by its own name."""
_KEY = "demo"
_POLL_SECONDS = 0.5


def show(console: Console, api: httpx.Client, server: S3Server, gateway: str, model: DemoModel) -> None:
    """Apply all for the same artifact, wait until they are Ready, compare answers. Raises DemoError."""
    kubernetes.ensure_namespace(NAMESPACE)
    kubernetes.apply(manifests.storage(server, NAMESPACE))
    file = settings.WORK / "owners.yaml"
    file.write_text(yaml.safe_dump_all([_storage_config(server), _of_its_own(model), _modelmeshs(model), _of_nobody()]))
    console.print(f"  kubectl apply -n {NAMESPACE} -f {file.relative_to(settings.CHECKOUT)}", highlight=False)
    kubernetes.kubectl("apply", "-n", NAMESPACE, "-f", str(file))
    for service, name in ((OF_ITS_OWN, OF_ITS_OWN), (MODELMESHS, MODELMESHS), (OF_NOBODY, model.name)):
        _wait(api, service)
        with predictions.http_client(Target.of(gateway, service, NAMESPACE)) as client:
            answer = client.post(predictions.v2_path(name), json=predictions.v2_body(model.probe))
        if answer.status_code != httpx.codes.OK or not model.answers_with(predictions.v2_answer(answer.json())):
            raise DemoError(
                f"{service} answered {answer.status_code} {answer.text[:300]}; trained here: {model.answer}"
            )
        what = "its answer is the model's" if name == service else f"{name}, which nobody registered there, answers"
        console.print(f"  InferenceService {NAMESPACE}/{service}: {what}", highlight=False)


def _wait(api: httpx.Client, name: str) -> None:
    deadline = time.monotonic() + settings.READY_TIMEOUT_SECONDS
    path = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices/{name}"
    while not is_ready(found := api.get(path).raise_for_status().json()):
        if time.monotonic() > deadline:
            ready = condition(found)
            raise DemoError(f"{name} is not Ready: {ready.get('reason', 'no status')}: {ready.get('message', '')}")
        time.sleep(_POLL_SECONDS)


def _storage_config(server: S3Server) -> dict[str, Any]:
    entry = {
        "type": "s3",
        "endpoint_url": f"http://{server.endpoint_in_cluster}",
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "region": "us-east-1",
        "default_bucket": settings.BUCKET,
    }
    meta = {"name": "storage-config"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {_KEY: json.dumps(entry)}}


def _of_its_own(model: DemoModel) -> dict[str, Any]:
    resources = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}}
    predictor = {
        "serviceAccountName": "models",
        "model": {**_format(), "storageUri": f"s3://{settings.BUCKET}/{model.name}", "resources": resources},
    }
    return _isvc(OF_ITS_OWN, {}, predictor)


def _modelmeshs(model: DemoModel) -> dict[str, Any]:
    annotations = {"serving.kserve.io/deploymentMode": "ModelMesh"}
    return _isvc(MODELMESHS, annotations, {"model": {**_format(), "storage": {"key": _KEY, "path": model.name}}})


def _of_nobody() -> dict[str, Any]:
    annotations = {"shoal.dev/models-from": f"s3://{settings.BUCKET}/", "shoal.dev/models-framework": "sklearn"}
    resources = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}}
    predictor = {
        "serviceAccountName": "models",
        "sklearn": {"protocolVersion": "v2", "resources": resources},
    }
    return _isvc(OF_NOBODY, annotations, predictor)


def _format() -> dict[str, Any]:
    return {"modelFormat": {"name": "sklearn"}}


def _isvc(name: str, annotations: dict[str, str], predictor: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"predictor": predictor},
    }

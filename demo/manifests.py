"""The YAML that the demo applies: what a user of KServe would write for sixty models on three pods."""

from typing import Any

import yaml

from demo import settings
from demo.s3_server import S3Server, storage_secret
from demo.training import DemoModel

STORAGE_SECRET = "s3-models"  # noqa: S105 - the name of a Secret, not one
_SERVICE_ACCOUNT = "models"


def storage(server: S3Server, namespace: str) -> str:
    """The storage Secret with KServe's annotations, and the ServiceAccount that names it."""
    secret = storage_secret(server, STORAGE_SECRET)
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": _SERVICE_ACCOUNT, "namespace": namespace},
        "secrets": [{"name": STORAGE_SECRET}],
    }
    secret["metadata"]["namespace"] = namespace
    return _documents([secret, account])


def inference_service(name: str, namespace: str, pods: int, **predictor: Any) -> str:
    """One InferenceService of ``pods`` MLServer pods; keywords are added to its predictor."""
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "predictor": {
                "minReplicas": pods,
                "maxReplicas": pods,
                "serviceAccountName": _SERVICE_ACCOUNT,
                "sklearn": {
                    "protocolVersion": "v2",
                    "resources": {
                        "requests": {"cpu": "100m", "memory": "512Mi"},
                        "limits": {"memory": "512Mi"},
                    },
                },
                **predictor,
            }
        },
    }
    return _documents([manifest])


def trained_model(
    name: str, namespace: str, service: str, storage_uri: str, memory: str = settings.MODEL_MEMORY
) -> dict[str, Any]:
    """One TrainedModel."""
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "inferenceService": service,
            "model": {"storageUri": storage_uri, "framework": "sklearn", "memory": memory},
        },
    }


def trained_models(models: list[DemoModel], namespace: str, service: str, bucket: str) -> str:
    """A TrainedModel for each trained model, as one YAML file."""
    return _documents(
        [trained_model(model.name, namespace, service, f"s3://{bucket}/{model.name}") for model in models]
    )


def _documents(manifests: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(manifests, sort_keys=False)

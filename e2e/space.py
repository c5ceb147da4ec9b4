"""A namespace of its own for a test, and what a user does in one: put artifacts, apply, wait, ask."""

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx
import joblib
import yaml
from sklearn.dummy import DummyRegressor

from demo import kubernetes, manifests, predictions, s3_server
from demo.predictions import Target
from demo.readiness import condition, is_ready
from e2e.installation import BUCKET, NAMESPACE_PREFIX, Installation
from e2e.load import Question

ROW: Final = [1.0, 2.0]
READY_SECONDS: Final = 120.0
"""A pod and a model server have to start within it, on two busy cores."""
FACT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.25
_ANSWER_SECONDS: Final = 75.0
"""Longer than a request for a cold model is held (60 s unless an InferenceService says otherwise): the gateway's answer
says what was waited for, a client that gave up says nothing."""

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: httpx.Headers
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class Space:
    """One namespace and its models' folder in S3."""

    def __init__(self, installation: Installation, name: str) -> None:
        self.installation = installation
        self.name = name
        self.api = installation.api

    # Artifacts

    def put(self, folder: str, answer: float) -> str:
        """Upload a model that always answers ``answer``; its storage URI."""
        file = io.BytesIO()
        joblib.dump(DummyRegressor(strategy="constant", constant=answer).fit([ROW], [answer]), file)
        return self.put_bytes(folder, file.getvalue())

    def put_bytes(self, folder: str, content: bytes, file: str = "model.joblib") -> str:
        """Upload any bytes as a model's file; its storage URI."""
        self.installation.objects.put_object(Bucket=BUCKET, Key=f"{self.name}/{folder}/{file}", Body=content)
        return self.uri(folder)

    def uri(self, folder: str) -> str:
        return f"s3://{BUCKET}/{self.name}/{folder}"

    # Kubernetes objects

    def apply(self, *documents: dict[str, Any] | str) -> None:
        """``kubectl apply -n <namespace>`` of YAML text or manifests."""
        texts = [document if isinstance(document, str) else yaml.safe_dump(document) for document in documents]
        kubernetes.apply("\n---\n".join(texts), "-n", self.name)

    def service(
        self, name: str = "models", pods: int = 1, annotations: dict[str, str] | None = None, **predictor: Any
    ) -> None:
        """Apply an InferenceService of MLServer pods."""
        manifest = yaml.safe_load(manifests.inference_service(name, self.name, pods, **predictor))
        manifest["metadata"]["annotations"] = annotations or {}
        self.apply(manifest)

    def model(
        self,
        name: str,
        uri: str,
        service: str = "models",
        memory: str = "16Mi",
        framework: str = "sklearn",
        **serving: Any,
    ) -> None:
        """Apply a TrainedModel; other keywords are its ``spec.serving``."""
        manifest = manifests.trained_model(name, self.name, service, uri, memory)
        manifest["spec"]["model"]["framework"] = framework
        if serving:
            manifest["spec"]["serving"] = serving
        self.apply(manifest)

    def models(self, uris: dict[str, str], service: str = "models", memory: str = "16Mi") -> None:
        """Apply TrainedModels by name."""
        self.apply(*(manifests.trained_model(name, self.name, service, uri, memory) for name, uri in uris.items()))

    def delete(self, kind: str, name: str) -> None:
        kubernetes.kubectl("delete", kind, name, "-n", self.name, "--timeout=60s")

    def get(self, path: str) -> dict[str, Any]:
        """An object or list below the namespace, e.g. ``api/v1``-relative ``pods``; see `path_of`."""
        response = self.api.get(path)
        response.raise_for_status()
        body: dict[str, Any] = response.json()
        return body

    def trained_model(self, name: str) -> dict[str, Any]:
        return self.get(f"/apis/serving.kserve.io/v1alpha1/namespaces/{self.name}/trainedmodels/{name}")

    def inference_service(self, name: str = "models") -> dict[str, Any]:
        return self.get(f"/apis/serving.kserve.io/v1beta1/namespaces/{self.name}/inferenceservices/{name}")

    def deployments(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get(f"/apis/apps/v1/namespaces/{self.name}/deployments")["items"]
        return items

    def pods(self, service: str = "models") -> list[dict[str, Any]]:
        """The model-server pods of an InferenceService that are not being deleted."""
        selector = f"serving.kserve.io/inferenceservice={service}"
        items = self.get(f"/api/v1/namespaces/{self.name}/pods?labelSelector={selector}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def python_image(self) -> str:
        """One that the cluster has, with Python in it: the operator's."""
        found = self.get("/apis/apps/v1/namespaces/shoal-system/deployments/shoal-operator")
        image: str = found["spec"]["template"]["spec"]["containers"][0]["image"]
        return image

    # Waiting

    def condition(self, model: str, kind: str = "Ready") -> dict[str, Any]:
        return condition(self.trained_model(model), kind)

    def wait_ready(self, *models: str, seconds: float = READY_SECONDS) -> None:
        """Wait until TrainedModels are Ready, for the generation that is there."""
        for model in models:
            self.wait(lambda model=model: is_ready(self.trained_model(model)), f"{model} Ready", seconds, model)  # type: ignore[misc]

    def wait_condition(
        self, model: str, kind: str, status: str, reason: str | None = None, seconds: float = FACT_SECONDS
    ) -> dict[str, Any]:
        """Wait until a condition has a status (and reason); the condition."""

        def seen() -> dict[str, Any] | None:
            found = self.condition(model, kind)
            right = found.get("status") == status and reason in (None, found.get("reason"))
            return found if right else None

        return self.wait(seen, f"{model}: {kind}={status} {reason or ''}", seconds, model)

    def wait(
        self, probe: Callable[[], T | None], what: str, seconds: float = FACT_SECONDS, model: str | None = None
    ) -> T:
        """Poll until ``probe`` gives something true. Fails with ``what`` and the model's status when it never does."""
        deadline = time.monotonic() + seconds
        while True:
            found = probe()
            if found:
                return found
            if time.monotonic() > deadline:
                status = json.dumps(self.trained_model(model).get("status"), indent=1) if model else ""
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n{status}\n{self.evidence()}")
            time.sleep(_POLL_SECONDS)

    def evidence(self) -> str:
        """The namespace's pods, for a failure's message."""
        return kubernetes.kubectl("get", "pods,isvc,tm", "-n", self.name, "-o", "wide")

    # Requests

    def target(self, service: str = "models") -> Target:
        return Target.of(self.installation.gateway, service, self.name)

    def ask(self, model: str, service: str = "models") -> Answer:
        """One v2 request through the gateway."""
        return self.post(predictions.v2_path(model), predictions.v2_body(ROW), service)

    def post(self, path: str, body: Any, service: str = "models") -> Answer:
        with predictions.http_client(self.target(service), _ANSWER_SECONDS) as client:
            response = client.post(path, json=body)
        return Answer(response.status_code, response.headers, response.text)

    def answer(self, model: str, service: str = "models") -> float:
        """The number that a model answers; fails when there is none."""
        got = self.ask(model, service)
        assert got.status == 200, f"{model}: {got.status} {got.text}"
        return predictions.v2_answer(got.json())

    def questions(self, answers: dict[str, float]) -> list[Question]:
        return [Question(name, ROW, (answer,)) for name, answer in answers.items()]


@contextmanager
def space(installation: Installation, name: str, *, storage: bool = True) -> Iterator[Space]:
    """A fresh namespace ``e2e-<name>``, with the storage account unless not wanted; removed afterwards."""
    full = NAMESPACE_PREFIX + name
    kubernetes.ensure_namespace(full)
    if storage:
        kubernetes.apply(manifests.storage(installation.s3, full))
    try:
        yield Space(installation, full)
    finally:
        kubernetes.kubectl("delete", "namespace", full, "--wait=false")


def fix_storage(space: Space, secret_key: str | None = None) -> None:
    """Write the storage Secret; ``secret_key`` makes it a wrong one."""
    secret = s3_server.storage_secret(space.installation.s3, manifests.STORAGE_SECRET, secret_key)
    space.apply(secret)

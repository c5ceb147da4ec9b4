"""Asks models through the gateway as unmodified clients do: REST v2 and v1, and gRPC v2.

Shared by the demo and the end-to-end tests: bodies and parsing of the Open Inference Protocol (v2) and of KServe's v1.
"""

# tritonclient carries no types.
# mypy: disable-error-code="import-untyped"

from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

from demo.failure import DemoError
from demo.training import DemoModel

MODEL_HEADER = "mm-model-id"
"""ModelMesh's gRPC metadata key: with it the gateway need not look into the message."""
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where an InferenceService's models answer: the gateway as ``host:port`` and the Host that names the service."""

    gateway: str
    host: str

    @classmethod
    def of(cls, gateway: str, service: str, namespace: str) -> "Target":
        """The target of an InferenceService; any domain may follow the namespace."""
        return cls(gateway, f"{service}.{namespace}.svc.cluster.local")

    @property
    def url(self) -> str:
        return f"http://{self.gateway}"


def v2_body(probe: list[float]) -> dict[str, Any]:
    """A v2 request of one row."""
    row = {"name": "row", "shape": [1, len(probe)], "datatype": "FP64", "data": probe}
    return {"inputs": [row]}


def v2_answer(body: dict[str, Any]) -> float:
    """The one number of a v2 response."""
    return float(body["outputs"][0]["data"][0])


def v2_path(model: str) -> str:
    """The route of a model's v2 inference."""
    return f"/v2/models/{model}/infer"


def http_client(target: Target, timeout: float = _TIMEOUT_SECONDS) -> httpx.Client:
    """A REST client with the target's Host; proxies of the environment are not for a local gateway."""
    return httpx.Client(base_url=target.url, headers={"Host": target.host}, timeout=timeout, trust_env=False)


def ask_v2(client: httpx.Client, model: DemoModel) -> float:
    """A model's answer to its probe over REST v2."""
    answer = _checked(client.post(v2_path(model.name), json=v2_body(model.probe)))
    if answer.get("model_name") != model.name:
        raise DemoError(f"asked {model.name}, and {answer.get('model_name')} answered")
    return v2_answer(answer)


def ask_v1(client: httpx.Client, model: DemoModel) -> float:
    """A model's answer to its probe over KServe's v1."""
    body = {"instances": [model.probe]}
    return float(_checked(client.post(f"/v1/models/{model.name}:predict", json=body))["predictions"][0])


def grpc_client(target: Target) -> InferenceServerClient:
    """tritonclient's gRPC client; the authority names the InferenceService as Host does in REST."""
    return InferenceServerClient(target.gateway, channel_args=[("grpc.default_authority", target.host)])


def ask_grpc(client: InferenceServerClient, model: DemoModel, *, header: bool) -> float:
    """A model's answer to its probe over gRPC v2, with or without the header that names the model."""
    row = InferInput("row", [1, len(model.probe)], "FP64")
    row.set_data_from_numpy(np.array([model.probe]))
    metadata = {MODEL_HEADER: model.name} if header else None
    result = client.infer(model.name, [row], headers=metadata, client_timeout=_TIMEOUT_SECONDS)
    response = result.get_response()
    if response.model_name != model.name:
        raise DemoError(f"asked {model.name}, and {response.model_name} answered")
    values = result.as_numpy(response.outputs[0].name)
    if values is None:
        raise DemoError(f"{model.name} answered without data over gRPC")
    return float(values.ravel()[0])


def compare_all(target: Target, models: list[DemoModel]) -> list[tuple[str, int]]:
    """Ask every model over v2, some over v1 and gRPC; how many answered as trained, by way of asking.

    Raises DemoError at the first answer that is not the model's own.
    """
    counts: list[tuple[str, int]] = []
    with http_client(target) as client:
        counts.append(("REST v2", _compare(models, lambda model: ask_v2(client, model))))
        counts.append(("REST v1 :predict", _compare(models[::6], lambda model: ask_v1(client, model))))
    with grpc_client(target) as channel:
        with_header = _compare(models[::6], lambda model: ask_grpc(channel, model, header=True))
        counts.append((f"gRPC v2 with {MODEL_HEADER}", with_header))
        without = _compare(models[::6], lambda model: ask_grpc(channel, model, header=False))
        counts.append(("gRPC v2 without header", without))
    return counts


def _compare(models: list[DemoModel], ask: Any) -> int:
    for model in models:
        try:
            answer = ask(model)
        except (httpx.HTTPError, grpc.RpcError) as error:
            raise DemoError(f"{model.name}: no answer through the gateway: {error}") from error
        if not model.answers_with(answer):
            raise DemoError(f"{model.name} answered {answer}; the model trained here answers {model.answer}")
    return len(models)


def _checked(response: httpx.Response) -> dict[str, Any]:
    if response.status_code != httpx.codes.OK:
        where = f"{response.request.method} {response.request.url.path}"
        raise DemoError(
            f"{where} (Host {response.request.headers['host']}): {response.status_code} {response.text[:500]}"
        )
    body: dict[str, Any] = response.json()
    return body

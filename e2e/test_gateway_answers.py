"""What clients get from the gateway: routes by Host and path, gRPC, and clear words when there is no answer."""

# tritonclient carries no types.
# mypy: disable-error-code="import-untyped"

from collections.abc import Iterator

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.http
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from demo import predictions
from e2e.space import READY_SECONDS, ROW, Space

ANSWERS = {f"model-{index}": 50.0 + index for index in range(4)}


@pytest.fixture(scope="module")
def serving(shared: Space) -> Space:
    """The module's InferenceService with four models that answer."""
    shared.models({name: shared.put(name, answer) for name, answer in ANSWERS.items()})
    shared.wait_ready(*ANSWERS)
    return shared


@pytest.fixture
def channel(serving: Space) -> Iterator[InferenceServerClient]:
    with predictions.grpc_client(serving.target()) as client:
        yield client


def test_every_form_of_address_reaches_the_model(serving: Space) -> None:
    gateway = serving.installation.gateway
    hosts = [
        f"models.{serving.name}.svc.cluster.local",
        f"models.{serving.name}",
        f"models.{serving.name}.example.com",
        f"models.{serving.name}.example.com:8080",
        f"models-predictor.{serving.name}.svc.cluster.local",
        f"MODELS.{serving.name.upper()}.example.com",
    ]
    with httpx.Client(base_url=f"http://{gateway}", trust_env=False) as client:
        for host in hosts:
            answer = client.post("/v2/models/model-1/infer", json=predictions.v2_body(ROW), headers={"Host": host})
            assert answer.status_code == 200, f"{host}: {answer.status_code} {answer.text}"
            assert predictions.v2_answer(answer.json()) == 51.0, host
        path = f"/{serving.name}/models/v2/models/model-2/infer"
        by_path = client.post(path, json=predictions.v2_body(ROW), headers={"Host": "localhost:8080"})
        assert predictions.v2_answer(by_path.json()) == 52.0
        v1 = client.post(f"/{serving.name}/models/v1/models/model-3:predict", json={"instances": [ROW]})
        assert v1.json() == {"predictions": [53.0]}


def test_the_short_name_resolves_in_the_cluster(serving: Space) -> None:
    """Services named after the InferenceService lead to the gateway, so that no ingress is needed inside."""
    for name in ("models", "models-predictor"):
        service = serving.get(f"/api/v1/namespaces/{serving.name}/services/{name}")
        assert service["spec"]["type"] == "ExternalName"
        assert service["spec"]["externalName"].startswith("shoal-gateway.")


def test_unknown_model_is_404(serving: Space) -> None:
    assert serving.ask("nobody").status == 404
    assert serving.ask("model-1", "no-such-service").status == 404
    assert serving.post("/v1/models/nobody:predict", {"instances": [ROW]}).status == 404


def test_known_but_not_loaded_is_503_with_retry_after_and_the_reason(serving: Space) -> None:
    serving.model("absent", serving.uri("absent"))
    serving.wait_condition("absent", "StorageResolved", "False", seconds=READY_SECONDS)
    got = serving.wait(
        lambda: answer if "Storage" in (answer := serving.ask("absent")).text else None, "a 503 that says why"
    )
    assert got.status == 503
    assert int(got.headers["Retry-After"]) > 0
    serving.delete("trainedmodel", "absent")


def test_health_and_metadata(serving: Space) -> None:
    with predictions.http_client(serving.target()) as client:
        for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/model-1", "/v2/models/model-1/ready"):
            answer = client.get(path)
            assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"


def test_the_servers_repository_api_is_not_reachable(serving: Space) -> None:
    with predictions.http_client(serving.target()) as client:
        for path in ("/v2/repository/index", "/v2/repository/models/model-1/unload"):
            assert client.post(path, json={}).status_code in (403, 404), path
    assert serving.answer("model-1") == 51.0


@pytest.mark.parametrize("header", [True, False])
def test_tritonclient_grpc(channel: InferenceServerClient, *, header: bool) -> None:
    for name, right in ANSWERS.items():
        result = channel.infer(name, [_row()], headers={predictions.MODEL_HEADER: name} if header else None)
        response = result.get_response()
        assert response.model_name == name
        assert result.as_numpy(response.outputs[0].name).ravel()[0] == right


def test_tritonclient_grpc_health_metadata_and_unknown(channel: InferenceServerClient) -> None:
    assert channel.is_server_live()
    assert channel.is_server_ready()
    assert channel.is_model_ready("model-1")
    assert channel.get_model_metadata("model-2").name == "model-2"
    with pytest.raises(InferenceServerException) as unknown:
        channel.infer("nobody", [_row()])
    assert unknown.value.status() == f"StatusCode.{grpc.StatusCode.NOT_FOUND.name}"


def test_tritonclient_http(serving: Space) -> None:
    """tritonclient takes a path after the host: the gateway's path style."""
    url = f"{serving.installation.gateway}/{serving.name}/models"
    client = tritonclient.http.InferenceServerClient(url)
    try:
        assert client.is_server_live()
        for name, right in ANSWERS.items():
            row = tritonclient.http.InferInput("row", [1, len(ROW)], "FP64")
            row.set_data_from_numpy(np.array([ROW]))
            result = client.infer(name, [row])
            assert result.as_numpy(result.get_response()["outputs"][0]["name"]).ravel()[0] == right
    finally:
        client.close()


def _row() -> InferInput:
    row = InferInput("row", [1, len(ROW)], "FP64")
    row.set_data_from_numpy(np.array([ROW]))
    return row

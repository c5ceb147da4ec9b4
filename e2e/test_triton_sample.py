"""The sample of Triton as a user applies it, and what Triton cannot do as a user learns of it."""

import pytest
import tritonclient.grpc
import tritonclient.http
from numpy import float32, ones

from e2e import servers
from e2e.space import Space

SERVICE = "triton-example"


def test_the_sample_answers_over_rest_and_grpc(own: Space) -> None:
    servers.provide(own, "triton")
    servers.apply_sample(own, "triton")
    own.wait_ready("doubler", "linear", seconds=servers.START_SECONDS)
    target = own.target(SERVICE)
    headers = {"Host": target.host}

    client = tritonclient.http.InferenceServerClient(target.url.removeprefix("http://"))
    tensor = tritonclient.http.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(ones((1, 3), float32))  # binary
    assert client.infer("doubler", [tensor], headers=headers).as_numpy("y").tolist() == [[2.0, 2.0, 2.0]]
    assert client.infer("linear", [tensor], headers=headers).as_numpy("y")[0][0] == pytest.approx(6.5)
    client.close()

    over_grpc = tritonclient.grpc.InferenceServerClient(
        target.url.removeprefix("http://"), channel_args=[("grpc.default_authority", target.host)]
    )
    asked = tritonclient.grpc.InferInput("x", [1, 3], "FP32")
    asked.set_data_from_numpy(ones((1, 3), float32))
    result = over_grpc.infer("doubler", [asked], headers={"mm-model-id": "doubler"})
    assert result.as_numpy("y").tolist() == [[2.0, 2.0, 2.0]]
    over_grpc.close()

    # Management is nobody's but the agent's, and v1 is a protocol that this server does not speak.
    for path in ("/v2/repository/index", "/v2/repository/models/doubler/unload", "/v1/models/doubler:predict"):
        assert own.post(path, {}, SERVICE).status in (404, 405), path
    url = own.trained_model("doubler")["status"]["url"]
    assert url.endswith("/v2/models/doubler/infer"), url

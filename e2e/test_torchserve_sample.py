"""The sample of TorchServe as a user applies it: PyTorch models by v1, v2 and TorchServe's own path."""

from typing import Any

import httpx
import pytest

from demo.sample_answers import torch_linear as linear
from demo.sample_answers import torch_mlp as mlp
from e2e import servers
from e2e.space import Space

SERVICE = "torchserve-example"


def test_the_sample_answers_as_the_models_do(own: Space) -> None:
    servers.provide(own, "torchserve")
    servers.apply_sample(own, "torchserve")
    own.wait_ready("linear", "mlp", seconds=servers.START_SECONDS)
    target = own.target(SERVICE)
    with httpx.Client(base_url=target.url, headers={"Host": target.host}, timeout=60) as client:

        def ask(path: str, content: Any) -> Any:
            answer = client.post(path, json=content)
            assert answer.status_code == 200, answer.text
            return answer.json()

        rows = [[1.0, 2.0, 3.0], [-1.5, 0.25, 0.0]]
        assert ask("/v1/models/linear:predict", {"instances": rows})["predictions"] == linear(rows)
        tensor = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [*rows[0], *rows[1]]}
        (output,) = ask("/v2/models/linear/infer", {"inputs": [tensor]})["outputs"]
        assert (output["shape"], output["data"]) == ([2, 2], [each for row in linear(rows) for each in row])
        assert ask("/predictions/linear", rows) == linear(rows)
        assert float(ask("/predictions/mlp", {"x": [1, 2]})) == pytest.approx(mlp([1, 2]))
        assert ask("/v1/models/mlp:predict", {"instances": [[1, 2], [3, -4]]})["predictions"] == pytest.approx(
            [mlp([1, 2]), mlp([3, -4])]
        )

        # Questions that TorchServe has no answer to are the gateway's.
        assert client.get("/v1/models/linear").json() == {"name": "linear", "ready": True}
        assert client.get("/v2/models/mlp/ready").json()["ready"] is True
        assert client.get("/v2/health/ready").json() == {"ready": True}

        # Management is nobody's but the agent's.
        for path in ("/models", "/models?url=x", "/api-description", "/ping", "/metrics", "/predictions/linear/1.0"):
            assert client.post(path, json={}).status_code in (404, 405), path
    url = own.trained_model("mlp")["status"]["url"]
    assert url.endswith("/v1/models/mlp:predict"), url

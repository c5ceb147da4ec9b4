"""The sample of a server of one's own on KServe's Python package, as a user applies it."""

import pytest

from e2e import servers
from e2e.space import Space

SERVICE = "kserve-example"
ROWS = [[1.0, 2.0], [3.0, 0.0]]


def test_both_models_answer_as_their_weights_say(own: Space) -> None:
    servers.provide_image("kserve")
    servers.apply_sample(own, "kserve")
    own.wait_ready("linear", "other", seconds=servers.START_SECONDS)
    for name, right in (("linear", [5.5, 3.5]), ("other", [55.0, 35.0])):
        got = own.post(f"/v1/models/{name}:predict", {"instances": ROWS}, SERVICE)
        assert (got.status, got.json()) == (200, {"predictions": pytest.approx(right)}), got.text
        tensor = {"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1.0, 2.0, 3.0, 0.0]}
        got = own.post(f"/v2/models/{name}/infer", {"inputs": [tensor]}, SERVICE)
        assert (got.status, got.json()["outputs"][0]["data"]) == (200, pytest.approx(right)), got.text
    for path in ("/v2/repository/models/linear/unload", "/v2/repository/models/linear/load"):
        assert own.post(path, {}, SERVICE).status in (403, 404), path
    got = own.post("/v1/models/linear:predict", {"instances": [[1.0]]}, SERVICE)
    assert got.status >= 400, got.text
    assert own.post("/v1/models/linear:predict", {"instances": ROWS}, SERVICE).status == 200

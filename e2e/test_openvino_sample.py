"""The sample of OpenVINO on MLServer as a user applies it: every protocol's answers are numpy's, and the tuning is seen
where it has an effect, in what OpenVINO says that it took."""

import re

import httpx
import numpy as np
import tritonclient.grpc

from demo import kubernetes, sample_answers
from demo.predictions import grpc_client
from e2e import servers
from e2e.space import Space

SERVICE = "openvino-example"
ROWS = [[1.0, 2.0, 3.0], [-1.5, 0.25, 0.0]]


def test_the_sample_answers_as_numpy_does_and_is_tuned_as_it_says(own: Space) -> None:
    servers.provide_image("mlserver-openvino")
    servers.apply_sample(own, "openvino", "on-mlserver.yaml")
    own.wait_ready("linear", seconds=servers.START_SECONDS)
    right = sample_answers.linear(ROWS)
    target = own.target(SERVICE)
    with httpx.Client(base_url=target.url, headers={"Host": target.host}, timeout=60, trust_env=False) as client:
        features = {"name": "features", "shape": [2, 3], "datatype": "FP32", "data": ROWS}
        answer = client.post("/v2/models/linear/infer", json={"inputs": [features]})
        assert answer.status_code == 200, answer.text
        (label,) = answer.json()["outputs"]
        assert (label["name"], label["datatype"], label["shape"]) == ("label", "FP32", [2, 1])
        np.testing.assert_allclose(label["data"], np.ravel(right), rtol=1e-5)

        # v1 answers a column as a number for each instance, as KServe's servers do.
        answer = client.post("/v1/models/linear:predict", json={"instances": ROWS})
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json()["predictions"], np.ravel(right), rtol=1e-5)

        refused = client.post("/v1/models/linear:predict", json={"instances": [[1.0, 2.0]]})
        assert refused.status_code == 400, refused.text
        assert "shape [1, 2]" in refused.text

    with grpc_client(target) as channel:
        asked = tritonclient.grpc.InferInput("features", [2, 3], "FP32")
        asked.set_data_from_numpy(np.array(ROWS, np.float32))
        for metadata in ({"mm-model-id": "linear"}, None):
            said = channel.infer("linear", [asked], headers=metadata, client_timeout=60).as_numpy("label")
            np.testing.assert_allclose(said, right, rtol=1e-5)

    # From the annotation: nireq and the hint. From spec.serving: two streams of a thread each, where the node has two.
    took = _took(own)
    assert took["nireq"] == "4"
    assert 1 <= int(took["NUM_STREAMS"]) <= 2
    assert 1 <= int(took["INFERENCE_NUM_THREADS"]) <= 2
    assert took["PERFORMANCE_HINT"] == "LATENCY"
    conditions = own.trained_model("linear")["status"]["conditions"]
    conditions += own.inference_service(SERVICE)["status"]["conditions"]
    assert not [each for each in conditions if each["type"] in ("TuningNotSupported", "FieldsIgnored")]


def _took(space: Space) -> dict[str, str]:
    """What the server's log says of the model's last load."""
    (pod,) = space.pods(SERVICE)
    log = kubernetes.kubectl("logs", pod["metadata"]["name"], "-n", space.name, "-c", "kserve-container")
    (*_, line) = re.findall(r"OpenVINO model linear: (.*)", re.sub("\x1b.*?m", "", log))
    return dict(each.split(" ", 1) for each in line.strip().split(", "))

"""The sample of multi-model-server as a user applies it: a model archive, and what SageMaker calls model.tar.gz."""

import json
from typing import Any

import httpx

from demo import kubernetes, sample_answers
from e2e import servers
from e2e.space import Space

SERVICE = "mms-example"
PAIRS = [[1.0, 2.5], [-3.0, 0.0]]
ROW = [1.0, 2.0, 3.0]
MANAGEMENT = (
    ("GET", "/models"),
    ("GET", "/models/doubler"),
    ("POST", "/models?url=file:///etc/"),
    ("PUT", "/models/doubler?min_worker=0"),
    ("DELETE", "/models/doubler"),
    ("POST", "/invocations"),
    ("GET", "/ping"),
    ("GET", "/api-description"),
    ("POST", "/v2/models/doubler/infer"),
    ("POST", "/v1/models/doubler:predict"),
)


def test_the_sample_answers_by_both_of_its_paths_and_nobody_manages_it(own: Space) -> None:
    servers.provide(own, "mms")
    servers.apply_sample(own, "mms")
    own.wait_ready("doubler", "weighted", seconds=servers.START_SECONDS)
    target = own.target(SERVICE)
    with httpx.Client(base_url=target.url, headers={"Host": target.host}, timeout=60, trust_env=False) as client:
        for path in ("/predictions/{}", "/models/{}/invoke"):
            archive = client.post(path.format("doubler"), json={"rows": PAIRS})
            assert (archive.status_code, archive.json()) == (200, {"rows": sample_answers.doubler(PAIRS)}), path
            script = client.post(path.format("weighted"), json=ROW)
            assert (script.status_code, script.json()) == (200, {"sum": sample_answers.weighted(ROW)}), path
        unknown = client.post("/predictions/nobody", json={})
        assert unknown.status_code == 404, unknown.text
        # Management is nobody's but the agent's, and other protocols are not this server's.
        for method, refused in MANAGEMENT:
            answer = client.request(method, refused, json={} if method == "POST" else None)
            assert answer.status_code in (404, 405), f"{method} {refused}: {answer.status_code} {answer.text}"
        again = client.post("/predictions/doubler", json={"rows": PAIRS})
        assert again.json() == {"rows": sample_answers.doubler(PAIRS)}
    told = _as_the_server_has_it(own, "doubler")
    assert {name: told[name] for name in ("minWorkers", "batchSize", "maxBatchDelay")} == {
        "minWorkers": 2,
        "batchSize": 8,
        "maxBatchDelay": 5,
    }
    url = own.trained_model("doubler")["status"]["url"]
    assert url.endswith("/predictions/doubler"), url


def _as_the_server_has_it(space: Space, model: str) -> dict[str, Any]:
    """What its management says inside the pod, where it listens to nobody else."""
    (pod,) = space.pods(SERVICE)
    name = pod["metadata"]["name"]
    code = f"from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8081/models/{model}').read().decode())"
    command = ["exec", name, "-n", space.name, "-c", pod["spec"]["containers"][0]["name"], "--", "python3", "-c", code]
    said = json.loads(kubernetes.kubectl(*command))
    found: dict[str, Any] = said[0] if isinstance(said, list) else said
    return found

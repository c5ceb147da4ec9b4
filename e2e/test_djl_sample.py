"""The sample of DJL Serving as a user applies it. Left out, and said, where the server's parts are not to be had."""

from e2e import servers
from e2e.space import Space

SERVICE = "djl-example"


def test_the_sample_answers_by_both_of_its_paths_and_nobody_manages_it(own: Space) -> None:
    servers.provide(own, "djl")
    servers.apply_sample(own, "djl")
    own.wait_ready("doubler", "linear", seconds=servers.START_SECONDS)
    doubled = own.post("/predictions/doubler", {"rows": [[1, 2.5]]}, SERVICE)
    assert (doubled.status, doubled.json()) == (200, {"rows": [[2.0, 5.0]]})
    linear = own.post("/models/linear/invoke", [[1.0, 2.0, 3.0]], SERVICE)
    assert (linear.status, linear.json()) == (200, {"predictions": [[14.5]]})
    for path in ("/models", "/models?url=file:///etc/", "/invocations?model_name=doubler", "/v2/models/doubler/infer"):
        assert own.post(path, {}, SERVICE).status in (404, 405), path
    url = own.trained_model("doubler")["status"]["url"]
    assert url.endswith("/predictions/doubler"), url

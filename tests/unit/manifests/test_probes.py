"""Probes and ports that a user or a runtime brings: where nobody would answer, the server would be ended for it."""

from typing import Any

import pytest
from shoal_operator.manifests.render import render
from shoal_operator.manifests.scaling import Decision
from shoal_operator.manifests.storage import Storage

from .objects import LIMITS, SETTINGS, Object, isvc, resolved, runtime

OURS = {"path": "/", "port": 8083, "scheme": "HTTP"}


def server(**container: Any) -> tuple[Object, tuple[str, ...]]:
    """The model server's container where a runtime says this of it, and what is said to have no effect."""
    service = isvc(sklearn={"resources": LIMITS})
    found = resolved(service, runtime(containers=[{"name": "mlserver", "image": "mlserver:1", **container}]))
    deployment = next(m for m in render(service, found, Storage(), SETTINGS, Decision(1)) if m["kind"] == "Deployment")
    made: Object = deployment["spec"]["template"]["spec"]["containers"][0]
    return made, found.spec.ignored_fields


@pytest.mark.parametrize("kind", ["livenessProbe", "startupProbe"])
@pytest.mark.parametrize(
    "probe",
    [
        {"httpGet": {"path": "/v2/health/live", "port": 9000}},
        {"httpGet": {"path": "/v2/health/live", "port": "rest"}},
        {"httpGet": {"path": "/v2/health/live", "port": "nowhere"}},
        {"httpGet": {"path": "/v2/health/live", "port": 8080, "scheme": "HTTPS"}},
        {"httpGet": {"path": "/v2/health/live"}},
        {"tcpSocket": {"port": 9000}},
        {"grpc": {"port": 9000}},
    ],
)
def test_a_probe_that_nobody_would_answer_is_ours_and_it_is_said(kind: str, probe: Object) -> None:
    made, ignored = server(
        env=[{"name": "MLSERVER_HTTP_PORT", "value": "9000"}],
        ports=[{"name": "rest", "containerPort": 9000}],
        **{kind: probe},
    )
    assert made[kind]["httpGet"] == OURS
    assert any(field.startswith(f"{kind} of the model server") for field in ignored)


@pytest.mark.parametrize(
    ("probe", "port"),
    [
        ({"httpGet": {"path": "/v2/health/live", "port": "web"}, "periodSeconds": 7}, 8080),
        ({"httpGet": {"path": "/v2/health/live", "port": "http"}}, 8080),
        ({"tcpSocket": {"port": 8081}}, 8081),
    ],
)
def test_one_that_can_pass_stays_with_its_port_as_a_number(probe: Object, port: int) -> None:
    """The name that the user gave the port is not in the pod, where it has ours."""
    made, ignored = server(ports=[{"name": "web", "containerPort": 8080}], livenessProbe=probe)
    (kind,) = {"httpGet", "tcpSocket"} & set(probe)
    assert made["livenessProbe"] == {**probe, kind: {**probe[kind], "port": port}}
    assert ignored == ()


@pytest.mark.parametrize(
    "probe", [{"exec": {"command": ["true"]}}, {"httpGet": {"host": "example.com", "port": 443, "scheme": "HTTPS"}}]
)
def test_what_asks_no_port_of_the_server_is_left_alone(probe: Object) -> None:
    made, ignored = server(livenessProbe=probe, lifecycle={"postStart": probe})
    assert (made["livenessProbe"], made["lifecycle"]["postStart"], ignored) == (probe, probe, ())


def test_a_hook_that_nobody_would_answer_is_left_out_and_it_is_said() -> None:
    made, ignored = server(lifecycle={"postStart": {"httpGet": {"path": "/", "port": 9000}}})
    assert list(made["lifecycle"]) == ["preStop"]
    assert any(field.startswith("lifecycle.postStart of the model server") for field in ignored)

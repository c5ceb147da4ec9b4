"""What is rendered once and written over is what would have been rendered, and costs no parsing."""

import string
from collections.abc import Callable
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.gateway import clusters, routes
from shoal_operator.gateway import vocabulary as words
from shoal_operator.gateway.stencils import Form, serialised, stand_in
from shoal_operator.gateway.tables import GatewayTables
from shoal_operator.state.world.effects import (
    Effect,
    PodEndpointChanged,
    RouteChanged,
    ServiceRouteChanged,
    Unavailable,
)
from shoal_operator.state.world.values import RoutePolicy, ServiceKey
from shoal_operator.state.world.views import Endpoint

SERVICE = ServiceKey("default", "iris")
SERVER_TYPES = ("", "mlserver", "triton", "ovms", "torchserve")
FORMS: tuple[tuple[Callable[..., Any], dict[str, Any], bool], ...] = (
    (routes.to_pods, {}, True),
    (routes.of_service, {}, True),
    (routes.of_service, {}, False),
    (routes.cold, {}, False),
    (routes.waiting, {}, False),
    (routes.unavailable, {"reason": Unavailable.LOAD_FAILED}, False),
    (routes.from_message, {"message_bytes": 4096}, False),
)
digests = st.text(string.ascii_letters + string.digits + "-_", min_size=16, max_size=16)
policies = st.builds(
    RoutePolicy,
    timeout=st.none() | st.floats(0.001, 3600),
    retries=st.integers(0, 5),
    max_request_bytes=st.none() | st.integers(1, 1 << 26),
    path_style=st.booleans(),
    server_type=st.sampled_from(SERVER_TYPES),
)


@given(form=st.sampled_from(FORMS), own=digests, target=digests, policy=policies)
def test_a_route_configuration_is_what_it_would_be_by_itself(
    form: tuple[Callable[..., Any], dict[str, Any], bool], own: str, target: str, policy: RoutePolicy
) -> None:
    render, more, leads = form
    name, to = f"kind-{own}", {"target": target} if leads else {}
    filled = Form(render, tuple(more.items())).filled(name, policy, target if leads else None)
    assert filled == serialised(render(name, policy, **more, **to))


@given(
    target=digests,
    ips=st.lists(st.ip_addresses().map(str), max_size=4, unique=True),
    grpc=st.booleans(),
    server_type=st.sampled_from(SERVER_TYPES),
)
def test_a_cluster_has_the_addresses_of_its_pods_and_of_the_cold_listener(
    target: str, ips: list[str], grpc: bool, server_type: str
) -> None:
    endpoints = [Endpoint(ip, 8080, 8081 if grpc else 0, server_type) for ip in ips]
    http, calls = clusters.of_target(target, endpoints)
    for cluster, name, port in ((http, target, 8080), (calls, routes.grpc_cluster(target), 8081)):
        said = json_format.MessageToDict(cluster, preserving_proto_field_name=True)
        pods, cold = said["load_assignment"]["endpoints"]
        socket = [each["endpoint"]["address"]["socket_address"] for each in pods.get("lb_endpoints", [])]
        expected = ips if port == 8080 or grpc else []
        assert socket == [{"address": ip, "port_value": port} for ip in expected]
        (internal,) = cold["lb_endpoints"]
        address = internal["endpoint"]["address"]["envoy_internal_address"]
        assert address == {"server_listener_name": words.COLD, "endpoint_id": target}
        assert said["name"] == said["load_assignment"]["cluster_name"] == name
        assert cluster_pb2.Cluster.FromString(serialised(cluster)) == cluster
        assert stand_in("target", len(target)).encode() not in serialised(cluster)


def test_a_name_that_other_words_may_hold_is_none_to_write_over() -> None:
    with pytest.raises(ValueError, match="may be found"):
        stand_in("target", 5)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was parsed out of Envoy's JSON form since."""
    found: list[str] = []
    parse = json_format.ParseDict

    def noted(given: Any, message: Any) -> Any:
        found.append(given["name"])
        return parse(given, message)

    monkeypatch.setattr(json_format, "ParseDict", noted)
    return found


def _told(pods: int) -> tuple[GatewayTables, list[Effect]]:
    effects: list[Effect] = [PodEndpointChanged(f"p{n}", f"10.0.0.{n}", service=SERVICE) for n in range(pods)]
    effects += [RouteChanged(SERVICE, f"m{n}", n + 1, frozenset((f"p{n}", f"p{n + 1}"))) for n in range(pods - 1)]
    return GatewayTables(), effects


def test_another_policy_is_rendered_once_however_many_pods_there_are(parsed: list[str]) -> None:
    counts = []
    for pods, timeout in ((5, 21.0), (50, 22.0)):
        tables, effects = _told(pods)
        policies = RoutePolicy(timeout=timeout), RoutePolicy(timeout=timeout + 0.5)
        tables.apply([*effects, ServiceRouteChanged(SERVICE, True, 99, frozenset({"p1"}), policies[0])])
        parsed.clear()
        changes = tables.apply([ServiceRouteChanged(SERVICE, True, 100, frozenset({"p1"}), policies[1])])
        assert len([change for change in changes if change.type_url == words.ROUTES]) >= 2 * pods - 1
        counts.append(len(parsed))
    assert counts[0] == counts[1] <= 3, parsed


def test_a_pod_more_costs_no_parsing(parsed: list[str]) -> None:
    tables, effects = _told(5)
    tables.apply(effects)
    parsed.clear()
    new = frozenset({"new"})
    changes = tables.apply(
        [PodEndpointChanged("new", "10.0.1.1", service=SERVICE), RouteChanged(SERVICE, "m9", 99, new)]
    )
    assert {change.type_url for change in changes} == {words.CLUSTER, words.ROUTES, words.SCOPE}
    assert parsed == []

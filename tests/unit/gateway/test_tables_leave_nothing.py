"""Tables remember nothing of what is gone: whatever came and went, they are as large as before, for good."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.gateway import vocabulary as words
from shoal_operator.gateway.tables import MAX_UNKNOWN, GatewayTables
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged, ServiceRouteChanged, Unavailable
from shoal_operator.state.world.values import RoutePolicy, ServiceKey

SERVICES = [ServiceKey("ns", name) for name in ("iris", "wine", "runtime.mlserver")]
PODS, MODELS = ["a", "b", "c"], ["m1", "m2"]


def sizes(tables: GatewayTables) -> dict[str, int]:
    return {name: len(value) for name, value in vars(tables).items() if hasattr(value, "__len__")} | {
        kind: len(each) for kind, each in tables.resources.items()
    }


def clear(tables: GatewayTables, sequence: int) -> None:
    """All goes, and every Envoy has heard of it."""
    for service in SERVICES:
        tables.apply([RouteChanged(service, model, sequence) for model in MODELS])
        tables.apply([ServiceRouteChanged(service, False, sequence)])
    tables.apply([PodEndpointChanged(uid, "") for uid in PODS])
    for _ in range(2):
        tables.collect(sequence)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("pod"), st.sampled_from(PODS), st.sampled_from(["", "10.0.0.1"]), st.sampled_from(SERVICES)),
        st.tuples(
            st.just("model"),
            st.sampled_from(SERVICES),
            st.sampled_from(MODELS),
            st.frozensets(st.sampled_from(PODS)),
            st.none() | st.sampled_from(Unavailable),
        ),
        st.tuples(
            st.just("service"),
            st.sampled_from(SERVICES),
            st.booleans(),
            st.frozensets(st.sampled_from(PODS)),
            st.sampled_from([RoutePolicy(), RoutePolicy(timeout=5.0), RoutePolicy(max_request_bytes=9)]),
        ),
        st.tuples(st.just("acknowledge")),
    ),
    max_size=30,
)


@given(steps)
def test_whatever_came_and_went(done: list[tuple[Any, ...]]) -> None:
    tables, sequence = GatewayTables(), 0
    before = sizes(tables)
    for sequence, step in enumerate(done, start=1):
        match step:
            case "pod", uid, ip, service:
                tables.apply([PodEndpointChanged(uid, ip, service=service)])
            case "model", service, model, pods, reason:
                tables.apply([RouteChanged(service, model, sequence, pods, reason)])
            case "service", service, known, pods, policy:
                tables.apply([ServiceRouteChanged(service, known, sequence, pods if known else frozenset(), policy)])
            case _:
                tables.collect(sequence)
    clear(tables, sequence + 1)
    assert sizes(tables) == before
    assert tables.collect(sequence + 2) == []


def test_services_that_are_not_there_may_be_named_again_and_again() -> None:
    """Those of before are gone: each of as many has routes of its own."""
    tables = GatewayTables()
    for turn in range(3):
        missing = [ServiceKey("ns", f"no-{turn}-{number}") for number in range(MAX_UNKNOWN)]
        reason = Unavailable.SERVICE_NOT_READY
        for service in missing:
            tables.apply([RouteChanged(service, "m", turn, frozenset(), reason)])
        scopes = tables.resources[words.SCOPE].values()
        assert len({scope.version for scope in scopes}) >= MAX_UNKNOWN
        tables.apply([RouteChanged(service, "m", turn) for service in missing])
        tables.collect(turn)


@pytest.mark.parametrize("acknowledged", [4, 5])
def test_what_is_used_again_before_all_have_left_it_stays(acknowledged: int) -> None:
    tables = GatewayTables()
    service = SERVICES[0]
    tables.apply([PodEndpointChanged(uid, f"10.0.0.{n}", service=service) for n, uid in enumerate(PODS)])
    tables.apply([RouteChanged(service, "m1", 3, frozenset("ab"))])
    tables.apply([RouteChanged(service, "m1", 4, frozenset("c"))])
    tables.apply([RouteChanged(service, "m1", 5, frozenset("ab"))])
    assert tables.collect(acknowledged) == []
    assert {pod.ip for target in tables.resources[words.CLUSTER] for pod in tables.endpoints(target)} == {
        "10.0.0.0",
        "10.0.0.1",
        "10.0.0.2",
    }

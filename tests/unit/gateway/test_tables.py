"""The tables: what a change costs, what is shared, what goes when."""

import pytest
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.gateway import vocabulary as words
from shoal_operator.gateway.scopes import digest
from shoal_operator.gateway.tables import MAX_TARGETS, MAX_UNKNOWN, Change, GatewayTables, Resource
from shoal_operator.servers import profiles
from shoal_operator.state.world.effects import (
    DesiredChanged,
    Effect,
    PodEndpointChanged,
    RouteChanged,
    ServiceRouteChanged,
    Unavailable,
)
from shoal_operator.state.world.values import RoutePolicy, ServiceKey

SERVICE = ServiceKey("default", "iris")


def pod(uid: str, ip: str = "10.0.0.1") -> PodEndpointChanged:
    return PodEndpointChanged(uid, ip, service=SERVICE)


def route(model: str, sequence: int, *pods: str, unavailable: Unavailable | None = None) -> RouteChanged:
    return RouteChanged(SERVICE, model, sequence, frozenset(pods), unavailable)


def kinds(changes: list[Change]) -> list[str]:
    return sorted(change.type_url.rsplit(".", 1)[1] for change in changes)


@pytest.fixture
def tables() -> GatewayTables:
    tables = GatewayTables()
    tables.apply([pod("a"), pod("b", "10.0.0.2"), ServiceRouteChanged(SERVICE, True, 1, frozenset("a"))])
    return tables


def test_a_model_is_one_scope_however_many_there_are(tables: GatewayTables) -> None:
    for number in range(1000):
        changes = tables.apply([route(f"m{number}", number + 2, "ab"[number % 2])])
        assert kinds(changes) == ["ScopedRouteConfiguration"]
        assert changes[0].sequence == number + 2
    assert len(tables.apply([route("m7", 2000, "a")])) == 1
    payload = tables.resources[words.SCOPE][changes[0].name].payload
    assert len(payload) < 250


def test_models_that_go_to_the_same_pods_share_one_route_configuration(tables: GatewayTables) -> None:
    first = tables.apply([route("m1", 2, "a", "b")])
    assert kinds(first) == ["Cluster"] * 2 + ["RouteConfiguration"] + ["ScopedRouteConfiguration"] * 2
    assert kinds(tables.apply([route("m2", 3, "b", "a")])) == ["ScopedRouteConfiguration"]


def test_payloads_joined_are_one_response(tables: GatewayTables) -> None:
    resources = tables.resources[words.SCOPE]
    joined = discovery_pb2.DeltaDiscoveryResponse.FromString(b"".join(r.payload for r in resources.values()))
    assert [r.name for r in joined.resources] == list(resources)
    assert {r.resource.type_url for r in joined.resources} == {words.SCOPE}
    assert [r.version for r in joined.resources] == [r.version for r in resources.values()]


def test_two_tables_told_the_same_in_another_order_are_the_same() -> None:
    """So that an Envoy that comes back to another operator gets nothing anew."""
    pods: list[Effect] = [pod("a"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3")]
    routes: list[Effect] = [
        route("m1", 1, "a"),
        route("m2", 2, "a", "c"),
        route("m3", 3, unavailable=Unavailable.LOAD_FAILED),
        ServiceRouteChanged(SERVICE, True, 4, frozenset("abc")),
    ]
    one, other = GatewayTables(), GatewayTables()
    one.apply([*pods, *routes])
    other.apply([*reversed(routes), *reversed(pods)])
    assert one.resources == other.resources


def test_a_pod_that_goes_is_kept_until_everyone_left(tables: GatewayTables) -> None:
    tables.apply([route("m1", 2, "a"), ServiceRouteChanged(SERVICE, True, 3, frozenset("b"))])
    clusters = set(tables.resources[words.CLUSTER])
    tables.apply([pod("a", "")])
    assert tables.collect(3) == []  # m1 still points there
    tables.apply([route("m1", 4, "b")])
    assert tables.collect(3) == []  # an Envoy may not have it yet
    gone = tables.collect(4)
    assert kinds(gone) == ["Cluster"] * 2 + ["RouteConfiguration"] * 2 + ["ScopedRouteConfiguration"] * 2
    assert len(tables.resources[words.CLUSTER]) == len(clusters) - 2
    assert tables.collect(99) == []


def test_a_pod_without_models_keeps_its_routes_while_it_lives(tables: GatewayTables) -> None:
    tables.apply([route("m1", 2, "b"), route("m1", 3, "a")])
    assert tables.collect(99) == []
    assert kinds(tables.apply([route("m1", 4, "b")])) == ["ScopedRouteConfiguration"]


def test_a_dead_pod_leaves_the_sets_it_was_in(tables: GatewayTables) -> None:
    tables.apply([route("m1", 2, "a", "b")])
    changes = tables.apply([pod("b", "")])
    assert kinds(changes) == ["Cluster"] * 4  # its own two and the set's two
    assert any(b"10.0.0.2" in r.payload for r in tables.resources[words.CLUSTER].values()) is False


def test_an_unknown_pod_gets_its_address_later(tables: GatewayTables) -> None:
    tables.apply([route("m1", 2, "late")])
    assert kinds(tables.apply([pod("late", "10.9.9.9")])) == ["Cluster"] * 2
    assert kinds(tables.apply([pod("late", "10.9.9.9")])) == []


def test_the_pods_behind_a_cluster_are_known_by_its_name(tables: GatewayTables) -> None:
    """The activator asks: which pods has a request been to that came from there."""
    tables.apply([route("m1", 2, "a", "b")])
    target = digest("a,b")
    assert target in tables.resources[words.CLUSTER]
    assert {endpoint.ip for endpoint in tables.endpoints(target)} == {"10.0.0.1", "10.0.0.2"}
    tables.apply([pod("a", "")])
    assert {endpoint.ip for endpoint in tables.endpoints(target)} == {"10.0.0.2"}
    assert tables.endpoints("gone") == frozenset()


def test_every_cold_model_shares_one_route_configuration(tables: GatewayTables) -> None:
    changes = tables.apply([route("m1", 2, unavailable=Unavailable.COLD), route("m2", 3, unavailable=Unavailable.COLD)])
    assert kinds(changes) == ["ScopedRouteConfiguration"] * 2
    assert len({tables.resources[words.SCOPE][change.name].version for change in changes}) == 1


def test_a_policy_changes_in_place_whatever_number_of_models_there_are(tables: GatewayTables) -> None:
    for number in range(100):
        tables.apply([route(f"m{number}", number + 2, "a")])
        tables.apply([route(f"c{number}", number + 200, unavailable=Unavailable.COLD)])
    tables.apply([RouteChanged(ServiceKey("default", "wine"), "m1", 500, frozenset("b"))])
    policy = RoutePolicy(timeout=7.5, path_style=False)
    changes = tables.apply([ServiceRouteChanged(SERVICE, True, 501, frozenset("a"), policy)])
    own = [change.name for change in changes if change.type_url == words.ROUTES]
    assert len(own) == 4  # pods a, pods b, its own, its cold models'
    assert len([change for change in changes if change.type_url == words.SCOPE]) == 4 + 2  # their anchors, its own two
    for name in own:
        guard = content(tables.resources[words.ROUTES][name]).virtual_hosts[0].routes[0]
        assert guard.match.headers[0].name == words.PATH_STYLE_HEADER
    assert tables.apply([ServiceRouteChanged(SERVICE, True, 502, frozenset("a"), policy)]) != []
    assert all(
        c.type_url == words.SCOPE
        for c in tables.apply([ServiceRouteChanged(SERVICE, True, 503, frozenset("a"), policy)])
    )


@pytest.mark.parametrize("server_type", sorted(profiles()))
def test_no_header_of_a_client_chooses_what_its_path_does_not_say(tables: GatewayTables, server_type: str) -> None:
    """Whether its model is loaded, cold or known to nobody."""
    policy = RoutePolicy(server_type=server_type, any_name=True)
    tables.apply([ServiceRouteChanged(SERVICE, True, 2, frozenset("a"), policy), route("m1", 3, "a")])
    tables.apply([route("m2", 4, unavailable=Unavailable.COLD)])
    withheld = set(profiles()[server_type].withheld)
    routed = [content(each) for name, each in tables.resources[words.ROUTES].items() if name != words.GATE]
    removed = [set(host.request_headers_to_remove) for each in routed for host in each.virtual_hosts]
    assert len([each for each in removed if withheld <= each]) >= 3
    assert withheld == {
        "djl": {"x-synchronous", "x-starting-token"},
        "torchserve": {"url_path", "explain"},
    }.get(server_type, set())


def test_an_inference_service_that_goes_leaves_nothing(tables: GatewayTables) -> None:
    before = {kind: dict(each) for kind, each in tables.resources.items()}
    wine = ServiceKey("default", "wine")
    tables.apply([PodEndpointChanged("w", "10.0.0.9", service=wine)])
    tables.apply([ServiceRouteChanged(wine, True, 2, frozenset("w"), RoutePolicy(retries=1))])
    for number, reason in enumerate(Unavailable):
        tables.apply([RouteChanged(wine, f"m{number}", number + 3, frozenset(), reason)])
    tables.apply([RouteChanged(wine, "m", 20, frozenset("w"))])
    for number in range(len(Unavailable)):
        tables.apply([RouteChanged(wine, f"m{number}", number + 21)])
    tables.apply([RouteChanged(wine, "m", 40), ServiceRouteChanged(wine, False, 41), PodEndpointChanged("w", "")])
    tables.collect(41)
    assert tables.resources == before


@pytest.mark.parametrize("reason", [Unavailable.COLD, Unavailable.SERVICE_NOT_READY, Unavailable.LOAD_FAILED])
def test_anyone_may_name_inference_services_that_are_not_there(tables: GatewayTables, reason: Unavailable) -> None:
    before = len(tables.resources[words.ROUTES])
    for number in range(MAX_UNKNOWN + 100):
        missing = ServiceKey("default", f"no{number}")
        tables.apply([RouteChanged(missing, "m1", number + 2, frozenset(), reason)])
    assert len(tables.resources[words.ROUTES]) == before + MAX_UNKNOWN
    changes = tables.apply([RouteChanged(SERVICE, "m1", 999, frozenset(), Unavailable.SERVICE_NOT_READY)])
    assert words.COLD in clusters_of(tables.resources[words.ROUTES][changes[0].name])  # one that is known is held


def test_model_names_of_other_services_do_not_meet(tables: GatewayTables) -> None:
    services = (SERVICE, ServiceKey("other", "iris"), ServiceKey("default", "wine"))
    changes = [tables.apply([RouteChanged(each, "m1", 5, frozenset("a"))])[-1] for each in services]
    assert len({change.name for change in changes}) == 3
    # Nor do their route configurations, whatever pods they lead to: each has a policy of its own.
    assert len({tables.resources[words.SCOPE][change.name].version for change in changes}) == 3


def test_an_unknown_model_has_no_scope(tables: GatewayTables) -> None:
    before = dict(tables.resources[words.SCOPE])
    tables.apply([route("m1", 2, "a")])
    assert len(tables.apply([route("m1", 3)])) == 1
    assert tables.apply([route("never", 4)]) == []
    assert tables.resources[words.SCOPE] == before
    assert tables.sequence == 4


def test_effects_that_are_not_about_routes_are_passed_over(tables: GatewayTables) -> None:
    assert tables.apply([DesiredChanged("a")]) == []


def test_the_family_of_sets_is_bounded(tables: GatewayTables, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_TARGETS > 1000
    monkeypatch.setattr("shoal_operator.gateway.tables.MAX_TARGETS", 6)
    uids = [f"p{number}" for number in range(4)]
    tables.apply([pod(uid) for uid in uids])
    for number, other in enumerate(uids[1:]):
        tables.apply([route(f"m{number}", number + 2, "p0", other)])
    assert len(tables.resources[words.CLUSTER]) <= 2 * 8
    versions = {
        tables.resources[words.SCOPE][change.name].version for change in tables.apply([route("m2", 9, "p0", "p3")])
    }
    assert len(versions) == 1  # routed, to one of its pods


def clusters_of(resource: Resource) -> set[str]:
    """Where a route configuration leads."""
    return {route.route.cluster for route in content(resource).virtual_hosts[0].routes if route.HasField("route")}


def content(resource: Resource) -> route_pb2.RouteConfiguration:
    (sent,) = discovery_pb2.DeltaDiscoveryResponse.FromString(resource.payload).resources
    return route_pb2.RouteConfiguration.FromString(sent.resource.value)


PODS = ["a", "b", "c"]
effects = st.lists(
    st.one_of(
        st.builds(pod, st.sampled_from(PODS), st.sampled_from(["", "10.0.0.1", "10.0.0.2"])),
        st.builds(
            lambda model, pods, reason: (model, pods, reason),
            st.sampled_from(["m1", "m2", "m3"]),
            st.frozensets(st.sampled_from(PODS)),
            st.one_of(st.none(), st.sampled_from(Unavailable)),
        ),
        st.builds(lambda pods: pods, st.frozensets(st.sampled_from(PODS))),
        st.just("acknowledge"),
    ),
    max_size=40,
)


@given(effects)
def test_every_scope_has_its_routes_and_every_route_its_clusters(steps: list[object]) -> None:
    tables = GatewayTables()
    shadow = {type_url: dict(resources) for type_url, resources in tables.resources.items()}
    for sequence, step in enumerate(steps, start=1):
        match step:
            case PodEndpointChanged():
                changes = tables.apply([step])
            case (str(model), frozenset() as pods, Unavailable() | None as reason):
                changes = tables.apply([RouteChanged(SERVICE, model, sequence, pods, reason)])
            case frozenset() as pods:
                changes = tables.apply([ServiceRouteChanged(SERVICE, True, sequence, pods)])
            case _:
                changes = tables.collect(sequence)
        # A change list is all that an Envoy gets: applied to a copy, it must give the same tables.
        for change in changes:
            resource = tables.resources[change.type_url].get(change.name)
            if resource is None:
                shadow[change.type_url].pop(change.name, None)
            else:
                shadow[change.type_url][change.name] = resource
        assert shadow == tables.resources
        routes, clusters = tables.resources[words.ROUTES], tables.resources[words.CLUSTER]
        assert {r.version for r in tables.resources[words.SCOPE].values()} == set(routes)  # anchors included
        for resource in (each for name, each in routes.items() if name != words.GATE):
            assert clusters_of(resource) <= {*clusters, words.COLD, words.ANSWERS, "none"}


def test_a_services_change_counts_as_applied() -> None:
    """What is acknowledged is compared with it: a change that does not count is never waited for."""
    tables = GatewayTables()
    changes = tables.apply([pod("a"), ServiceRouteChanged(SERVICE, True, 7, frozenset("a"))])
    assert tables.sequence == 7
    assert max(change.sequence for change in changes) == 7

"""One Envoy's stream, played by hand: the order in which things are sent and acknowledged."""

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from shoal_operator.gateway import vocabulary as words
from shoal_operator.gateway.subscription import STALLED_SECONDS, EnvoySubscription
from shoal_operator.gateway.tables import GatewayTables
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged
from shoal_operator.state.world.values import ServiceKey

SERVICE = ServiceKey("default", "iris")


class FakeEnvoy:
    """Answers as Envoy does: keeps resources, subscribes the route configurations that its scopes name, and asks again
    for them with versions when it comes back."""

    def __init__(self, tables: GatewayTables) -> None:
        self.tables = tables
        self.now = 0.0
        self.has: dict[str, dict[str, str]] = {words.CLUSTER: {}, words.ROUTES: {}, words.SCOPE: {}}
        self.log: list[tuple[str, list[str]]] = []
        self.subscribed: set[str] = set()
        self.slow_to_subscribe = False  # its (un)subscriptions come a while after its acknowledgements
        self.connect()

    def connect(self) -> None:
        self.stream = EnvoySubscription(self.tables, self.now)
        for kind in (words.CLUSTER, words.SCOPE):
            self.send(kind, initial_resource_versions=self.has[kind])
        if self.subscribed:
            self.send(
                words.ROUTES,
                resource_names_subscribe=sorted(self.subscribed),
                initial_resource_versions=self.has[words.ROUTES],
            )

    def send(self, kind: str, **fields: object) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=kind, **fields)
        request.node.id = "envoy-1"
        self.stream.receive(request, self.now)

    def apply(self, *effects: RouteChanged | PodEndpointChanged) -> None:
        self.stream.changed(self.tables.apply(effects), self.now)

    def take(self) -> list[discovery_pb2.DeltaDiscoveryResponse]:
        deltas, self.ask_again = self.stream.next_deltas(self.now)
        return [discovery_pb2.DeltaDiscoveryResponse.FromString(delta.data) for delta in deltas]

    def answer(self, response: discovery_pb2.DeltaDiscoveryResponse, *, refuse: str = "") -> None:
        kind, names = response.type_url, [resource.name for resource in response.resources]
        self.log.append((kind.rsplit(".", 1)[1], names))
        if refuse and refuse in names:
            self.send(kind, response_nonce=response.nonce, error_detail={"code": 13, "message": "no"})
            return
        for resource in response.resources:
            self.has[kind][resource.name] = resource.version
        for name in response.removed_resources:
            self.has[kind].pop(name, None)
        self.send(kind, response_nonce=response.nonce)
        if kind == words.SCOPE and not self.slow_to_subscribe:
            self.subscribe()

    def subscribe(self) -> None:
        wanted = set(self.has[words.SCOPE].values())
        more, fewer = wanted - self.subscribed, self.subscribed - wanted
        self.subscribed = wanted
        for name in fewer:
            self.has[words.ROUTES].pop(name, None)
        if more or fewer:
            self.send(
                words.ROUTES,
                resource_names_subscribe=sorted(more),
                resource_names_unsubscribe=sorted(fewer),
            )

    def settle(self, *, refuse: str = "") -> None:
        for _ in range(100):
            responses = self.take()
            for response in responses:
                self.answer(response, refuse=refuse)
            if not responses:
                if self.ask_again is None:
                    return
                self.now = self.ask_again
        raise AssertionError("never quiet")

    def sent(self, kind: str) -> list[str]:
        return [name for logged, names in self.log if logged == kind for name in names]


def pod(uid: str, ip: str) -> PodEndpointChanged:
    return PodEndpointChanged(uid, ip, service=SERVICE)


def route(model: str, sequence: int, *pods: str) -> RouteChanged:
    return RouteChanged(SERVICE, model, sequence, frozenset(pods))


def scopes_of_models(envoy: FakeEnvoy) -> list[str]:
    return [name for name in envoy.sent("ScopedRouteConfiguration") if not name.startswith("~")]


def test_first_sync_goes_clusters_anchors_routes_models_gate() -> None:
    tables = GatewayTables()
    tables.apply([pod("a", "10.0.0.1"), route("m1", 1, "a"), route("m2", 2, "a")])
    envoy = FakeEnvoy(tables)
    assert envoy.stream.acknowledged == -1
    envoy.settle()
    kinds = [kind for kind, _ in envoy.log]
    assert kinds == [
        "Cluster",
        "ScopedRouteConfiguration",  # anchors
        "RouteConfiguration",
        "ScopedRouteConfiguration",  # models
        "RouteConfiguration",  # gate
    ]
    assert envoy.log[-1] == ("RouteConfiguration", ["gate"])
    assert all(name.startswith("~") for name in envoy.log[1][1])
    assert len(envoy.log[3][1]) == 2
    assert envoy.stream.acknowledged == 2


def test_a_scope_waits_for_its_routes_and_holds_the_acknowledgement() -> None:
    tables = GatewayTables()
    envoy = FakeEnvoy(tables)
    envoy.settle()
    envoy.apply(pod("a", "10.0.0.1"), route("m1", 1, "a"))
    (clusters, anchor) = envoy.take()
    assert [r.name[0] for r in anchor.resources] == ["~"]
    envoy.answer(clusters)
    envoy.answer(anchor)
    envoy.now += 10
    (routes,) = envoy.take()
    assert envoy.take() == []
    assert envoy.stream.acknowledged == 0
    envoy.answer(routes)
    (scope,) = envoy.take()
    assert envoy.stream.acknowledged == 0
    envoy.answer(scope)
    assert envoy.stream.acknowledged == 1


def test_a_change_while_one_is_under_way_is_not_acknowledged_with_it() -> None:
    tables = GatewayTables()
    tables.apply([pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), route("m1", 1, "a")])
    envoy = FakeEnvoy(tables)
    envoy.settle()
    envoy.now += 10
    envoy.apply(route("m1", 2, "b"))
    (first,) = envoy.take()
    envoy.apply(route("m1", 3, "a"), route("m1", 4, "b"))
    assert envoy.take() == []  # one at a time
    envoy.answer(first)
    assert envoy.stream.acknowledged == 2
    envoy.settle()
    assert envoy.stream.acknowledged == 4


def test_a_burst_is_collected() -> None:
    tables = GatewayTables()
    tables.apply([pod("a", "10.0.0.1")])
    envoy = FakeEnvoy(tables)
    envoy.settle()
    envoy.now += 10
    envoy.apply(route("m1", 1, "a"))
    (single,) = envoy.take()  # at once
    envoy.now += 0.05
    envoy.answer(single)
    envoy.apply(*(route(f"m{number}", number, "a") for number in range(2, 50)))
    assert envoy.take() == []
    assert envoy.ask_again is not None
    assert abs(envoy.ask_again - (envoy.now + 0.2)) < 0.001  # four times what the last took
    envoy.now = envoy.ask_again
    (burst,) = envoy.take()
    assert len(burst.resources) == 48


def test_who_comes_back_gets_the_differences_only() -> None:
    tables = GatewayTables()
    tables.apply([pod("a", "10.0.0.1"), pod("b", "10.0.0.2")])
    tables.apply([route(f"m{number}", number, "a") for number in range(1, 20)])
    envoy = FakeEnvoy(tables)
    envoy.settle()
    envoy.log.clear()
    envoy.connect()
    envoy.settle()
    assert envoy.log == []
    assert envoy.stream.acknowledged == tables.sequence
    # Another operator's tables, still empty when Envoy comes, then the same but for two models.
    other = envoy.tables = GatewayTables()
    envoy.connect()
    envoy.apply(pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))
    envoy.apply(*(route(f"m{number}", number, "a") for number in range(2, 20)), route("m2", 21, "b"))
    assert envoy.stream.acknowledged == -1
    envoy.settle()
    assert [kind for kind, _ in envoy.log] == ["ScopedRouteConfiguration"]
    assert len(envoy.sent("ScopedRouteConfiguration")) == 1
    assert set(envoy.has[words.SCOPE]) == set(other.resources[words.SCOPE])


def test_one_refused_resource_does_not_keep_the_others() -> None:
    tables = GatewayTables()
    tables.apply([pod("a", "10.0.0.1")])
    envoy = FakeEnvoy(tables)
    envoy.settle()
    envoy.now += 10
    envoy.apply(*(route(f"m{number}", number, "a") for number in range(1, 12)))
    bad = next(c for c in tables.apply([route("m5", 12, "a")])).name
    envoy.settle(refuse=bad)
    missing = set(tables.resources[words.SCOPE]) - set(envoy.has[words.SCOPE])
    assert missing == {bad}
    assert envoy.stream.acknowledged == tables.sequence


@pytest.mark.parametrize("slow", [False, True])
def test_routes_that_come_back_wait_for_their_second_acknowledgement(slow: bool) -> None:
    """Envoy dropped them with their anchor; what it acknowledged before does not count."""
    tables = GatewayTables()
    tables.apply([pod("a", "10.0.0.1"), pod("b", "10.0.0.2")])
    tables.apply([route("m1", 1, "a", "b")])
    envoy = FakeEnvoy(tables)
    envoy.settle()
    envoy.apply(route("m1", 2, "a"))
    envoy.settle()
    envoy.slow_to_subscribe = slow
    envoy.stream.changed(tables.collect(2), envoy.now)  # the set {a, b} goes
    envoy.now += 10
    responses = envoy.take()
    assert any(response.type_url == words.SCOPE and response.removed_resources for response in responses)
    if not slow:
        envoy.apply(route("m1", 3, "a", "b"))  # and is back before Envoy answered
    for response in responses:
        envoy.answer(response)
    if slow:
        (dropped,) = envoy.subscribed - set(envoy.has[words.SCOPE].values())
        envoy.has[words.ROUTES].pop(dropped, None)
        envoy.subscribed.discard(dropped)
        envoy.apply(route("m1", 3, "a", "b"))  # and is back before Envoy said that it unsubscribed
        envoy.now += 10
        for response in envoy.take():
            assert response.type_url != words.ROUTES  # nobody asked for it yet: Envoy would throw it away
            envoy.answer(response)
        envoy.slow_to_subscribe = False
        envoy.subscribe()
    envoy.log.clear()
    envoy.settle()
    order = [
        kind
        for kind, names in envoy.log
        for name in names
        if kind == "RouteConfiguration" or (kind == "ScopedRouteConfiguration" and not name.startswith("~"))
    ]
    assert order == ["RouteConfiguration", "ScopedRouteConfiguration"]


def test_who_does_not_answer_is_called_stalled() -> None:
    tables = GatewayTables()
    tables.apply([pod("a", "10.0.0.1"), route("m1", 1, "a")])
    envoy = FakeEnvoy(tables)
    envoy.settle()
    envoy.now += 1000
    assert not envoy.stream.stalled(envoy.now)  # idle is not stalled
    envoy.apply(route("m1", 2))
    (response,) = envoy.take()
    envoy.now += STALLED_SECONDS - 1
    assert not envoy.stream.stalled(envoy.now)
    envoy.now += 2
    assert envoy.stream.stalled(envoy.now)
    envoy.answer(response)
    assert not envoy.stream.stalled(envoy.now)


def test_types_that_are_not_ours_get_no_answer() -> None:
    envoy = FakeEnvoy(GatewayTables())
    envoy.settle()
    envoy.send(words.TYPE + "envoy.extensions.transport_sockets.tls.v3.Secret", resource_names_subscribe=["x"])
    assert envoy.take() == []

"""Models of groups: each has a host of its own name, whichever group it is in."""

from envoy.config.route.v3 import scoped_route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from shoal_operator.gateway import vocabulary as words
from shoal_operator.gateway.tables import GatewayTables
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged, ServiceRouteChanged, Unavailable
from shoal_operator.state.world.values import ServiceKey, is_group

GROUP, OTHER = ServiceKey("ns", "runtime.mlserver"), ServiceKey("ns", "runtime.triton")
ELSEWHERE = ServiceKey("elsewhere", "runtime.mlserver")


def tables() -> GatewayTables:
    made = GatewayTables()
    made.apply(
        [
            PodEndpointChanged("a", "10.0.0.1", service=GROUP),
            PodEndpointChanged("b", "10.0.0.2", service=OTHER),
            ServiceRouteChanged(GROUP, True, 1, frozenset("a")),
            ServiceRouteChanged(OTHER, True, 2, frozenset("b")),
        ]
    )
    return made


def scopes(made: GatewayTables) -> dict[tuple[str, ...], str]:
    """Keys of scopes that a request can have, and the route configuration that each leads to."""
    found = {}
    for resource in made.resources[words.SCOPE].values():
        (each,) = discovery_pb2.DeltaDiscoveryResponse.FromString(resource.payload).resources
        scope = scoped_route_pb2.ScopedRouteConfiguration.FromString(each.resource.value)
        key = tuple(fragment.string_key for fragment in scope.key.fragments)
        if not key[0].startswith((" ", "runtime.")):
            found[key] = scope.route_configuration_name
    return found


def test_a_model_is_asked_for_at_its_own_host() -> None:
    made = tables()
    made.apply([RouteChanged(GROUP, "m", 3, frozenset("a"))])
    found = scopes(made)
    assert found["m", "ns", "m"].startswith("pods-")
    assert found["m", "ns", words.SERVICE_FRAGMENT] == words.MODEL_HOST
    assert found["m", "ns", words.MESSAGE_FRAGMENT] == words.MESSAGE_ROUTES
    made.apply([RouteChanged(GROUP, "m", 4)])
    assert not [key for key in scopes(made) if key[0] == "m"]


def test_its_change_is_one_scope() -> None:
    made = tables()
    made.apply([RouteChanged(GROUP, "m", 3, unavailable=Unavailable.COLD)])
    changes = made.apply([RouteChanged(GROUP, "m", 4, frozenset("a"))])
    assert [change.type_url for change in changes] == [words.SCOPE]


def test_models_of_a_group_share_route_configurations() -> None:
    made = tables()
    made.apply([RouteChanged(GROUP, f"m{number}", number + 3, frozenset("a")) for number in range(50)])
    found = scopes(made)
    assert len({found[f"m{number}", "ns", f"m{number}"] for number in range(50)}) == 1


def test_a_model_that_moves_is_where_it_answers() -> None:
    made = tables()
    made.apply([RouteChanged(GROUP, "m", 3, frozenset("a"))])
    before = scopes(made)["m", "ns", "m"]
    made.apply([RouteChanged(OTHER, "m", 4, unavailable=Unavailable.COLD)])
    assert scopes(made)["m", "ns", "m"] == before, "the former one serves until the new one does"
    made.apply([RouteChanged(OTHER, "m", 5, frozenset("b"))])
    after = scopes(made)["m", "ns", "m"]
    assert after != before
    made.apply([RouteChanged(GROUP, "m", 6)])
    assert scopes(made)["m", "ns", "m"] == after


def test_modelmeshs_host_is_there_while_a_namespace_has_groups() -> None:
    made = tables()
    host = (words.MODELMESH_HOST, "ns", words.MESSAGE_FRAGMENT)
    assert scopes(made)[host] == words.MESSAGE_ROUTES
    made.apply([ServiceRouteChanged(GROUP, False, 5)])
    assert host in scopes(made)
    made.apply([ServiceRouteChanged(ELSEWHERE, True, 6)])
    made.apply([ServiceRouteChanged(OTHER, False, 7)])
    assert host not in scopes(made)
    assert (words.MODELMESH_HOST, "elsewhere", words.MESSAGE_FRAGMENT) in scopes(made)


def test_an_inference_service_of_that_name_keeps_its_host() -> None:
    made = GatewayTables()
    own = ServiceKey("ns", words.MODELMESH_HOST)
    made.apply([ServiceRouteChanged(own, True, 1)])
    before = scopes(made)
    made.apply([ServiceRouteChanged(GROUP, True, 2)])
    assert {key: leads_to for key, leads_to in scopes(made).items() if key[0] == words.MODELMESH_HOST} == before


def test_no_inference_service_is_called_as_a_group() -> None:
    assert is_group(GROUP.name)
    assert not is_group("runtime-mlserver")

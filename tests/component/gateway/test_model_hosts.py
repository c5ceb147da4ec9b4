"""Models of a group at hosts of their own, and at ModelMesh's, by a real Envoy."""

import aiohttp
import pytest
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import ServiceKey

from .test_grpc_routes import an_input, client
from .world import Envoy, World

pytestmark = pytest.mark.component

GROUP = ServiceKey("tenant", "runtime.mlserver-1.x")


async def ask(envoy: Envoy, host: str, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.post(envoy.base + path, json={}, headers={"Host": host}) as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("m1.tenant", "/v2/models/m1/infer"),
        ("m1.tenant.svc.cluster.local:8008", "/v1/models/m1:predict"),
        ("modelmesh-serving.tenant:8008", "/v2/models/m1/infer"),
        ("modelmesh-serving.tenant.svc", "/v2/models/m1/infer"),
        ("any.host", "/tenant/m1/v2/models/m1/infer"),
        ("any.host", "/tenant/modelmesh-serving/v2/models/m1/infer"),
    ],
)
async def test_rest(world: World, envoy: Envoy, host: str, path: str) -> None:
    pod = await world.pod("a")
    world.service(pod, service=GROUP)
    await world.applied(world.route("m1", pod, service=GROUP))
    status, text = await ask(envoy, host, path)
    assert status == 200, text
    assert len(pod.requests) == 1


@pytest.mark.parametrize("host", ["m1.tenant", "modelmesh-serving.tenant:8033", "MODELMESH-serving.tenant.svc"])
@pytest.mark.parametrize("headers", [None, {"mm-model-id": "m1"}, {"mm-vmodel-id": "m1"}])
async def test_grpc(world: World, envoy: Envoy, host: str, headers: dict[str, str] | None) -> None:
    pod = await world.pod("a")
    world.service(pod, service=GROUP)
    await world.applied(world.route("m1", pod, service=GROUP))
    async with client(envoy, host) as server:
        result = await server.infer("m1", [an_input()], headers=headers)
    assert result.get_response().model_version == "a"


@pytest.mark.parametrize("host", ["m1.tenant", "modelmesh-serving.tenant"])
async def test_a_cold_one_is_held_and_loaded(world: World, envoy: Envoy, host: str) -> None:
    pod = await world.pod("a")
    world.homes[ServiceKey("tenant", "m1"), "m1"] = GROUP
    world.service(pod, service=GROUP)
    await world.applied(world.route("m1", unavailable=Unavailable.COLD, service=GROUP))
    world.on_asked = lambda model: world.route(model, pod, service=GROUP) and None
    status, text = await ask(envoy, host, "/v2/models/m1/infer")
    assert status == 200, text
    assert world.asked[0] == "m1"


async def test_what_is_not_there(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod, service=GROUP)
    await world.applied(world.route("m1", pod, service=GROUP))
    for host in ("m1.tenant", "modelmesh-serving.tenant", "modelmesh-serving.nowhere", GROUP.name + ".tenant"):
        status, text = await ask(envoy, host, "/v2/models/m2/infer")
        assert status == 404, (host, text)
    assert pod.requests == []

"""Names that no model has, of an InferenceService that takes any: held until it is known whether there is one."""

import asyncio
from collections.abc import Callable

import aiohttp
import grpc
import pytest
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import RoutePolicy
from tritonclient.utils import InferenceServerException

from .pods import Pod
from .test_grpc_routes import HEADER, an_input, client
from .world import Envoy, World

pytestmark = pytest.mark.component

ANY = RoutePolicy(any_name=True)
INFER = "/v2/models/m1/infer"


async def opened(world: World, *there: str) -> Pod:
    """An InferenceService that takes any name, of which these are there once they are asked for."""
    pod = await world.pod("a")
    await world.applied(world.service(pod, policy=ANY))
    for name in ("m1", "m2", "made-up"):
        world.state_says(name, unavailable=Unavailable.COLD)
    world.on_asked = told(world, pod, there)
    return pod


def told(world: World, pod: Pod, there: tuple[str, ...]) -> Callable[[str], None]:
    def asked(name: str) -> None:
        world.on_asked = asked
        pods = (pod,) if name in there else ()
        asyncio.get_running_loop().call_later(0.1, lambda: world.route(name, *pods))

    return asked


@pytest.mark.parametrize("path", [INFER, "/v1/models/m1:predict", "/v2/models/m1/versions/1/infer", INFER + "/"])
async def test_what_is_there_answers(world: World, http: aiohttp.ClientSession, path: str) -> None:
    await opened(world, "m1")
    async with http.post(path, data=b"x" * 10) as response:
        assert response.status == 200, await response.text()
        assert (await response.json())["pod"] == "a"
    assert world.asked == ["m1"]
    async with http.post(path, data=b"x") as response:  # by a scope of its own now
        assert response.status == 200


async def test_what_is_not_there_is_unknown(world: World, http: aiohttp.ClientSession) -> None:
    await opened(world, "m1")
    async with http.post("/v2/models/made-up/infer", data=b"x") as response:
        assert response.status == 404
        assert (await response.json())["reason"] == "ModelNotFound"
    assert world.asked == ["made-up"]


@pytest.mark.parametrize("headers", [None, HEADER], ids=["from-message", "from-header"])
async def test_calls_likewise(world: World, envoy: Envoy, headers: dict[str, str] | None) -> None:
    await opened(world, "m1")
    async with client(envoy, "iris.default.example.com") as server:
        result = await server.infer("m1", [an_input()], headers=headers)
        assert result.get_response().model_name == "m1"
        with pytest.raises(InferenceServerException) as refused:
            await server.infer("made-up", [an_input()], headers={"mm-model-id": "made-up"} if headers else None)
        assert refused.value.status() == str(grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/m1/ready", 404),
        ("GET", "/v2/models/m1", 404),
        ("HEAD", INFER, 404),
        ("OPTIONS", INFER, 404),
        ("GET", INFER, 404),
        ("POST", "/v2/models/No_Name/infer", 404),
        ("POST", f"/v2/models/{'x' * 254}/infer", 404),
        ("POST", "/v2/repository/models/m1/load", 404),
        ("POST", "/metrics", 404),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2", 200),
    ],
)
async def test_nothing_else_has_a_name_looked_up(
    world: World, http: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    await opened(world, "m1")
    async with http.request(method, path) as response:
        assert response.status == status, await response.text()
    assert world.asked == []


async def test_others_take_no_name(world: World, http: aiohttp.ClientSession) -> None:
    await opened(world, "m1")
    await world.applied(world.service(world.pods[0]))
    async with http.post(INFER, data=b"x") as response:
        assert response.status == 404
    assert world.asked == []


async def test_without_pods_it_is_held_as_well(world: World, http: aiohttp.ClientSession) -> None:
    pod = await opened(world, "m1")
    await world.applied(world.service(policy=ANY))
    async with http.post(INFER, data=b"x") as response:
        assert response.status == 200, await response.text()
    assert pod.requests

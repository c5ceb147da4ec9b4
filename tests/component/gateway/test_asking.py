"""Questions about a model are answered from what is known: they load nothing, whoever asks in whatever way."""

import json

import aiohttp
import grpc
import httpx
import pytest
import tritonclient.http.aio as triton_http
from shoal_operator.state.world.effects import Unavailable
from tritonclient.utils import InferenceServerException

from .test_cold_rest import HOST
from .test_grpc_routes import HEADER, an_input, client
from .world import SERVICE as WORLD
from .world import Envoy, World

pytestmark = pytest.mark.component

SERVICE = "inference.GRPCInferenceService"


@pytest.mark.parametrize(
    "asked",
    [
        ("GET", "/v2/models/m1/ready", 200, {"name": "m1", "ready": True}),
        ("GET", "/v2/models/m1/versions/1/ready?verbose=1", 200, {"name": "m1", "ready": True}),
        ("GET", "/v2/models/m1/ready/", 200, {"name": "m1", "ready": True}),
        ("GET", "/v1/models/m1", 200, {"name": "m1", "ready": True}),
        ("GET", "/default/iris/v1/models/m1", 200, {"name": "m1", "ready": True}),
        ("HEAD", "/v2/models/m1/ready", 200, None),
        ("HEAD", "/v2/models/m1", 200, None),
        ("HEAD", "/v1/models/m1", 200, None),
        ("HEAD", "/v2/models/m1/infer", 200, None),
        ("OPTIONS", "/v2/models/m1/infer", 200, None),
        ("OPTIONS", "/v1/models/m1:predict", 200, None),
        ("GET", "/v2/models/m1", 503, "ModelMetadataUnknown"),
        ("GET", "/v2/models/m1/versions/1", 503, "ModelMetadataUnknown"),
        ("GET", "/v2/models/m1/infer", 405, "MethodNotAllowed"),
        ("DELETE", "/v2/models/m1", 405, "MethodNotAllowed"),
        ("PUT", "/v1/models/m1:predict", 405, "MethodNotAllowed"),
        ("POST", "/v2/models/m1", 405, "MethodNotAllowed"),
    ],
)
async def test_asking_about_a_cold_model_over_rest(
    world: World, http: aiohttp.ClientSession, asked: tuple[str, str, int, object]
) -> None:
    method, path, status, body = asked
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", unavailable=Unavailable.COLD))
    async with http.request(method, path) as response:
        assert response.status == status
        if isinstance(body, str):
            said = await response.json()
            assert said["reason"] == body
            assert "Retry-After" not in response.headers  # asking again would say the same
        elif body is not None:
            assert await response.json() == body
            assert response.content_type == "application/json"
        else:
            assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
        assert not any(name.lower().startswith("x-") for name in response.headers)
    assert (world.asked, pod.requests) == ([], [])


@pytest.mark.parametrize("headers", [None, HEADER], ids=["from-message", "from-header"])
async def test_asking_about_a_cold_model_over_grpc(world: World, envoy: Envoy, headers: dict[str, str] | None) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", unavailable=Unavailable.COLD))
    async with client(envoy) as server:
        assert await server.is_server_ready(headers=headers)
        assert (await server.get_server_metadata(headers=headers)).name == "a"
        for _ in range(3):
            assert await server.is_model_ready("m1", headers=headers)
        with pytest.raises(InferenceServerException, match="ModelMetadataUnknown: ") as caught:
            await server.get_model_metadata("m1", headers=headers)
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert world.asked == []


@pytest.mark.parametrize("header", ["mm-model-id", "mm-vmodel-id"])
async def test_a_cold_models_message_and_metadata_agree(world: World, envoy: Envoy, header: str) -> None:
    """As the pod's own server sees to once it is loaded."""
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", unavailable=Unavailable.COLD))
    options = [("grpc.default_authority", HOST)]
    async with grpc.aio.insecure_channel(envoy.address, options=options) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/ModelReady")
        for message in (b"", b"\x0a\x02m1"):
            assert await call(message, metadata=((header, "m1"),), timeout=10) == b"\x08\x01"
        with pytest.raises(grpc.aio.AioRpcError, match=r"NamesDisagree: .*\(m1\)") as caught:
            await call(b"\x0a\x02m2", metadata=((header, "m1"),), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (world.asked, pod.requests) == ([], [])


SAID = {
    "name": "m1",
    "versions": [],
    "platform": "sklearn",
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 300]}],
    "outputs": [{"name": "predict", "datatype": "INT64", "shape": [-1, 1], "parameters": {"content_type": "np"}}],
}


@pytest.mark.parametrize("stale", [False, True])
async def test_a_cold_models_metadata_is_what_its_server_said_when_it_was_loaded(
    world: World, envoy: Envoy, http: aiohttp.ClientSession, stale: bool
) -> None:
    """Also where Envoy has not heard that it was evicted."""
    pod = await world.pod("a")
    pod.lacks.add("m1")
    world.service(pod)
    world.metadata[WORLD, "m1"] = json.dumps(SAID)
    await world.applied(world.route("m1", *((pod,) if stale else ()), unavailable=None if stale else Unavailable.COLD))
    world.state_says("m1", unavailable=Unavailable.COLD)
    for path in ("/v2/models/m1", "/v2/models/m1/versions/1", "/default/iris/v2/models/m1?x=y"):
        async with http.get(path) as response:
            assert (response.status, response.content_type) == (200, "application/json")
            assert await response.json() == SAID
    if not stale:
        async with client(envoy) as server:
            for headers in (HEADER, None, {"x-shoal-told": "true"}):
                said = await server.get_model_metadata("m1", headers=headers)
                assert (said.name, said.platform) == ("m1", "sklearn")
                assert [(each.name, each.datatype, list(each.shape)) for each in said.inputs] == [
                    ("x", "FP64", [-1, 300])
                ]
                assert [each.name for each in said.outputs] == ["predict"]
    assert world.asked == []
    world.state_says("m1", unavailable=Unavailable.LOAD_FAILED)
    async with http.get("/v2/models/m1") as response:
        assert (response.status, (await response.json())["reason"]) == (503, "LoadFailed")


async def test_no_client_says_that_there_is_an_answer(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.loads("m1", pod)
    await world.cold("m1")
    async with client(envoy) as server:
        told = {**HEADER, "x-shoal-told": "true"}
        assert (await server.infer("m1", [an_input()], headers=told)).get_response().model_version == "a"


async def test_nobody_of_ours_is_asked(world: World, envoy: Envoy, http: aiohttp.ClientSession) -> None:
    """Whoever asks about ten thousand models a second costs Envoy's time, not the operator's; nor does he need it."""
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", unavailable=Unavailable.COLD))
    await world.control_plane_gone()
    async with http.get("/v2/models/m1/ready") as response:
        assert (response.status, await response.json()) == (200, {"name": "m1", "ready": True})
    async with client(envoy) as server:
        assert await server.is_model_ready("m1")
    assert world.metric("shoal_cold_requests_total") == 0


@pytest.mark.parametrize("path", ["/v2/models/m1/ready", "/v1/models/m1"])
async def test_asking_about_a_model_whose_route_is_stale_loads_nothing(
    world: World, http: aiohttp.ClientSession, path: str
) -> None:
    """It was evicted, or its pod has died, and Envoy has not heard of it: the question comes to the activator."""
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    pod.lacks.add("m1")
    world.state_says("m1", unavailable=Unavailable.COLD)
    async with http.get(path) as response:
        assert (response.status, await response.json()) == (200, {"name": "m1", "ready": True})
    world.state_says("m1", unavailable=Unavailable.LOAD_FAILED)
    async with http.get(path) as response:
        assert (response.status, (await response.json())["reason"]) == (503, "LoadFailed")
    assert world.asked == []


async def test_asking_about_a_loaded_model_is_its_pods_to_answer(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    for path in ("/v2/models/m1/ready", "/v1/models/m1", "/v2/models/m1"):
        async with http.get(path) as response:
            assert (await response.json())["path"] == path


@pytest.mark.parametrize("reason", [Unavailable.LOAD_FAILED, Unavailable.NO_MEMORY])
async def test_a_model_that_would_not_answer_is_not_ready(
    world: World, http: aiohttp.ClientSession, envoy: Envoy, reason: Unavailable
) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", unavailable=reason))
    for path in ("/v2/models/m1/ready", "/v1/models/m1", "/v2/models/m1"):
        async with http.get(path) as response:
            assert (response.status, (await response.json())["reason"]) == (503, reason.value)
    async with client(envoy) as server:
        with pytest.raises(InferenceServerException, match=reason.value):
            await server.is_model_ready("m1")


async def test_unmodified_clients_see_a_cold_model_as_ready(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", unavailable=Unavailable.COLD))
    async with triton_http.InferenceServerClient(f"{envoy.address}/default/iris") as server:
        assert await server.is_server_live()
        assert await server.is_model_ready("m1")
        with pytest.raises(InferenceServerException, match="not loaded now"):
            await server.get_model_metadata("m1")
    async with httpx.AsyncClient(base_url=envoy.base, headers={"Host": HOST}) as session:
        assert (await session.get("/v1/models/m1")).json() == {"name": "m1", "ready": True}
    assert world.asked == []

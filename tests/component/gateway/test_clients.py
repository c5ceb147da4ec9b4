"""What clients, libraries and load balancers send beside plain requests, each answered or refused in words."""

import asyncio
from typing import Any

import aiohttp
import grpc
import httpx
import pytest
from shoal_operator.state.world.effects import Unavailable
from tritonclient.grpc import service_pb2 as messages

from .test_cold_rest import HOST, INFER
from .world import Envoy, World

pytestmark = pytest.mark.component

SERVICE = "inference.GRPCInferenceService"
SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse(status=SERVING)
NAMED = messages.ModelInferRequest(model_name="m1", raw_input_contents=[b"x" * 5000]).SerializeToString()


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/v2/", "/v2"),
        ("/v2/health/live/", "/v2/health/live"),
        ("/v2/models/m1/", "/v2/models/m1"),
        ("/v2/models/m1/infer/", "/v2/models/m1/infer"),
        ("/v2/models/m1/infer/?a=b/", "/v2/models/m1/infer?a=b/"),
        ("/v1/models/m1:predict/", "/v1/models/m1:predict"),
        ("/default/iris/v2/", "/v2"),
        ("/default/iris/v2/models/m1/infer/", "/v2/models/m1/infer"),
    ],
)
async def test_a_slash_at_the_end_makes_no_difference(
    world: World, http: aiohttp.ClientSession, path: str, seen: str
) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    async with http.get(path) as response:
        assert (response.status, (await response.json())["path"]) == (200, seen)


async def test_liveness_by_host(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    await world.applied(world.service(pod))
    async with httpx.AsyncClient(base_url=envoy.base, headers={"Host": HOST}) as session:
        assert (await session.get("/")).json() == {"status": "alive"}
        assert (await session.head("/")).status_code == 200
        await world.applied(world.service())
        refused = await session.get("/")
        assert (refused.status_code, refused.json()["reason"]) == (503, "InferenceServiceNotReady")
        unknown = await session.get("/", headers={"Host": "who.default"})
        assert (unknown.status_code, unknown.json()["reason"]) == (404, "InferenceServiceNotFound")
    assert pod.requests == []


async def test_a_load_balancer_asks_the_gateway_itself(world: World, envoy: Envoy) -> None:
    """At any host, with no InferenceService there, and without the operator."""
    await world.control_plane_gone()
    async with httpx.AsyncClient(base_url=envoy.base) as session:
        for host in (HOST, "10.0.0.1", "who.knows:8080"):
            assert (await session.get("/healthz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "/default/iris/v1/models", "/v1/models?x=y"])
async def test_models_are_listed_as_kserves_v1_does(world: World, http: aiohttp.ClientSession, path: str) -> None:
    """By the operator, so that the list is the whole InferenceService's, and nothing is loaded for it."""
    pod = await world.pod("a")
    world.service(pod)
    world.route("m2", unavailable=Unavailable.COLD)
    await world.applied(world.route("m1", pod))
    async with http.get(path) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert await response.json() == {"models": ["m1", "m2"]}
    async with http.head(path) as response:
        assert response.status == 200
    assert (world.asked, pod.requests) == ([], [])


async def test_a_list_is_there_without_pods_and_not_without_the_operator(
    world: World, http: aiohttp.ClientSession
) -> None:
    await world.applied(world.service())
    async with http.get("/v1/models") as response:
        assert (response.status, await response.json()) == (200, {"models": []})
    await world.control_plane_gone()
    async with http.get("/v1/models") as response:
        assert (response.status, (await response.json())["reason"]) == (503, "ActivatorUnavailable")


async def test_lists_without_end_use_up_nothing_of_what_loads_models(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    world.loads("m1", pod)
    await world.cold("m1")
    refused = 0
    for _ in range(20):
        answers = await asyncio.gather(*(http.get("/v1/models") for _ in range(250)))
        refused += sum(answer.status == 503 for answer in answers)
        for answer in answers:
            await answer.read()
    assert refused
    assert world.listed <= 20, "made once a second, however many ask"
    async with http.post("/v2/models/m1/infer", json={}) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ["/v2/models", "/v2/models/", "/default/iris/v2/models"])
async def test_other_protocols_have_no_list(world: World, http: aiohttp.ClientSession, path: str) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    async with http.get(path) as response:
        body = await response.json()
        assert (response.status, body["reason"]) == (404, "ModelsNotListed")
        assert "kubectl get trainedmodels" in body["error"]
    assert pod.requests == []


async def _call(envoy: Envoy, method: str, body: bytes, *metadata: tuple[str, Any], **more: Any) -> bytes:
    options = [("grpc.default_authority", HOST)]
    async with grpc.aio.insecure_channel(envoy.address, options=options) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/" + method)
        return await call(body, metadata=metadata, timeout=10, **more)


@pytest.mark.parametrize(
    "metadata",
    [
        (("mm-model-id", "m1"),),
        (("mm-vmodel-id", "m1"),),
        (("mm-model-id-bin", b"m1"),),
        (("mm-vmodel-id-bin", b"m1"),),
        (("mm-vmodel-id", "m2"), ("mm-model-id", "m1")),
        (("mm-vmodel-id-bin", b"m2"), ("mm-model-id", "m1")),
    ],
)
@pytest.mark.parametrize("cold", [False, True])
async def test_modelmeshs_metadata(
    world: World, envoy: Envoy, metadata: tuple[tuple[str, Any], ...], cold: bool
) -> None:
    """Its clients leave the message's own name empty. The pod is told the name in one way, and compares."""
    a, b = await world.pod("a"), await world.pod("b")
    world.service(b)
    world.route("m2", b)
    if cold:
        world.loads("m1", a)
        await world.applied(world.route("m1", unavailable=Unavailable.COLD))
    else:
        await world.applied(world.route("m1", a))
    answer = await _call(envoy, SERVICE + "/ModelInfer", b"", *metadata)
    assert messages.ModelInferResponse.FromString(answer).model_version == "a"
    assert a.headers["mm-model-id"] == "m1"
    assert b.requests == []


@pytest.mark.parametrize("name", [b"nobody", b"m1/x", b"m1\r\nx: y", b"\xff\xfe", b"", b"m" * 5000])
async def test_a_binary_name_that_is_no_models(world: World, envoy: Envoy, name: bytes) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    with pytest.raises(grpc.aio.AioRpcError, match="ModelNotFound: ") as caught:
        await _call(envoy, SERVICE + "/ModelInfer", b"", ("mm-model-id-bin", name))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert pod.requests == []


async def test_a_compressed_message_without_the_metadata(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    gzip = {"compression": grpc.Compression.Gzip}
    with pytest.raises(grpc.aio.AioRpcError, match=r"CompressedMessage: .*send .* mm-model-id") as caught:
        await _call(envoy, SERVICE + "/ModelInfer", NAMED, **gzip)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert pod.requests == []
    # A client that offers compression and does not use it, as gRPC's do where it would not help.
    assert await _call(envoy, SERVICE + "/ModelInfer", b"\x0a\x02m1", **gzip)
    assert await _call(envoy, SERVICE + "/ModelInfer", NAMED, ("mm-model-id", "m1"), **gzip)


@pytest.mark.parametrize("metadata", [(), (("mm-model-id", "m1"),)])
@pytest.mark.parametrize(
    "method",
    [
        SERVICE + "/RepositoryIndex",
        SERVICE + "/ModelStatistics",
        SERVICE + "/ModelConfig",
        SERVICE + "/NoSuchCall",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_a_call_that_is_not_there_is_unimplemented(
    world: World, envoy: Envoy, method: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    with pytest.raises(grpc.aio.AioRpcError, match="MethodNotFound: ") as caught:
        await _call(envoy, method, b"\x0a\x02m1", *metadata)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert pod.requests == []


async def test_grpcs_own_health_check(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.route("m1", pod)
    await world.applied(world.service(pod))
    for metadata in ((), (("mm-model-id", "m1"),)):
        assert await _call(envoy, "grpc.health.v1.Health/Check", b"", *metadata) == SERVING
    assert await _call(envoy, "grpc.health.v1.Health/Check", b"\x0a\x03abc") == SERVING
    await world.applied(world.service())
    with pytest.raises(grpc.aio.AioRpcError, match="InferenceServiceNotReady: ") as caught:
        await _call(envoy, "grpc.health.v1.Health/Check", b"")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert pod.requests == []


@pytest.mark.parametrize("kind", ["application/grpc-web+proto", "application/grpc-web-text", "application/json"])
async def test_grpc_web_is_told_that_it_is_not_offered(world: World, http: aiohttp.ClientSession, kind: str) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    for headers in ({}, {"mm-model-id": "m1"}):
        headers |= {"Content-Type": kind}
        async with http.post(f"/{SERVICE}/ModelInfer", headers=headers, data=b"\0\0\0\0\4\x0a\x02m1") as response:
            body = await response.json()
            assert (response.status, body["reason"]) == (415, "GrpcWebNotOffered")
            assert kind in body["error"]
    assert pod.requests == []


@pytest.mark.parametrize("by", ["host", "path", "another form of the host"])
async def test_a_websocket_is_told_that_it_is_not_offered(world: World, envoy: Envoy, by: str) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    host = {"path": "any.host", "host": HOST}.get(by, "IRIS-predictor.Default")
    prefix = "/default/iris" if by == "path" else ""
    async with aiohttp.ClientSession(base_url=envoy.base, headers={"Host": host}) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(f"{prefix}/v2/models/m1/infer")
        assert caught.value.status == 501
    reader, writer = await asyncio.open_connection(envoy.options.host, envoy.options.port)
    writer.write(
        f"GET {prefix}{INFER} HTTP/1.1\r\nHost: {host}\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    said = (await reader.readuntil(b"}")).decode()
    writer.close()
    assert "501 " in said.splitlines()[0]
    assert '"reason":"WebSocketNotOffered"' in said
    assert pod.requests == []

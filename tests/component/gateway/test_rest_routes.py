"""REST: every shape of request that reaches a model or an InferenceService, and those that must not reach a pod."""

import asyncio

import aiohttp
import pytest
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import ServiceKey

from .world import Envoy, World

pytestmark = pytest.mark.component

HOST = "iris.default.example.com"


@pytest.mark.parametrize(
    "request_and_seen",
    [
        ("POST", HOST, "/v2/models/m1/infer", "/v2/models/m1/infer"),
        ("POST", "iris.default", "/v2/models/m1/infer", "/v2/models/m1/infer"),
        ("POST", HOST + ":80", "/v2/models/m1/infer", "/v2/models/m1/infer"),
        ("POST", HOST, "/v2/models/m1/versions/1/infer", "/v2/models/m1/versions/1/infer"),
        ("GET", HOST, "/v2/models/m1", "/v2/models/m1"),
        ("GET", HOST, "/v2/models/m1?verbose=1", "/v2/models/m1?verbose=1"),
        ("GET", HOST, "/v2/models/m1/ready", "/v2/models/m1/ready"),
        ("GET", HOST, "/v2/models/m1/versions/1/ready", "/v2/models/m1/versions/1/ready"),
        ("POST", HOST, "/v2/models/m1/infer?x=y", "/v2/models/m1/infer?x=y"),
        ("POST", HOST, "/v1/models/m1:predict", "/v1/models/m1:predict"),
        ("POST", HOST, "/v1/models/m1:explain", "/v1/models/m1:explain"),
        ("GET", HOST, "/v1/models/m1", "/v1/models/m1"),
        ("POST", "IRIS.Default.example.com", "/v2/models/m1/infer", "/v2/models/m1/infer"),
        ("POST", "iris-predictor.default", "/v2/models/m1/infer", "/v2/models/m1/infer"),
        ("POST", "iris-predictor.default.svc:8080", "/v1/models/m1:predict", "/v1/models/m1:predict"),
        ("POST", "localhost", "/default/iris/v2/models/m1/infer", "/v2/models/m1/infer"),
        ("POST", "127.0.0.1:8080", "/default/iris/v2/models/m1/infer", "/v2/models/m1/infer"),
        ("POST", "other.place", "/default/iris/v1/models/m1:predict", "/v1/models/m1:predict"),
        ("GET", "localhost", "/default/iris/v2/models/m1?a=b", "/v2/models/m1?a=b"),
    ],
)
async def test_a_model_answers(
    world: World, http: aiohttp.ClientSession, request_and_seen: tuple[str, str, str, str]
) -> None:
    method, host, path, seen = request_and_seen
    a, b = await world.pod("a"), await world.pod("b")
    world.service(a)
    world.route("m2", a)
    await world.applied(world.route("m1", b))
    async with http.request(method, path, headers={"Host": host}, data=b"x" * 10) as response:
        assert response.status == 200, await response.text()
        assert await response.json() == {"pod": "b", "path": seen, "bytes": 10}


@pytest.mark.parametrize("name", ["live", "ready", "v1", "v2", "models", "infer", "0-1", "a" * 253, "index"])
async def test_a_model_may_have_an_awkward_name(world: World, http: aiohttp.ClientSession, name: str) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    world.service(a)
    await world.applied(world.route(name, b))
    for path, pod in [
        (f"/v2/models/{name}/infer", "b"),
        (f"/v1/models/{name}:predict", "b"),
        (f"/default/iris/v2/models/{name}/infer", "b"),
        ("/v2/health/live", "a"),
        ("/v2/health/ready", "a"),
        ("/v2", "a"),
        ("/default/iris/v2/health/ready", "a"),
    ]:
        async with http.request("POST" if pod == "b" else "GET", path) as response:
            assert (path, response.status) == (path, 200)
            assert (path, (await response.json())["pod"]) == (path, pod)


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/health/live", "/v2/health/ready"])
@pytest.mark.parametrize("prefix", ["", "/default/iris"])
async def test_an_inference_service_answers_for_itself(
    world: World, http: aiohttp.ClientSession, prefix: str, path: str
) -> None:
    pod = await world.pod("a")
    await world.applied(world.service(pod))
    async with http.get(prefix + path) as response:
        assert response.status == 200
        assert (await response.json())["path"] == path.rstrip("/")
    await world.applied(world.service())
    async with http.get(prefix + path) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert (await response.json())["reason"] == "InferenceServiceNotReady"


async def test_each_namespace_and_service_has_its_own_models(world: World, http: aiohttp.ClientSession) -> None:
    a, b, c = [await world.pod(name) for name in "abc"]
    for service, pod in [
        (ServiceKey("default", "iris"), a),
        (ServiceKey("other", "iris"), b),
        (ServiceKey("default", "wine"), c),
    ]:
        world.service(pod, service=service)
        sequence = world.route("m1", pod, service=service)
    await world.applied(sequence)
    for host, pod_name in [("iris.default", "a"), ("iris.other", "b"), ("wine.default", "c")]:
        async with http.post("/v2/models/m1/infer", headers={"Host": host}) as response:
            assert (await response.json())["pod"] == pod_name


@pytest.mark.parametrize("path", ["/v2/models/nobody/infer", "/v1/models/nobody:predict", "/v2/models/nobody?a=b"])
async def test_an_unknown_model_is_named(world: World, http: aiohttp.ClientSession, path: str) -> None:
    pod = await world.pod("a")
    await world.applied(world.service(pod))
    for prefix in ("", "/default/iris"):
        async with http.post(prefix + path, headers={"x-shoal-unknown": "spoofed"}) as response:
            body = await response.json()
            assert (response.status, body["reason"]) == (404, "ModelNotFound")
            assert body["error"].startswith("nobody: ")
            assert response.content_type == "application/json"
    assert pod.requests == []


async def test_an_unknown_inference_service_is_named(world: World, http: aiohttp.ClientSession) -> None:
    await world.applied(world.service())
    for host, path in [
        ("who.default.example.com", "/v2/models/m1/infer"),
        ("localhost", "/default/who/v2/models/m1/infer"),
        ("localhost", "/v2/health/live"),
    ]:
        async with http.get(path, headers={"Host": host}) as response:
            body = await response.json()
            assert (response.status, body["reason"]) == (404, "InferenceServiceNotFound")
            assert ("who.default" in body["error"]) == ("who" in host + path)


@pytest.mark.parametrize("reason", [reason for reason in Unavailable if reason is not Unavailable.COLD])
async def test_a_known_model_that_cannot_answer_says_why(
    world: World, http: aiohttp.ClientSession, reason: Unavailable
) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", unavailable=reason))
    for path in ("/v2/models/m1/infer", "/v1/models/m1:predict", "/v2/models/m1/ready"):
        async with http.post(path) as response:
            body = await response.json()
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
            assert body["reason"] == reason.value
            # What to do next: look, or apply what is not there.
            assert ("apply it" if reason is Unavailable.SERVICE_NOT_FOUND else "kubectl describe") in body["error"]
            assert response.content_type == "application/json"
    assert pod.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/index",
        "/v2/repository/models/m1/unload",
        "/v2/repository/models/m1/load",
        "/v2/models/m1/../../repository/index",
        "/v2/models/m1/%2e%2e/%2e%2e/repository/index",
        "/v2/models/m1/..%2f..%2frepository/index",
        "/v2/models/m1/infer/../../../repository/models/m1/unload",
        "/v2/models/m1/docs",
        "/v2/models/m1/docs/dataplane.json",
        "/v2/models/m1/trace/setting",
        "/v2/docs",
        "/docs",
        "/metrics",
        "/",
        "/models",
        "/default/iris/v2/repository/index",
        "/default/iris/metrics",
        "/v2/v2/repository/index",
        "/x/y/m1",
        "/v2/models/",
        "/v2/models",
    ],
)
async def test_management_is_not_reachable(world: World, envoy: Envoy, path: str) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    assert await _status(envoy, path) in (400, 404)
    assert pod.requests == []


async def test_paths_are_normalised_before_the_model_is_read(world: World, envoy: Envoy) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    world.route("m1", a)
    await world.applied(world.route("m2", b))
    for path in ("//v2//models/m1/infer", "/v2/models/m2/../m1/infer", "/v2/models/%2e/m1/infer"):
        assert await _status(envoy, path) == 200
    assert a.requests == ["POST /v2/models/m1/infer"] * 3
    assert b.requests == []


async def test_a_client_cannot_choose_the_scope(world: World, http: aiohttp.ClientSession) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    world.service(a)
    world.route("m1", a)
    await world.applied(world.route("m2", b))
    spoof = {
        "x-shoal-scope": "///m2",
        "mm-model-id": "m2",
        "x-envoy-original-path": "/v2/models/m2/infer",
        "x-envoy-retry-on": "5xx",
        "x-envoy-upstream-alt-stat-name": "x",
    }
    async with http.post("/v2/models/m1/infer", headers=spoof) as response:
        assert (await response.json())["pod"] == "a"
    # Envoy's own word about the client's address is all that is added.
    assert [name for name in a.headers if name.startswith(("x-shoal", "x-envoy"))] == ["x-envoy-external-address"]
    async with http.post("/v2/models/nobody/infer", headers=spoof) as response:
        assert response.status == 404


async def test_a_large_body_passes(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    async with http.post("/v2/models/m1/infer", data=b"x" * 60_000_000) as response:
        assert (await response.json())["bytes"] == 60_000_000


async def test_a_set_of_pods_shares_the_requests(world: World, http: aiohttp.ClientSession) -> None:
    a, b, c = [await world.pod(name) for name in "abc"]
    await world.applied(world.route("m1", a, b))
    for _ in range(60):
        async with http.post("/v2/models/m1/infer") as response:
            assert response.status == 200
    assert min(len(a.requests), len(b.requests)) > 10
    assert c.requests == []


async def _status(envoy: Envoy, path: str) -> int:
    """POST exactly this path: clients tidy paths up before they send them."""
    reader, writer = await asyncio.open_connection(envoy.options.host, envoy.options.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status

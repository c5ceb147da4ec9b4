"""Requests in every form that a client may send them: one answer that says what is wrong, and none at a pod for it."""

import asyncio
import itertools
import json
import struct

import pytest
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import RoutePolicy, ServiceKey

from .pods import Pod
from .raw_http2 import string_field
from .world import Envoy, World

pytestmark = pytest.mark.component

INFER = "/v2/models/m1/infer"
CALL = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
async def pods(world: World, envoy: Envoy) -> tuple[Pod, Pod]:
    """m1 is loaded on the first and cold is cold; other.tenant-b's model m2 is on the second."""
    a, b = await world.pod("a"), await world.pod("b")
    other = ServiceKey("tenant-b", "other")
    world.service(a)
    world.service(b, service=other)
    world.route("m1", a)
    world.route("m2", b, service=other)
    await world.applied(world.route("cold", unavailable=Unavailable.COLD))
    return a, b


async def send(envoy: Envoy, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Exactly these bytes; status, headers, and body of the answer, which has to be one."""
    reader, writer = await asyncio.open_connection(envoy.options.host, envoy.options.port)
    writer.write(request)
    try:
        async with asyncio.timeout(10):
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = b""
            if not request.startswith(b"HEAD"):
                body = await reader.readexactly(int(headers.get("content-length", "0")))
        return int(status.split()[1]), headers, body
    finally:
        writer.close()


def http(path: str, method: str = "POST", host: str = "iris.default", more: str = "", body: str = "{}") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return (head + body).encode("latin-1")


SAME_PATHS = [
    "/v2//models//m1//infer",
    "//default/iris/v2/models/m1/infer",
    "/default/iris//v2/models/m1/infer///?a=b",
    "/v2/models/nobody/../m1/infer",
    "/v2/models/nobody/%2e%2e/m1/infer",
    "/v2/models/%6d1/infer",
    "http://iris.default/v2/models/m1/infer",
    "/v2/models/m1/infer?x=/v2/models/cold/infer",
]
SAME_HOSTS = ["iris.default:80", "IRIS.Default:8080", "iris.default.", "iris.default.:80"]


async def test_another_form_of_a_path_or_host_is_the_same(world: World, envoy: Envoy, pods: tuple[Pod, Pod]) -> None:
    for request in [*map(http, SAME_PATHS), *(http(INFER, host=host) for host in SAME_HOSTS)]:
        pods[0].requests.clear()
        status, _, body = await send(envoy, request)
        assert status == 200, (request, body)
        assert [each.partition("?")[0] for each in pods[0].requests] == [f"POST {INFER}"]
    assert world.asked == pods[1].requests == []


MANAGEMENT = [
    "/v2/repository/index",
    "/v2/repository/models/m1/unload",
    "/v2/models/m1/versions/../../../repository/models/m1/unload",
    "/metrics",
    "/docs",
    "/shoal/v1/state",
    "/default/iris/v2/repository/index",
    "/default/iris/metrics",
    "/v2/models/m1/infer;a=b",
    "/v2/models/m1/Infer",
    "/V2/models/m1/infer",
    "/v1/models/m1:unload",
    "/v1/models/m1:predict:predict",
    "/default/iris/default/iris/v2/models/m1/infer",
]
STRANGE_HOSTS = [
    "iris",
    "",
    "[::1]:80",
    "iris..default",
    ".iris.default",
    "iris.default,other.tenant-b",
    "iris.default@other.tenant-b",
    "other.tenant-b@iris.default",
    "iris.default:80:80",
    "iris.default\r\nHost: other.tenant-b",
]
MALFORMED = {
    "escaped slash": http("/v2/models/m1%2Finfer"),
    "escaped backslash": http("/v2/models/m1/versions/1%5c..%5cinfer"),
    "NUL, escaped": http("/v2/models/m1%00/infer"),
    "NUL": http("/v2/models/m1\x00/infer"),
    "no ASCII": http("/v2/models/\xf6/infer"),
    "fragment": http(INFER + "#x"),
    "no path": http("*"),
    "no such method": http(INFER, "FOO"),
    "lower-case method": http(INFER, "post"),
    "no host": b"GET /v2 HTTP/1.1\r\n\r\n",
    "HTTP/1.0": b"GET /v2 HTTP/1.0\r\nHost: iris.default\r\n\r\n",
    "no HTTP": b"\x00\xff\r\n\r\n",
    "two lengths": http(INFER, more="Content-Length: 5\r\n"),
    "length and chunks": http(INFER, more="Transfer-Encoding: chunked\r\n"),
    "no such transfer coding": http(INFER, more="Transfer-Encoding: gzip\r\n"),
    "no chunk": f"POST {INFER} HTTP/1.1\r\nHost: iris.default\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
    "blank in a header's name": http(INFER, more="a b: c\r\n"),
    "control character": http(INFER, more="a: \x01\r\n"),
}


async def test_what_is_not_offered_reaches_no_pod(world: World, envoy: Envoy, pods: tuple[Pod, Pod]) -> None:
    for path, method in itertools.product(MANAGEMENT, ("GET", "POST")):
        status, _, body = await send(envoy, http(path, method, body=""))
        assert (status, json.loads(body)["reason"]) == (404, "PathNotFound"), (path, body)
    assert world.asked == pods[0].requests == pods[1].requests == []


async def test_a_host_that_is_none_is_nobodys(envoy: Envoy, pods: tuple[Pod, Pod]) -> None:
    for host, path in itertools.product(STRANGE_HOSTS, (INFER, "/v2/models/m2/infer", "/")):
        status, _, body = await send(envoy, http(path, host=host))
        assert (status, json.loads(body)["reason"]) == (404, "InferenceServiceNotFound"), body
    assert pods[0].requests == pods[1].requests == []


async def test_what_is_no_request_is_told_so_like_all_else(envoy: Envoy, pods: tuple[Pod, Pod]) -> None:
    for what, request in MALFORMED.items():
        status, headers, body = await send(envoy, request)
        assert status in (400, 426), what
        assert headers["content-type"] == "application/json", what
        assert json.loads(body)["reason"] == "MalformedRequest", what
    assert pods[0].requests == []


async def test_only_methods_that_mean_something_reach_a_pod(world: World, envoy: Envoy, pods: tuple[Pod, Pod]) -> None:
    """What is not a POST may be sent again, which nobody wants of a DELETE."""
    paths = (INFER, "/v2/models/m1", "/v1/models/m1", "/v2/health/ready", "/v2", "/v2/models/cold")
    for path, method in itertools.product(paths, ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND")):
        status, headers, body = await send(envoy, http(path, method, body=""))
        assert (status, json.loads(body)["reason"]) == (405, "MethodNotAllowed"), (method, body)
        assert headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert world.asked == pods[0].requests == []


async def test_no_header_of_a_clients_own_counts(world: World, envoy: Envoy, pods: tuple[Pod, Pod]) -> None:
    for more in (
        "x-shoal-scope: ///cold",
        "x-shoal-scope: ///!",
        "x-shoal-timeout: 1",
        "x-shoal-unknown: x",
        "x-shoal-path-style: true",
        "x-shoal-bridged: true",
        "x-shoal-not-sent: true",
        "x-model-not-loaded: true",
        "x-envoy-upstream-rq-timeout-ms: 1",
        "x-envoy-max-retries: 50\r\nx-envoy-retry-on: 5xx",
        "x-envoy-original-dst-host: 127.0.0.1:1",
        "x-envoy-original-path: /v2/repository/index",
        "x-forwarded-host: other.tenant-b",
        "x-http-method-override: DELETE",
        "mm-model-id: cold",
        "Upgrade: h2c\r\nConnection: upgrade",
    ):
        pods[0].requests.clear()
        pods[0].delay = 0.01
        status, _, body = await send(envoy, http(INFER, more=more + "\r\n"))
        assert (status, pods[0].requests) == (200, [f"POST {INFER}"]), (more, body)
        assert "x-shoal-scope" not in pods[0].headers
    assert world.asked == pods[1].requests == []


async def test_the_gateways_own_health_at_any_host(envoy: Envoy, pods: tuple[Pod, Pod]) -> None:
    for path in ("/healthz", "/healthz/", "/healthz?from=balancer", "/healthz/?x"):
        assert (await send(envoy, http(path, "GET", "any.where", body="")))[0] == 200


def message(*names: str, flag: int = 0, length: int | None = None) -> bytes:
    body = b"".join(string_field(1, name.encode()) for name in names)
    return bytes([flag]) + struct.pack(">I", len(body) if length is None else length) + body


def call(body: bytes, *metadata: str, path: str = CALL) -> bytes:
    lines = "".join(f"{each}\r\n" for each in ("te: trailers", "content-type: application/grpc", *metadata))
    return f"POST {path} HTTP/1.1\r\nHost: iris.default\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


GRPC = [
    ("half a head", call(b"\0\0\0"), 3, "MessageNotRead"),
    ("an empty message", call(message()), 5, "ModelNotFound: (no name given)"),
    ("shorter than it says", call(message("m1", length=500)), 3, "MessageNotRead"),
    ("4 GiB, it says", call(message("m1", length=2**32 - 1)), 3, "MessageNotRead"),
    ("a flag that is none", call(message("m1", flag=7)), 3, "MessageNotRead"),
    ("compressed", call(message("m1", flag=1), "grpc-encoding: gzip"), 12, "CompressedMessage"),
    ("binary, no base64", call(message(), "mm-model-id-bin: !!!"), 5, "ModelNotFound: (not a model's name"),
    ("binary, empty", call(message(), "mm-model-id-bin:"), 5, "ModelNotFound: (no"),
    ("binary, twice", call(message(), "mm-model-id-bin: bTE=,bTE="), 5, "ModelNotFound: (not a model's name"),
    ("binary, long", call(message(), "mm-model-id-bin: " + "A" * 20_000), 5, "ModelNotFound: (not a model's name"),
    ("binary, with a line end", call(message(), "mm-model-id-bin: bTENCng6IHk="), 5, "ModelNotFound: (not a model's"),
    ("capitals", call(message(), "mm-model-id: M1"), 5, "ModelNotFound: (not a model's name"),
    ("a path as name", call(message(), "mm-model-id: x/m1"), 5, "ModelNotFound: (not a model's name"),
    ("two names", call(message(), "mm-model-id: m1,m1"), 5, "ModelNotFound: (not a model's name"),
    ("a slash at the end", call(message("m1"), path=CALL + "/"), 12, "MethodNotFound"),
    ("the same, with metadata", call(message("m1"), "mm-model-id: m1", path=CALL + "/"), 12, "MethodNotFound"),
    ("lower case", call(message("m1"), path=CALL.lower()), 12, "MethodNotFound"),
    ("no method", call(message("m1"), path="/"), 12, "MethodNotFound"),
    ("path style", call(message("m1"), path="/default/iris" + CALL), 12, "MethodNotFound"),
    ("over a path of REST", call(message("m1"), path="/v2/models/nobody/infer"), 12, "MethodNotFound"),
    (
        "management",
        call(message("m1"), path="/inference.GRPCInferenceService/RepositoryModelUnload"),
        12,
        "MethodNotFo",
    ),
    ("reflection", call(message(), path="/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), 12, "MethodNot"),
]


async def test_a_call_that_cannot_be_answered_is_told_why(world: World, envoy: Envoy, pods: tuple[Pod, Pod]) -> None:
    for what, request, code, text in GRPC:
        status, headers, _ = await send(envoy, request)
        assert (status, headers["content-type"]) == (200, "application/grpc"), what
        assert int(headers["grpc-status"]) == code, (what, headers)
        assert headers["grpc-message"].startswith(text), (what, headers)
    assert world.asked == pods[0].requests == []


async def test_a_body_that_comes_byte_by_byte_has_an_end(
    world: World, envoy: Envoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time at the pod has not begun, and it is never idle."""
    monkeypatch.setattr("shoal_operator.gateway.policy.BODY_SECONDS", 1.0)
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(timeout=1.0))
    await world.applied(world.route("m1", pod))
    reader, writer = await asyncio.open_connection(envoy.options.host, envoy.options.port)
    writer.write(f"POST {INFER} HTTP/1.1\r\nHost: iris.default\r\nContent-Length: 100000\r\n\r\n".encode())
    answer = asyncio.create_task(reader.readuntil(b"}"))
    async with asyncio.timeout(10):
        while not answer.done():
            writer.write(b"x")
            await asyncio.wait([answer], timeout=0.1)
    head, _, body = answer.result().partition(b"\r\n\r\n")
    assert (head.split()[1], json.loads(body)["reason"]) == (b"408", "RequestTooSlow")
    writer.close()


async def test_a_question_with_a_body_is_limited_too(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(max_request_bytes=100_000))
    await world.applied(world.route("m1", pod))
    chunks = b"".join(b"8000\r\n" + bytes(0x8000) + b"\r\n" for _ in range(8)) + b"0\r\n\r\n"
    head = b"GET /v2/models/m1 HTTP/1.1\r\nHost: iris.default\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, _, body = await send(envoy, head + chunks)
    assert (status, json.loads(body)["reason"]) == (413, "RequestTooLarge")
    assert pod.requests == []
    assert (await send(envoy, http("/v2/models/m1", "GET", body="")))[0] == 200

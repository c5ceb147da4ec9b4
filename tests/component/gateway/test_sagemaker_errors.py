"""Errors as boto3's client of SageMaker's runtime API knows them, and what it does about them by itself."""

import asyncio
import gzip
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from shoal_operator.gateway.sagemaker import ERRORS
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import RoutePolicy

from .pods import Pod
from .sagemaker_client import client, invoke
from .test_forms import send
from .test_sagemaker_runtime import post
from .world import Envoy, World

pytestmark = pytest.mark.component

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def pod(world: World, envoy: Envoy) -> Pod:
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(server_type="mms"))
    world.route("m1", pod)
    await world.applied(world.route("cold", unavailable=Unavailable.COLD))
    return pod


async def error(envoy: Envoy, model: str = "m1", body: bytes = b"{}") -> Any:
    """What boto3 raises."""
    with pytest.raises(ClientError) as caught:
        await invoke(client(envoy.base), "default--iris", TargetModel=model, Body=body)
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "original"),
    [
        (400, b'{"error": "wrong shape"}', '{"error": "wrong shape"}'),
        (
            404,
            b'{"code": 404, "message": "\\"no\\""}',
            '{"code": 404, "message": "\\"no\\""}',
        ),
        (500, b"Traceback:\n\tx\r\n\0\x1b[0m", "Traceback:\n\tx\r\n\0\x1b[0m"),
        (
            503,
            b'{"type": "InternalServerException"}',
            '{"type": "InternalServerException"}',
        ),
        (507, b"", ""),
        (400, "falsch: ß, 你, 🐟".encode(), "falsch: ß, 你, 🐟"),
        (400, b"\xff\x80a\xc3(\xe2\x82\xed\xa0\x80\xf5\xc3\xa4\xa4", "?a?(????"),
        (400, b'{"error": "x", "reason": "WhateverElse"}', '{"error": "x", "reason": "WhateverElse"}'),
        (400, b"x" * 5000, "x" * 1024),
        (400, "ä".encode() * 1000, "ä" * 512),
        (400, b"x" + "ä".encode() * 1000, "x" + "ä" * 511 + "?"),
    ],
)
async def test_a_models_own_error_is_a_model_error(
    envoy: Envoy, pod: Pod, status: int, body: bytes, original: str
) -> None:
    pod.says = status, JSON, body
    raised = await error(envoy)
    assert type(raised).__name__ == "ModelError"
    said = raised.response
    assert (said["Error"]["Code"], said["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert said["OriginalStatusCode"] == status
    assert said["OriginalMessage"] == original
    whose = "client" if status < 500 else "server"
    assert said["Error"]["Message"] == f'Received {whose} error ({status}) from primary with message "{original}"'
    kind = "CLIENT_ERROR_FROM_MODEL" if status < 500 else "INTERNAL_FAILURE_FROM_MODEL"
    assert json.loads((await send(envoy, post()))[2])["ErrorCode"] == kind


async def test_a_models_hostile_errors_cost_others_nothing_to_speak_of(envoy: Envoy, pod: Pod) -> None:
    """Each is answered, and what they cost the gateway together is far from what one of them could if it were read
    without a bound."""
    largest = 16 * 1024
    worst = [
        b"\xff" * largest,
        b'{"error": "' + b"\xff" * (largest - 40) + b'", "reason": "LoadFailed"}',
        b'{"error":' + b" " * (largest - 9),
        b'{"error": "' + b'", ' * (largest // 3 - 10),
        b'{"error": "' + b'",' + b" " * (largest - 40) + b'"reason": "',
        b'"\\' * (largest // 2),
    ]
    before = envoy.cpu_seconds()
    for body in worst:
        pod.says = 500, JSON, body
        for _ in range(20):
            status, headers, said = await send(envoy, post())
            assert (status, headers["x-amzn-errortype"]) == (424, "ModelError")
            assert json.loads(said)["OriginalStatusCode"] == 500
    assert (envoy.cpu_seconds() - before) / (20 * len(worst)) < 0.02
    assert await envoy.stat("http.gateway.lua.sagemaker.errors") == 0


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON | {"Transfer-Encoding": "chunked"}, b"x" * 100),
        (JSON | {"Transfer-Encoding": "chunked"}, b""),
        (JSON, b"x" * 70_000),
        (JSON, b"x" * 3_000_000),
        (JSON | {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 100)),
    ],
    ids=["in chunks", "in no chunk", "long", "very long", "packed"],
)
async def test_of_a_body_that_is_not_waited_for_its_beginning_is_told(
    envoy: Envoy, pod: Pod, headers: dict[str, str], body: bytes
) -> None:
    pod.says = 500, headers, body
    said = (await error(envoy)).response
    assert said["Error"]["Code"] == "ModelError"
    if body:
        original = said["OriginalMessage"]
        assert said["OriginalStatusCode"] == 500
        if "Content-Encoding" in headers:
            assert not original, "what is packed is not read"
        else:
            assert original == "x" * min(len(original), 1024)
            assert original
    pod.says = None  # the connection, and the filter, are good for the next one
    await invoke(client(envoy.base), "default--iris", TargetModel="m1")


@pytest.mark.parametrize("reason", [reason for reason in Unavailable if reason is not Unavailable.COLD])
async def test_a_model_that_cannot_answer(world: World, envoy: Envoy, pod: Pod, reason: Unavailable) -> None:
    """By its route, and by the activator's word."""
    world.route("known", unavailable=reason)
    world.state_says("cold", unavailable=reason, message='what: "x" and what to do')
    await world.applied(world.route("other", pod))
    name, status = ERRORS[reason.value]
    for model in ("known", "cold"):
        raised = await error(envoy, model)
        said = raised.response
        assert (type(raised).__name__, said["ResponseMetadata"]["HTTPStatusCode"]) == (name, status)
        assert len(said["Error"]["Message"]) > 20
        assert ("what to do" in said["Error"]["Message"]) == (model == "cold")
        assert ("OriginalStatusCode" in said) == (name == "ModelError")
        assert int(said["ResponseMetadata"]["HTTPHeaders"]["retry-after"]) >= 1
    assert pod.requests == []


async def test_a_load_that_takes_longer_is_a_model_that_is_not_ready(world: World, envoy: Envoy, pod: Pod) -> None:
    world.state_says("cold", unavailable=Unavailable.COLD, timeout=0.3)
    raised = await error(envoy, "cold")
    assert (type(raised).__name__, raised.response["ResponseMetadata"]["HTTPStatusCode"]) == (
        "ModelNotReadyException",
        429,
    )
    assert "load goes on" in raised.response["Error"]["Message"]


async def test_boto3_tries_again_by_itself_until_the_model_is_loaded(world: World, envoy: Envoy, pod: Pod) -> None:
    world.state_says("cold", unavailable=Unavailable.COLD, timeout=0.3)
    asyncio.get_running_loop().call_later(0.8, world.route, "cold", pod)
    runtime = client(envoy.base, retries={"mode": "legacy", "max_attempts": 10})
    answer = await invoke(runtime, "default--iris", TargetModel="cold")
    assert json.loads(answer["Body"])["pod"] == "a"
    assert answer["ResponseMetadata"]["RetryAttempts"] >= 1
    assert len(pod.requests) == 1
    # In its newer mode boto3 leaves that to its user.
    await world.applied(world.route("other", unavailable=Unavailable.COLD))
    world.state_says("other", unavailable=Unavailable.COLD, timeout=0.3)
    runtime = client(envoy.base, retries={"mode": "standard", "max_attempts": 10})
    with pytest.raises(runtime.exceptions.ModelNotReadyException) as caught:
        await invoke(runtime, "default--iris", TargetModel="other")
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 0


@pytest.mark.parametrize("mode", ["legacy", "standard"])
async def test_what_a_model_has_seen_is_sent_once(world: World, envoy: Envoy, pod: Pod, mode: str) -> None:
    """boto3 would send a 500, 502, 503 or 504 again; a prediction may cost money."""
    runtime = client(envoy.base, retries={"mode": mode, "max_attempts": 5})
    for status in (500, 503, 504):
        pod.requests.clear()
        pod.says = status, JSON, b"{}"
        with pytest.raises(runtime.exceptions.ModelError):
            await invoke(runtime, "default--iris", TargetModel="m1")
        assert len(pod.requests) == 1, status


async def test_a_model_that_takes_too_long(world: World, envoy: Envoy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal_operator.gateway.policy._AFTER", 0.1)
    pod = await world.pod("a")
    world.service(pod, policy=RoutePolicy(server_type="mms", timeout=0.41))
    await world.applied(world.route("m1", pod))
    pod.delay = 4
    raised = await error(envoy)
    assert (type(raised).__name__, raised.response["OriginalStatusCode"]) == ("ModelError", 504)
    assert "did not answer in time" in raised.response["OriginalMessage"]


async def test_a_long_body_for_a_pod_that_lacks_the_model_is_to_come_again(world: World, envoy: Envoy) -> None:
    """The one answer that the filter does not see: Envoy writes it past all of them."""
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    pod.lacks.add("m1")
    raised = await error(envoy, "m1", b"x" * 3_000_000)
    assert (type(raised).__name__, raised.response["ResponseMetadata"]["HTTPStatusCode"]) == (
        "ModelNotReadyException",
        429,
    )
    assert "nothing was computed" in raised.response["Error"]["Message"]


async def test_without_the_operator_a_cold_model_is_unavailable(world: World, envoy: Envoy, pod: Pod) -> None:
    await world.control_plane_gone()
    raised = await error(envoy, "cold")
    assert (type(raised).__name__, "operator" in raised.response["Error"]["Message"]) == ("ServiceUnavailable", True)
    await invoke(client(envoy.base), "default--iris", TargetModel="m1")


async def test_a_pod_that_breaks_off_is_the_models_error(world: World, envoy: Envoy) -> None:
    """It may have computed something."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    pod = await world.pod("a")
    server = await asyncio.start_server(break_off, pod.host, 0)
    pod.http_port = server.sockets[0].getsockname()[1]
    world.endpoint(pod)
    world.service(pod, policy=RoutePolicy(server_type="mms"))
    await world.applied(world.route("m1", pod))
    async with server:
        raised = await error(envoy)
    assert (type(raised).__name__, raised.response["OriginalStatusCode"]) == ("ModelError", 503)

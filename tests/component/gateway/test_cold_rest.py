"""REST requests for models that are not loaded: held in Envoy until they are, or told why not."""

import asyncio
import json
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest
from shoal_operator.state.world.effects import Unavailable

from tests.patience import BUSY

from .world import Envoy, World, eventually

pytestmark = pytest.mark.component

INFER = "/v2/models/m1/infer"
HOST = "iris.default.example.com"


@pytest.mark.parametrize(
    ("host", "path", "seen"),
    [
        (HOST, "/v2/models/m1/infer", "/v2/models/m1/infer"),
        (HOST, "/v1/models/m1:predict", "/v1/models/m1:predict"),
        (HOST, "/v1/models/m1:explain?a=b", "/v1/models/m1:explain?a=b"),
        (HOST, "/v2/models/m1/generate_stream", "/v2/models/m1/generate_stream"),
        (HOST, "/v2/models/m1/versions/1/infer", "/v2/models/m1/versions/1/infer"),
        ("IRIS.Default:80", "/v2/models/m1/infer/", "/v2/models/m1/infer"),
        ("iris-predictor.default.svc", "/v2//models/m1/infer", "/v2/models/m1/infer"),
        ("localhost", "/default/iris/v2/models/m1/infer?a=b", "/v2/models/m1/infer?a=b"),
        ("other.place", "/default/iris/v1/models/m1:predict", "/v1/models/m1:predict"),
    ],
)
async def test_a_request_waits_for_its_model(
    world: World, http: aiohttp.ClientSession, host: str, path: str, seen: str
) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.cold("m1", "m2")
    world.loads("m1", b, after=0.2)
    started = time.monotonic()
    async with http.post(path, headers={"Host": host}, data=b"x" * 10) as response:
        assert response.status == 200, await response.text()
        assert await response.json() == {"pod": "b", "path": seen, "bytes": 10}
    assert 0.2 <= time.monotonic() - started < BUSY
    assert world.asked == ["m1"]
    assert a.requests == []
    assert [name for name in b.headers if name.startswith(("x-shoal", "x-envoy"))] == ["x-envoy-external-address"]
    assert world.metric("shoal_cold_requests_total") == 1
    assert world.metric("shoal_cold_requests_held") == 0
    assert world.metric("shoal_cold_wait_seconds_count") == 1
    assert 0.2 <= world.metric("shoal_cold_wait_seconds_sum") < BUSY


async def test_a_large_body_streams_through(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    await world.cold("m1")
    world.loads("m1", pod)
    async with http.post(INFER, data=b"x" * 60_000_000) as response:
        assert (await response.json())["bytes"] == 60_000_000


async def test_a_hundred_at_once_cost_one_load_and_use_every_copy(world: World, http: aiohttp.ClientSession) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.cold("m1")
    world.loads("m1", a, b, after=0.5)
    answers = await many(http, 100)
    assert Counter(answers) == {(200, "a"): 50, (200, "b"): 50}
    assert world.asked == ["m1"]
    assert await world.envoys[0].stat("http.cold.downstream_rq_total") == 100


async def test_two_thousand_held_requests_are_all_answered(world: World, http: aiohttp.ClientSession) -> None:
    """Held ones cost no port; a refusal for one model or an answer for another does not wait for them."""
    world.bounds = {"max_held": 5000}
    pod = await world.pod("a")
    await world.cold("m1", "m2", "m3")
    waiting = asyncio.create_task(many(http, 2000))

    async def held() -> bool:
        return world.metric("shoal_cold_requests_held") == 2000

    await eventually(held, 20, "not all are held")
    world.state_says("m2", unavailable=Unavailable.LOAD_FAILED)
    assert (await many(http, 1, "m2"))[0] == (503, "LoadFailed")
    world.route("m3", pod)
    assert (await many(http, 1, "m3"))[0] == (200, "a")
    world.route("m1", pod)
    assert Counter(await waiting) == {(200, "a"): 2000}


async def test_a_model_that_turned_ready_meanwhile_waits_for_nothing(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    await world.cold("m1")
    world.state_says("m1", pod)  # loaded; Envoy's route still says cold
    assert await many(http, 1) == [(200, "a")]
    assert world.asked == ["m1"]  # it counts as use
    started = time.monotonic()
    for _ in range(50):
        assert await many(http, 1) == [(200, "a")]
    assert (time.monotonic() - started) / 50 < 0.5  # attempt 2 waits a second


async def test_the_request_that_waits_too_long_is_told_and_the_load_goes_on(
    world: World, http: aiohttp.ClientSession
) -> None:
    world.bounds = {"timeout": 0.5}
    pod = await world.pod("a")
    await world.cold("m1")
    started = time.monotonic()
    async with http.post(INFER) as response:
        body = await response.json()
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert (response.content_type, body["reason"]) == ("application/json", "ActivationTimeout")
        assert "within 0.5 s" in body["error"]
        assert "load goes on" in body["error"]
    assert 0.5 <= time.monotonic() - started < BUSY
    assert world.metric("shoal_cold_refusals_total", reason="ActivationTimeout") == 1
    await world.applied(world.route("m1", pod))
    assert await many(http, 1) == [(200, "a")]


async def test_more_than_may_wait_are_refused_at_once(world: World, http: aiohttp.ClientSession) -> None:
    world.bounds = {"max_held": 3}
    pod = await world.pod("a")
    await world.cold("m1", "m2")
    waiting = asyncio.create_task(many(http, 3))
    await asyncio.sleep(0.3)
    started = time.monotonic()
    async with http.post("/v2/models/m2/infer") as response:  # another model of the same InferenceService
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert (await response.json())["reason"] == "TooManyHeldRequests"
    assert time.monotonic() - started < BUSY
    world.route("m1", pod)
    assert await waiting == [(200, "a")] * 3
    world.loads("m2", pod)
    assert await many(http, 1, "m2") == [(200, "a")]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_model_that_cannot_load_answers_its_cause(
    world: World, http: aiohttp.ClientSession, waits: bool
) -> None:
    await world.cold("m1")
    world.bounds = {"message": 'm1: "no such bucket"', "retry_after": 12.3}
    if waits:
        world.loads("m1", unavailable=Unavailable.STORAGE_FAILED)
    else:
        world.state_says("m1", unavailable=Unavailable.STORAGE_FAILED)
    async with http.post(INFER) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "13")
        assert await response.json() == {"error": 'm1: "no such bucket"', "reason": "StorageFailed"}


async def test_a_model_deleted_while_requests_wait_is_not_found(world: World, http: aiohttp.ClientSession) -> None:
    await world.cold("m1")
    world.loads("m1")
    async with http.post(INFER) as response:
        body = await response.json()
        assert (response.status, body["reason"]) == (404, "ModelNotFound")
        assert body["error"].startswith(f"m1: the InferenceService at host {HOST} has no TrainedModel of this name")


async def test_a_client_that_leaves_waits_no_longer(world: World, http: aiohttp.ClientSession) -> None:
    await world.cold("m1")
    with pytest.raises(TimeoutError):
        await http.post(INFER, timeout=aiohttp.ClientTimeout(total=0.3))

    async def gone() -> bool:
        return world.metric("shoal_cold_requests_held") == 0

    await eventually(gone, 2, "it is still held")
    asked = len(world.asked)
    await asyncio.sleep(1.5)
    assert len(world.asked) == asked  # nobody waits: nobody asks


async def test_without_the_operator_the_answer_comes_at_once_and_says_so(
    world: World, http: aiohttp.ClientSession
) -> None:
    pod = await world.pod("a")
    await world.cold("m1")
    await world.applied(world.route("m2", pod))
    held = asyncio.create_task(many(http, 1))
    await asyncio.sleep(0.2)
    await world.control_plane_gone()
    assert await held == [(503, "ActivatorUnavailable")]
    for _ in range(5):
        started = time.monotonic()
        async with http.post(INFER) as response:
            body = await response.json()
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert (response.content_type, body["reason"]) == ("application/json", "ActivatorUnavailable")
        assert time.monotonic() - started < BUSY
    assert await many(http, 1, "m2") == [(200, "a")]  # what is loaded is served all the same


async def test_an_operator_that_just_started_answers_once_it_knows_its_models(
    world: World, http: aiohttp.ClientSession
) -> None:
    pod = await world.pod("a")
    await world.cold("m1")
    await world.control_plane_gone()
    views = dict(world.views)
    world.views.clear()
    world.new_control_plane()
    await world.serve()
    waiting = asyncio.create_task(many(http, 1))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    world.views.update(views)
    world.endpoint(pod)
    world.service()
    world.route("m1", unavailable=Unavailable.COLD)
    world.gateway.open()
    world.loads("m1", pod)
    assert await waiting == [(200, "a")]


async def test_a_client_cannot_name_the_pod_or_pretend_to_be_healing(world: World, envoy: Envoy) -> None:
    a, b, c = [await world.pod(name) for name in "abc"]
    await world.cold("m1")
    world.state_says("m1", a)
    await world.applied(world.route("m2", c))
    spoof = dict.fromkeys(
        ("pod", "x-shoal-pod", "x-gateway-destination-endpoint", "x-envoy-original-dst-host"), f"{b.host}:{b.http_port}"
    )
    spoof |= {"x-envoy-attempt-count": "2", "x-shoal-not-sent": "true", "x-model-not-loaded": "true"}
    spoof |= {"x-shoal-scope": "///m2", "mm-model-id": "m2", "x-envoy-retry-on": "5xx"}
    async with aiohttp.ClientSession(base_url=envoy.base, headers={"Host": HOST}) as session:
        started = time.monotonic()
        async with session.post(INFER, headers=spoof) as response:
            assert (await response.json())["pod"] == "a"
    assert time.monotonic() - started < 0.9  # "attempt 2" would have waited for a change
    assert (b.requests, c.requests) == ([], [])
    assert "x-envoy-attempt-count" not in a.headers


async def test_the_cold_listener_is_no_port(world: World, envoy: Envoy) -> None:
    _, listeners = await envoy.admin("/listeners?format=json")
    named = {status["name"]: status["local_address"] for status in json.loads(listeners)["listener_statuses"]}
    assert "envoy_internal_address" in named["cold"]


async def test_an_inference_service_that_has_no_pod_is_said_to_have_none(
    world: World, http: aiohttp.ClientSession
) -> None:
    pod = await world.pod("a")
    await world.applied(world.service(pod))
    world.pod_gone(pod)
    await world.applied(world.service(pod))
    for path in ("/v2/health/ready", "/v2"):
        async with http.get(path) as response:
            assert (response.status, (await response.json())["reason"]) == (503, "InferenceServiceNotReady")


async def many(http: aiohttp.ClientSession, count: int, model: str = "m1") -> list[tuple[int, str]]:
    """Status and pod, or reason, of ``count`` requests sent at once."""

    async def one() -> tuple[int, str]:
        async with http.post(f"/v2/models/{model}/infer", data=b"x" * 100) as response:
            body: dict[str, Any] = await response.json()
            return response.status, body.get("pod") or body.get("reason") or body["error"]

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def test_a_service_that_loses_its_last_pod_is_waited_for(world: World, http: aiohttp.ClientSession) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    world.service(a)
    await world.applied(world.route("m1", a))
    world.pod_gone(a)
    world.service()
    await world.applied(world.route("m1", unavailable=Unavailable.SERVICE_NOT_READY))

    async def answer() -> tuple[int, str]:
        async with http.post("/v2/models/m1/infer", data=b"{}") as response:
            return response.status, (await response.json()).get("pod", "")

    waiting = [asyncio.create_task(answer()) for _ in range(20)]
    await asyncio.sleep(0.5)
    assert not any(each.done() for each in waiting)
    world.service(b)
    world.route("m1", unavailable=Unavailable.COLD)
    await asyncio.sleep(0.2)
    world.route("m1", b)
    assert await asyncio.gather(*waiting) == [(200, "b")] * 20

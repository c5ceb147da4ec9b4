"""A request that reaches a pod without its model, or a dead one, finds the pod that has it: through the activator."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from shoal_operator.state.world.effects import Unavailable
from tritonclient.utils import InferenceServerException

from tests.patience import BUSY

from .load import Load
from .test_cold_rest import HOST, INFER, many
from .test_grpc_routes import HEADER, an_input, client
from .world import Envoy, World

pytestmark = pytest.mark.component


@pytest.mark.parametrize("path", [INFER, "/v1/models/m1:predict", "/default/iris/v2/models/m1/infer"])
async def test_an_evicted_model_is_loaded_again(world: World, http: aiohttp.ClientSession, path: str) -> None:
    """The route is stale: state says cold, Envoy does not know it yet, the pod has unloaded."""
    a, b = await world.pod("a"), await world.pod("b")
    await world.applied(world.route("m1", a))
    a.lacks.add("m1")
    world.state_says("m1", unavailable=Unavailable.COLD)
    world.loads("m1", b)
    async with http.post(path, data=b"x" * 1000) as response:
        assert response.status == 200, await response.text()
        body = await response.json()
        assert (body["pod"], body["bytes"]) == ("b", 1000)
        assert not any(name.lower().startswith("x-") for name in response.headers)
    assert world.asked == ["m1"]
    assert len(a.requests) <= 2


@pytest.mark.parametrize("headers", [None, HEADER], ids=["from-message", "from-header"])
async def test_over_grpc_too(world: World, envoy: Envoy, headers: dict[str, str] | None) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    world.service(a)
    await world.applied(world.route("m1", a))
    a.lacks.add("m1")
    world.state_says("m1", unavailable=Unavailable.COLD)
    world.loads("m1", b)

    async def two() -> AsyncIterator[dict[str, Any]]:
        for _ in range(2):
            yield {"model_name": "m1", "inputs": [an_input()]}

    async with client(envoy) as server:
        result = await server.infer("m1", [an_input()], headers=headers)
        assert result.get_response().model_version == "b"
        await world.applied(world.route("m1", a))  # stale again
        world.state_says("m1", b)
        stream = [answer async for answer, _ in server.stream_infer(two(), headers=headers)]
        assert [answer.get_response().model_version for answer in stream] == ["b", "b"]


@pytest.mark.parametrize("path", [INFER, "/default/iris/v2/models/m1/infer"])
async def test_a_request_that_is_too_long_to_be_sent_on_is_told_to_come_again(
    world: World, http: aiohttp.ClientSession, path: str
) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.applied(world.route("m1", a))
    a.lacks.add("m1")
    world.state_says("m1", unavailable=Unavailable.COLD)
    world.loads("m1", b)
    async with http.post(path, data=b"x" * (3 << 20)) as response:
        assert response.status == 503, await response.text()
        assert response.headers["Retry-After"] == "1"
        assert response.headers["Content-Type"] == "application/json"
        body = await response.json()
        assert body["reason"] == "ModelNotLoaded"
        assert "1 MiB" in body["error"]
        assert not any(name.lower().startswith("x-") for name in response.headers)
    a.lacks.clear()
    async with http.post(path, data=b"x" * (3 << 20)) as response:
        assert (response.status, (await response.json())["bytes"]) == (200, 3 << 20), "and the others go by"


async def test_a_call_that_is_too_long_to_be_sent_on_is_unavailable(world: World, envoy: Envoy) -> None:
    a = await world.pod("a")
    world.service(a)
    await world.applied(world.route("m1", a))
    a.lacks.add("m1")
    world.state_says("m1", unavailable=Unavailable.COLD)
    async with client(envoy) as server:
        with pytest.raises(InferenceServerException) as caught:
            await server.infer("m1", [an_input(1 << 20)], headers=HEADER)  # 4 MiB
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert (caught.value.message() or "").startswith("ModelNotLoaded: ")


async def test_a_model_that_moved_is_found_at_once(world: World, http: aiohttp.ClientSession) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.applied(world.route("m1", a))
    a.lacks.add("m1")
    world.state_says("m1", b)
    started = time.monotonic()
    assert await many(http, 1) == [(200, "b")]
    assert time.monotonic() - started < 0.9  # the second attempt at one pod waits a second


async def test_a_dead_pods_model_is_held_until_it_is_loaded_elsewhere(
    world: World, http: aiohttp.ClientSession
) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.applied(world.route("m1", a))
    await a.stop()
    waiting = asyncio.create_task(many(http, 20))
    await asyncio.sleep(0.3)
    assert not waiting.done()  # state has not noticed yet, and they are not sent back to the dead
    world.state_says("m1", unavailable=Unavailable.COLD)
    world.loads("m1", b)
    assert await waiting == [(200, "b")] * 20
    # And once state has taken the pod out of the clusters, requests do not try it first.
    world.route("m1", a)
    world.state_says("m1", b)
    world.pod_gone(a)
    await world.applied(world.route("m2", b))
    assert await many(http, 5) == [(200, "b")] * 5


async def test_a_pod_that_came_back_is_tried_again_after_a_moment(world: World, http: aiohttp.ClientSession) -> None:
    """State never heard of it: a server that was restarted in place, within the moment."""
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    pod.lacks.add("m1")
    asyncio.get_running_loop().call_later(0.5, pod.lacks.clear)
    started = time.monotonic()
    assert await many(http, 1) == [(200, "a")]
    assert 0.9 < time.monotonic() - started < BUSY


@pytest.mark.parametrize("headers", [None, HEADER], ids=["from-message", "from-header"])
async def test_a_pod_that_never_gets_it_ends_the_attempts(
    world: World, envoy: Envoy, http: aiohttp.ClientSession, headers: dict[str, str] | None
) -> None:
    pod = await world.pod("a")
    world.service(pod)
    await world.applied(world.route("m1", pod))
    pod.lacks.add("m1")
    started = time.monotonic()
    async with http.post(INFER) as response:
        body = await response.json()
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (response.content_type, body["reason"]) == ("application/json", "ModelNotLoaded")
        assert not any(name.lower().startswith("x-") for name in response.headers)
    assert time.monotonic() - started < 2 * BUSY
    assert len(pod.requests) <= 4
    async with client(envoy) as server:
        with pytest.raises(InferenceServerException, match="ModelNotLoaded: ") as caught:
            await server.infer("m1", [an_input()], headers=headers)
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert len(pod.requests) <= 8


async def test_the_pod_that_the_activator_names_may_fail_too(world: World, http: aiohttp.ClientSession) -> None:
    """Evicted between the activator's word and the pod: held again, once."""
    a, b = await world.pod("a"), await world.pod("b")
    await world.cold("m1")
    world.state_says("m1", a)
    a.lacks.add("m1")
    waiting = asyncio.create_task(many(http, 1))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    world.route("m1", unavailable=Unavailable.COLD)
    await asyncio.sleep(0.1)
    world.route("m1", b)
    assert await waiting == [(200, "b")]
    await b.stop()
    world.state_says("m1", b)
    world.gateway.apply([])
    async with http.post(INFER) as response:
        assert (response.status, (await response.json())["reason"]) == (503, "PodUnreachable")
        assert not any(name.lower().startswith("x-") for name in response.headers)


async def test_of_several_copies_the_living_answer_without_the_activator(
    world: World, http: aiohttp.ClientSession
) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.applied(world.route("m1", a, b))
    a.lacks.add("m1")
    assert {pod for status, pod in await many(http, 30) if status == 200} == {"b"}
    assert world.asked == []


async def test_an_applications_own_404_is_its_answer(world: World, envoy: Envoy, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    pod.refuses.add("m1")
    async with http.post(INFER) as response:
        assert (response.status, await response.json()) == (404, {"error": "my own 404"})
    async with client(envoy) as server:
        with pytest.raises(InferenceServerException, match="my own 404") as caught:
            await server.infer("m1", [an_input()], headers=HEADER)
        assert caught.value.status() == "StatusCode.NOT_FOUND"
    assert len(pod.requests) == 2
    assert world.asked == []


async def test_without_the_operator_a_dead_pod_is_said_at_once(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    await world.control_plane_gone()
    await pod.stop()
    started = time.monotonic()
    async with http.post(INFER) as response:
        assert (response.status, (await response.json())["reason"]) == (503, "ActivatorUnavailable")
    assert time.monotonic() - started < BUSY


async def test_models_are_evicted_under_load_and_no_request_fails(world: World, envoy: Envoy) -> None:
    """Acknowledged, so the pod unloads at once: requests that a lagging worker still sends there are healed."""
    a, b = await world.pod("a"), await world.pod("b")
    models = [f"m{number}" for number in range(10)]
    for model in models:
        sequence = world.route(model, a)
    await world.applied(sequence)
    async with Load(envoy, models, rate=300) as load:
        for turn in range(30):
            model = models[turn % 10]
            former, target = (a, b) if turn % 20 < 10 else (b, a)
            await world.applied(world.route(model, unavailable=Unavailable.COLD))
            former.lacks.add(model)
            target.lacks.discard(model)
            await asyncio.sleep(0.05)
            await world.applied(world.route(model, target))
    assert load.outcomes.keys() == {"ok"}, (load.outcomes, load.wrong)


async def test_a_client_cannot_set_the_marks(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    spoof = {"Host": HOST, "x-model-not-loaded": "true", "x-shoal-not-sent": "true"}
    async with http.post(INFER, headers=spoof) as response:
        assert response.status == 200
    assert world.asked == []

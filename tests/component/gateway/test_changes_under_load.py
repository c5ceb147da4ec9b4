"""Routes change while requests flow: none fails, none reaches a pod that has been left for good."""

import asyncio
import random

import aiohttp
import pytest
from shoal_operator.gateway.bootstrap import bootstrap

from .load import Load
from .pods import Pod
from .world import Envoy, World, eventually

pytestmark = pytest.mark.component


async def test_models_move_and_pods_come_and_go_without_a_failed_request(world: World, envoy: Envoy) -> None:
    seed = random.Random(7)
    models = [f"m{number}" for number in range(50)]
    pods = [await world.pod(name) for name in "abc"]
    at = {model: {seed.choice(pods).name} for model in models}
    for model in models:
        sequence = world.route(model, *(pod for pod in pods if pod.name in at[model]))
    await world.applied(sequence)
    async with Load(envoy, models) as load:
        for round_number in range(12):
            # A new pod, and at once models on it: its clusters and routes are new to Envoy.
            new = await world.pod(f"new{round_number}")
            pods.append(new)
            for model in seed.sample(models, 10):
                sequence = world.route(model, *seed.sample(pods, seed.choice((1, 1, 2, 3))), new)
            await asyncio.sleep(0.1)
            # An old pod is emptied, then goes once Envoy has acknowledged.
            old = pods.pop(0)
            for model in models:
                sequence = world.route(model, *seed.sample(pods, seed.choice((1, 2))))
            await world.applied(sequence)
            await asyncio.sleep(0.05)  # requests in flight finish; the state machine waits for them too
            old.requests.clear()
            world.pod_gone(old)
            await asyncio.sleep(0.15)
            assert old.requests == []
    assert load.outcomes.keys() == {"ok"}, (load.outcomes, load.wrong)
    assert load.outcomes.total() > 800


async def test_a_set_of_pods_that_comes_back_leaves_no_gap(world: World, envoy: Envoy) -> None:
    a, b, c = [await world.pod(name) for name in "abc"]
    await world.applied(world.route("m1", a, b))
    async with Load(envoy, ["m1"], rate=500) as load:
        for wait in (0.0, 0.001, 0.003, 0.01, 0.03, 0.1) * 3:
            await world.applied(world.route("m1", c))  # {a, b} has no user: collected
            await asyncio.sleep(wait)
            await world.applied(world.route("m1", a, b))
    assert load.outcomes.keys() == {"ok"}, (load.outcomes, load.wrong)


async def test_a_moment_after_the_acknowledgement_no_request_goes_there_any_more(world: World, envoy: Envoy) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.applied(world.route("m1", a))
    places: dict[str, set[str]] = {"m1": {"a"}}
    async with Load(envoy, ["m1"], rate=500) as load:
        load.expected = lambda model: set(places[model])
        for target, former in [(b, a), (a, b)] * 6:
            places["m1"] = {"a", "b"}  # on its way: either
            await world.applied(world.route("m1", target))
            await asyncio.sleep(0.1)  # Envoy's workers follow its main thread; state waits longer than this
            places["m1"] = {target.name}  # requests that leave from now on
            await asyncio.sleep(0.02)
            former.requests.clear()
            await asyncio.sleep(0.03)
            assert former.requests == []
    assert load.outcomes.keys() == {"ok"}, (load.outcomes, load.wrong)


async def test_a_removal_is_not_acknowledged_before_every_envoy_has_it(world: World, envoy: Envoy) -> None:
    second = await world.envoy(node="envoy-2")
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    assert world.gateway.connected == 2
    second.signal("STOP")
    try:
        sequence = world.route("m1")
        await asyncio.sleep(0.5)
        assert world.acknowledged[-1] < sequence  # the first has it, the second not
    finally:
        second.signal("CONT")
    await world.applied(sequence)
    await second.stop()

    async def gone() -> bool:
        return world.gateway.connected == 1

    await eventually(gone, 5, "it is still there")
    await world.applied(world.route("m1", pod))  # who is gone is not waited for


async def test_an_envoy_that_hangs_is_not_waited_for(
    world: World, envoy: Envoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal_operator.gateway.subscription.STALLED_SECONDS", 1.0)
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    envoy.signal("STOP")
    try:
        sequence = world.route("m1")
        await asyncio.sleep(0.5)
        assert world.acknowledged[-1] < sequence
        await world.applied(sequence, 4)
    finally:
        envoy.signal("CONT")
    await world.applied(world.route("m1", pod))


async def test_a_request_in_flight_outlives_its_route_and_its_cluster(
    world: World, http: aiohttp.ClientSession
) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.applied(world.route("m1", a))
    a.delay = 1.5
    slow = asyncio.create_task(_pod_of(http, "m1"))
    await asyncio.sleep(0.2)
    await world.applied(world.route("m1", b))
    world.pod_gone(a)
    await asyncio.sleep(0.3)
    assert await _pod_of(http, "m1") == "b"
    assert await slow == "a"


async def test_a_pod_that_died_is_answered_for_at_once_and_in_words(world: World, http: aiohttp.ClientSession) -> None:
    pod = await world.pod("a")
    await world.applied(world.route("m1", pod))
    await pod.stop()
    async with http.post("/v2/models/m1/infer") as response:  # still in the routes: connection refused, tried again
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (await response.json())["reason"] == "PodUnreachable"
    world.pod_gone(pod)
    await world.applied(world.route("other", pod))
    async with http.post("/v2/models/m1/infer") as response:
        assert (response.status, (await response.json())["reason"]) == (503, "PodUnreachable")
    await pod.start()
    world.endpoint(pod)  # the same pod at another port
    await world.applied(world.route("other", pod))
    assert await _pod_of(http, "m1") == "a"


async def test_of_a_set_of_pods_the_living_answer(world: World, http: aiohttp.ClientSession) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.applied(world.route("m1", a, b))
    await a.stop()
    for _ in range(30):
        assert await _pod_of(http, "m1") == "b"


async def test_clusters_go_once_nobody_can_use_them(world: World, envoy: Envoy) -> None:
    pods: list[Pod] = [await world.pod(f"p{number}") for number in range(4)]
    await world.applied(world.route("m1", *pods))
    for pod in pods:
        world.pod_gone(pod)
    sequence = world.route("m1")
    await world.applied(sequence)

    static = len(bootstrap(envoy.options)["static_resources"]["clusters"])

    async def gone() -> bool:
        return await envoy.stat("cluster_manager.active_clusters") == static

    await eventually(gone, 5, "it is still there")
    assert len(world.tables.resources["type.googleapis.com/envoy.config.cluster.v3.Cluster"]) == 0


async def _pod_of(http: aiohttp.ClientSession, model: str) -> str:
    async with http.post(f"/v2/models/{model}/infer") as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["pod"])

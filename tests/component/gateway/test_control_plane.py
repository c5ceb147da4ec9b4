"""Envoy and its control plane: first sync, readiness, restarts of either, absence, refusals."""

import asyncio
import time

import aiohttp
import pytest
from shoal_operator.gateway import vocabulary as words
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged, ServiceRouteChanged

from .load import Load
from .pods import Pod
from .world import SERVICE, Envoy, World, eventually

pytestmark = pytest.mark.component


async def test_an_envoy_is_ready_only_when_it_knows_every_model(world: World) -> None:
    """And that within seconds for 2,000 models."""
    a, b = await world.pod("a"), await world.pod("b")
    sequence = many(world, 2000, a, b)
    started = time.monotonic()
    envoy = await world.envoy()
    assert time.monotonic() - started < 10
    async with Load(envoy, [f"m{number}" for number in range(2000)], rate=400) as load:
        load.expected = lambda model: {"ab"[int(model[1:]) % 2]}
        await asyncio.sleep(5)
    assert load.outcomes.keys() == {"ok"}, (load.outcomes, load.wrong)
    await world.applied(sequence)


async def test_nothing_is_served_before_the_barrier_falls() -> None:
    world = World()
    try:
        await world.serve()
        pod = await world.pod("a")
        envoy = await world.envoy(wait=False)
        sequence = world.route("m1", pod)
        await asyncio.sleep(1.5)
        assert not await envoy.is_ready()
        assert world.acknowledged == []
        world.gateway.open()
        await envoy.ready()
        assert await ask(envoy, "m1") == (200, "a")
        await world.applied(sequence)
    finally:
        await world.close()


async def test_the_control_plane_goes_and_comes_back_without_a_gap(world: World, envoy: Envoy) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    models = [f"m{number}" for number in range(200)]
    await world.applied(many(world, 200, a, b))
    sent = await envoy.stat("http.gateway.scoped_rds.models.update_success")
    clusters = await envoy.stat("cluster_manager.cds.update_success")
    async with Load(envoy, models, rate=200) as load:
        load.expected = lambda model: {"ab"[int(model[1:]) % 2]}
        await world.control_plane_gone()
        await asyncio.sleep(1.5)
        assert await envoy.is_ready()
        # Another operator: it listens before it knows anything, then knows the same.
        world.new_control_plane()
        await world.serve()
        await eventually(lambda: connected(world, 1), 5, "Envoy did not come back")
        await asyncio.sleep(0.5)
        many(world, 200, a, b, start=1)
        world.gateway.open()
        await asyncio.sleep(1)
        assert await envoy.stat("http.gateway.scoped_rds.models.update_success") == sent
        assert await envoy.stat("cluster_manager.cds.update_success") == clusters
        # And one that changed while it was gone.
        load.expected = None
        await world.applied(world.route("m0", b))
        assert await ask(envoy, "m0") == (200, "b")
    assert load.outcomes.keys() == {"ok"}, (load.outcomes, load.wrong)


async def test_what_changed_while_the_control_plane_was_gone_is_made_good(world: World, envoy: Envoy) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    world.service(a)
    for model in ("moved", "gone", "stays"):
        sequence = world.route(model, a)
    await world.applied(sequence)
    await world.control_plane_gone()
    world.new_control_plane()
    world.endpoint(b)
    world.endpoint(a)
    world.service(b)
    world.route("moved", b)
    sequence = world.route("stays", a)
    await world.serve()
    world.gateway.open()
    await eventually(lambda: connected(world, 1), 5, "Envoy did not come back")
    await world.applied(sequence)

    async def right() -> bool:
        answers = [await ask(envoy, model) for model in ("moved", "gone", "stays")]
        return answers == [(200, "b"), (404, "ModelNotFound"), (200, "a")]

    await eventually(right, 5, "routes differ from the tables")


async def test_an_envoy_restarts(world: World) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.applied(many(world, 100, a, b))
    envoy = await world.envoy()
    for _ in range(2):
        await envoy.stop()
        await envoy.start()
        for number in range(100):
            assert await ask(envoy, f"m{number}") == (200, "ab"[number % 2])
    await eventually(lambda: connected(world, 1), 5, "streams of dead Envoys remain")


async def test_a_refused_resource_is_counted_and_keeps_nobody_else_waiting(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    await world.applied(world.route("m0", pod))
    bad = world.tables.resources[words.SCOPE]
    # Two scopes with one key, which Envoy refuses together with all that came along.
    name, resource = next((k, r) for k, r in bad.items() if not k.startswith("~"))
    bad["twin"] = resource._replace(payload=resource.payload.replace(name.encode(), b"twin" + name[4:].encode()))
    for subscription in world.gateway._ads.subscriptions:
        subscription._types[words.SCOPE].changed["twin"] = 1
    sequence = [world.route(f"m{number}", pod) for number in range(1, 9)][-1]
    await world.applied(sequence)
    for number in range(9):
        assert await ask(envoy, f"m{number}") == (200, "a")
    refused = world.gateway._metrics.rejections.labels("ScopedRouteConfiguration")
    assert refused._value.get() >= 1


async def test_probes_listener_gives_readiness_and_metrics_and_nothing_else(world: World, envoy: Envoy) -> None:
    base = f"http://{envoy.options.host}:{envoy.options.probes_port}"
    async with aiohttp.ClientSession() as session:
        for method, path, status in [
            ("GET", "/ready", 200),
            ("GET", "/stats/prometheus", 200),
            ("POST", "/stats/prometheus", 404),
            ("POST", "/quitquitquit", 404),
            ("GET", "/config_dump", 404),
            ("GET", "/", 404),
        ]:
            async with session.request(method, base + path) as response:
                assert (path, response.status) == (path, status)


async def test_one_change_is_visible_at_once(world: World, envoy: Envoy) -> None:
    a, b = await world.pod("a"), await world.pod("b")
    await world.applied(many(world, 2000, a, b))
    seconds = []
    for pod in [b, a] * 10:
        await asyncio.sleep(0.1)
        started = time.monotonic()
        world.route("m0", pod)
        while await ask(envoy, "m0") != (200, pod.name):
            pass
        seconds.append(time.monotonic() - started)
    assert sorted(seconds)[2] < 0.1, seconds  # the quickest; the machine may be busy


def many(world: World, count: int, *pods: Pod, start: int | None = None) -> int:
    """``count`` models m0, m1… on the pods in turn, as one batch."""
    effects = [PodEndpointChanged(pod.name, pod.host, pod.http_port, pod.grpc_port) for pod in pods]
    sequence = next(world.sequence) if start is None else start
    world.gateway.apply([*effects, ServiceRouteChanged(SERVICE, True, sequence, frozenset({pods[0].name}))])
    for number in range(count):
        sequence = next(world.sequence) if start is None else sequence + 1
        pod = pods[number % len(pods)]
        world.gateway.apply([RouteChanged(SERVICE, f"m{number}", sequence, frozenset({pod.name}))])
    return sequence


async def ask(envoy: Envoy, model: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{envoy.base}/v2/models/{model}/infer", data=b"{}", headers={"Host": "iris.default"}) as response,
    ):
        body = await response.json()
        return response.status, body.get("pod") or body["reason"]


async def connected(world: World, count: int) -> bool:
    return world.gateway.connected == count

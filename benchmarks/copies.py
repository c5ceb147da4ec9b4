"""What a server's own scaling of each model's workers is worth: ``python -m benchmarks.copies`` (make bench-copies).

A thousand copies of one model that waits 20 ms for each row, on pods with memory for two hundred of one worker, in
the three shapes of benchmarks.traffic: on multi-model-server, whose models have as many workers as they are told, and
on DJL Serving, which adds and takes away workers by each model's queue. Workers count in memory as often as there may
be, so what may have four leaves room for a quarter of the models: that is the trade.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from demo import kubernetes, samples
from e2e import servers
from tests.component.servers.kits import Files

from . import artifacts, cluster, common, usage
from .cluster import Bench
from .common import Target, spread
from .readiness import Watch
from .traffic import POPULAR, shapes

NAMESPACE: Final = "shoal-bench-copies"
SERVICE: Final = "copies"
MODELS: Final = 1_000
ROOM: Final = 200
PODS: Final = 2
WORKERS: Final = 4
MEBIBYTES: Final = 40  # of one worker: an interpreter, and at multi-model-server its parent process
PAUSE_SECONDS: Final = 0.02
CONNECTIONS: Final = 16
ANSWER_SECONDS: Final = 120.0  # where most requests load a model, each waits for those before it
START_SECONDS: Final = 600.0

_DJL: Final = """\
import time

from djl_python import Output


def handle(inputs):
    if inputs.is_empty():
        return None
    time.sleep({pause})
    return Output().add_as_json({{"answer": 1}})
"""
_MMS: Final = """\
import time


def handle(data, context):
    if data is None:
        return None
    time.sleep({pause})
    return [{{"answer": 1}} for _ in data]
"""
_MANIFEST: Final = {
    "runtime": "python",
    "model": {"modelName": "copy", "handler": "handler.py:handle"},
    "specificationVersion": "1.0",
}
FILES: Final[dict[str, Files]] = {
    "djl": {"serving.properties": b"engine=Python\n", "model.py": _DJL.format(pause=PAUSE_SECONDS).encode()},
    "mms": {
        "MAR-INF/MANIFEST.json": json.dumps(_MANIFEST).encode(),
        "handler.py": _MMS.format(pause=PAUSE_SECONDS).encode(),
    },
}


@dataclass(frozen=True, slots=True)
class Way:
    """A server and the workers that each of its models may have."""

    title: str
    server: str
    least: int
    most: int

    def models(self, names: Sequence[str], uri: str) -> str:
        """TrainedModels as YAML."""
        return yaml.safe_dump_all(
            {
                "apiVersion": "serving.kserve.io/v1alpha1",
                "kind": "TrainedModel",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "inferenceService": SERVICE,
                    "model": {"storageUri": uri, "framework": self.server, "memory": f"{MEBIBYTES}Mi"},
                    "serving": {"workers": {"min": self.least, "max": self.most}},
                },
            }
            for name in names
        )

    def service(self, pods: int, room: int) -> str:
        """An InferenceService with memory for ``room`` models of one worker, over all of its pods."""
        resources = {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"memory": f"{room // pods * MEBIBYTES}Mi"},
        }
        predictor = {
            "minReplicas": pods,
            "maxReplicas": pods,
            "serviceAccountName": "models",
            "model": {
                "modelFormat": {"name": self.server},
                "runtime": f"shoal-{self.server}",
                "resources": resources,
            },
        }
        return yaml.safe_dump(
            {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": {"name": SERVICE, "namespace": NAMESPACE},
                "spec": {"predictor": predictor},
            }
        )


WAYS: Final = (
    Way("multi-model-server, 1 worker", "mms", 1, 1),
    Way(f"multi-model-server, {WORKERS} workers", "mms", WORKERS, WORKERS),
    Way("DJL Serving, 1 worker", "djl", 1, 1),
    Way(f"DJL Serving, 1 to {WORKERS} workers", "djl", 1, WORKERS),
)


async def run(bench: Bench, options: argparse.Namespace, folder: Path) -> common.Json:
    result: common.Json = {"context": common.context(options.as_is, vegeta=common.vegeta_version())}
    result |= {name: getattr(options, name) for name in ("models", "room", "pods", "rounds", "seconds")}
    result["ways"] = {}
    for server in sorted({way.server for way in WAYS}):
        servers.provide_image(server)
        runtime = samples.runtime(server)
        runtime["metadata"]["namespace"] = NAMESPACE
        kubernetes.apply(yaml.safe_dump(runtime))
        for path, content in FILES[server].items():
            bench.objects.put_object(Bucket=cluster.BUCKET, Key=f"copies/{server}/{path}", Body=content)
    # One after another: four times two hundred processes are more than this machine's memory.
    for way in random.Random(1).sample(WAYS, len(WAYS)):
        result["ways"][way.title] = await measure(bench, way, options, folder)
    return result


async def measure(bench: Bench, way: Way, options: argparse.Namespace, folder: Path) -> common.Json:
    """All shapes on one server, which is gone afterwards."""
    names = [artifacts.name(number) for number in range(options.models)]
    body = folder / "body.json"
    body.write_text('{"x": 1}')
    kubernetes.apply(way.service(options.pods, options.room))
    bench.wait_service(SERVICE, START_SECONDS)
    with Watch(bench) as watch:
        kubernetes.apply(way.models(names, bench.uri(f"copies/{way.server}")))
        watch.wait("ready", len(names), START_SECONDS)
    gateway = bench.target(SERVICE)
    found: dict[str, list[common.Json]] = {}
    try:
        for shape, order in shapes(names).items():
            targets = [Target(f"{gateway.url}/predictions/{model}", gateway.host, body) for model in order]
            await common.attack(targets, folder, seconds=options.seconds, workers=CONNECTIONS, patience=ANSWER_SECONDS)
            for _ in range(options.rounds):
                taken = await _once(bench, targets, folder, options.seconds)
                found.setdefault(shape, []).append(taken)
                print(f"{time.strftime('%H:%M:%S')} {way.title}, {shape}: {taken}", flush=True)
    finally:
        kubernetes.kubectl("delete", "tm", "--all", "-n", NAMESPACE, "--timeout=600s", timeout=660)
        kubernetes.kubectl("delete", "isvc", SERVICE, "-n", NAMESPACE, "--timeout=600s", timeout=660)
    return {
        shape: {figure: spread([each[figure] for each in taken]) for figure in taken[0]}
        for shape, taken in found.items()
    }


async def _once(bench: Bench, targets: list[Target], folder: Path, seconds: float) -> dict[str, float]:
    before = bench.operator(SERVICE)
    found = await common.attack(targets, folder, seconds=seconds, workers=CONNECTIONS, patience=ANSWER_SECONDS)
    grown = usage.difference(bench.operator(SERVICE), before)
    loads = grown.get("shoal_model_activations_total", 0.0)
    return {
        "rate": round(found.rate, 1),
        "hit_rate": round(max(0.0, 1 - loads / max(1, found.requests)), 4),
        "p50": round(found.p50, 1),
        "p99": round(found.p99, 1),
        "failed": found.failed,
        "evictions": grown.get("shoal_model_evictions_total", 0.0),
    }


def text(result: common.Json) -> str:
    columns = [
        ("requests/s", "rate"),
        ("hit rate", "hit_rate"),
        ("p50 ms", "p50"),
        ("p99 ms", "p99"),
        ("failed", "failed"),
        ("evictions", "evictions"),
    ]
    lines = [
        common.heading(
            f"{result['models']:,} copies of one model, memory for {result['room']}, on two servers", result["context"]
        ),
        f"Median (least - most) of {result['rounds']} rounds of {result['seconds']:g} s, as fast as {CONNECTIONS}"
        f" connections take, on {result['pods']} pods, each server by itself. A row takes {1e3 * PAUSE_SECONDS:g} ms"
        f" in which a worker computes nothing else. Memory is for {result['room']} models of one worker; what may have"
        f" {WORKERS} counts so many times. *Eleven popular*: of nine requests eight go to {POPULAR} models. A hit:"
        " nothing had to be loaded for the request.\n",
    ]
    every = list(result["ways"])
    for shape in result["ways"][every[0]]:
        lines += [
            f"\n## {shape}\n",
            "| | " + " | ".join(title for title, _ in columns) + " |",
            "|---" * (len(columns) + 1) + "|",
        ]
        for way in sorted(every):
            lines.append(
                f"| {way} | " + " | ".join(_cell(result["ways"][way][shape][key]) for _, key in columns) + " |"
            )
    return "\n".join(lines) + "\n\n" + _worth(result) + "\n"


def _worth(result: common.Json) -> str:
    """One model's scaling against none, on the same server and memory."""
    _, _, fixed, scaled = (result["ways"][way.title] for way in WAYS)
    ratios = [
        f"{scaled[shape]['rate']['median'] / max(0.1, fixed[shape]['rate']['median']):.2f} times ({shape})"
        for shape in fixed
    ]
    return f"Requests/s of {WAYS[3].title} over {WAYS[2].title}: {', '.join(ratios)}."


def _cell(value: dict[str, Any]) -> str:
    return f"{value['median']:.4g} ({value['min']:.4g} - {value['max']:.4g})"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Copies of one model on DJL Serving and multi-model-server.")
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--room", type=int, default=ROOM, help="models of one worker that the pods' memory holds")
    parser.add_argument("--pods", type=int, default=PODS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each load")
    parser.add_argument("--keep", action="store_true", help="leave the namespaces")
    parser.add_argument("--as-is", metavar="COMMIT", help="measure what is installed, whose commit this is")
    options = parser.parse_args(arguments)
    if options.models <= POPULAR:
        parser.error(f"--models: more than the {POPULAR} popular ones")
    with (
        tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder,
        cluster.bench(NAMESPACE, as_is=bool(options.as_is)) as bench,
    ):
        result = asyncio.run(run(bench, options, Path(folder)))
    if not options.keep:
        cluster.clean(NAMESPACE, cluster.S3_NAMESPACE)
    report = text(result)
    print(report)
    for file in common.write("copies", result, report):
        print(f"written: {file.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

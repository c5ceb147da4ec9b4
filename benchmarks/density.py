"""Thousands of distinct models on a few pods: ``python -m benchmarks.density`` (make bench-density).

One run on the local cluster, through the chart: the same artifacts loaded by bare MLServers with a plain boto3 script;
then as many TrainedModels for one InferenceService, from the last object created until all are Ready and all answer
with their own index; what that cost the API server, etcd, operator, agents and Envoys; then vegeta over all models,
beside one model on one pod; then the operator restarted among them, and all of them deleted at once. Before, the same
number of objects is found by an operator that starts: that alone compares with bare servers, since kubectl takes longer
to create so many than they take to load.

Stages can be run one by one (``--stages``): what a stage found is kept under .local/bench until the report is written.
"""

import argparse
import asyncio
import base64
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from demo import kubernetes
from demo.predictions import v2_answer, v2_body, v2_path
from demo.settings import LOCAL, SYSTEM_NAMESPACE

from . import artifacts, bare, cluster, common, density_report, usage
from .cluster import Bench
from .common import Target
from .readiness import Watch
from .sweep import Endpoint, sweep

NAMESPACE: Final = "shoal-bench-density"
SERVICE: Final = "many"
SINGLE: Final = "single"
ARTIFACTS: Final = "density"
ATTACKS: Final = 3
RATES: Final = (25, 50, 100, 150, 200, 250, 500)
WORK: Final = LOCAL / "bench"
POD_MEMORY: Final = "512Mi"  # for models; the runtime adds the server's own
MODEL_MEMORY: Final = "128Ki"
VERSIONS: Final = {
    "vegeta": common.vegeta_version(),
    "kubernetes": common.module_version("k8s.io/kubernetes"),
}
READY_SECONDS: Final = 1500.0


@dataclass(frozen=True, slots=True)
class Run:
    """What this run is about."""

    models: int
    pods: int
    seconds: float
    bench: Bench
    work: Path

    @property
    def names(self) -> list[str]:
        return [artifacts.name(number) for number in range(self.models)]

    def endpoint(self, service: str) -> Endpoint:
        target = self.bench.target(service)
        return Endpoint(target.url, {"Host": target.host})


def prepare(run: Run) -> common.Json:
    """Artifacts in S3; the InferenceServices' pods ready, with no model."""
    started = time.perf_counter()
    uploaded = artifacts.upload(run.bench.objects, cluster.BUCKET, ARTIFACTS, run.models)
    print(f"  {uploaded} artifacts uploaded in {time.perf_counter() - started:.0f} s", flush=True)
    run.bench.service(SERVICE, run.pods, POD_MEMORY)
    run.bench.service(SINGLE, 1, POD_MEMORY)
    for service in (SERVICE, SINGLE):
        run.bench.wait_service(service)
    return {"artifact_bytes": len(artifacts.regression(0))}


def without(run: Run) -> common.Json:
    """The bare servers, and what they answer at the higher rates without agents and gateway."""
    work, seconds = run.work / "bare", ATTACKS * run.seconds
    return asyncio.run(
        bare.measure(run.bench.s3, ARTIFACTS, run.models, run.pods, work, rates=RATES[-2:], seconds=seconds)
    )


def start(run: Run) -> common.Json:
    """All objects are there, nothing is loaded, and the operator starts: until all are Ready. Neither kubectl nor the
    API server's part in creating objects is in this time, so it is what compares with bare servers' loading."""
    file = _objects(run)
    _scale_operator(0)
    with Watch(run.bench) as watch:
        kubernetes.kubectl("create", "-f", str(file), timeout=READY_SECONDS)
        watch.wait("created", run.models, READY_SECONDS)
        with _Costs(run) as costs:
            started = time.monotonic()
            _scale_operator(1)
            up = time.monotonic()
            ready = watch.wait("ready", run.models, READY_SECONDS)
            costs.until_now()
    ordered = sorted(watch.times.ready[name] - started for name in run.names)
    return {
        "seconds": round(ready - started, 2),
        "operator_up_seconds": round(up - started, 2),
        "half_seconds": round(ordered[len(ordered) // 2], 2),
        "sweep": asyncio.run(sweep({artifacts.name(n): (run.endpoint(SERVICE), float(n)) for n in range(run.models)})),
        **costs.found,
    }


def apply(run: Run) -> common.Json:
    """kubectl creates all; from the last one created until all are Ready, and until all have answered."""
    file = _objects(run)
    with Watch(run.bench) as watch, _Costs(run) as costs:
        started = time.monotonic()
        kubernetes.kubectl("create", "-f", str(file), timeout=READY_SECONDS)
        kubectl = time.monotonic() - started
        print(f"  kubectl took {kubectl:.0f} s", flush=True)
        ready = watch.wait("ready", run.models, READY_SECONDS)
        created = max(watch.times.created.values())
        costs.until_now()
    right = asyncio.run(sweep({artifacts.name(n): (run.endpoint(SERVICE), float(n)) for n in range(run.models)}))
    each = sorted(watch.times.ready[name] - watch.times.created[name] for name in run.names)
    return {
        "kubectl_seconds": round(kubectl, 2),
        "created_to_ready_seconds": round(ready - created, 2),
        "first_created_to_ready_seconds": round(ready - min(watch.times.created.values()), 2),
        "one_model_seconds": {
            "p50": round(each[len(each) // 2], 2),
            "p99": round(each[int(0.99 * (len(each) - 1))], 2),
            "max": round(each[-1], 2),
        },
        "watch_events_per_model": round(watch.times.events / run.models, 3),
        "sweep": right,
        **costs.found,
    }


def attack(run: Run) -> common.Json:
    """Vegeta over all models and over the single one, in turn at each rate; every answer checked."""
    name = "the-one"
    uri = run.bench.uri(artifacts.key(ARTIFACTS, 1))
    kubernetes.apply(cluster.trained_models({name: uri}, NAMESPACE, SINGLE, MODEL_MEMORY))
    kubernetes.kubectl("wait", "--for=condition=Ready", f"tm/{name}", "-n", NAMESPACE, "--timeout=120s")
    everything = {artifacts.name(number): float(number) for number in range(run.models)}
    ways = {"many": (SERVICE, everything), "single": (SINGLE, {name: 1.0})}
    for warm in ways.values():  # connections and code
        asyncio.run(_attack(run, *warm, 25, 3.0))
    rows = []
    for rate in RATES:
        each: dict[str, list[common.Json]] = {way: [] for way in ways}
        for number in range(ATTACKS):
            for way in list(ways) if number % 2 == 0 else list(reversed(ways)):
                found = asyncio.run(_attack(run, *ways[way], rate, run.seconds))
                each[way].append(found)
                print(f"  {rate}/s {way}: p50 {found['p50']:.2f} p99 {found['p99']:.2f} ms", flush=True)
        rows.append({"rate": rate, **{way: _median(found) for way, found in each.items()}})
    return {"seconds": run.seconds, "attacks": ATTACKS, "rates": rows}


def restart(run: Run) -> common.Json:
    """Another operator finds all of it: until it has taken over, and what it wrote and loaded again."""
    before = usage.api_writes(run.bench.api.get("/metrics").text)
    loads = _loads(run)
    started = time.monotonic()
    kubernetes.kubectl("rollout", "restart", f"deployment/{cluster.OPERATOR}", "-n", SYSTEM_NAMESPACE)
    kubernetes.kubectl(
        *("rollout", "status", f"deployment/{cluster.OPERATOR}", "-n", SYSTEM_NAMESPACE, "--timeout=300s"), timeout=330
    )
    seconds = time.monotonic() - started
    time.sleep(5)  # what it would write, it would write now
    right = asyncio.run(sweep({artifacts.name(n): (run.endpoint(SERVICE), float(n)) for n in range(run.models)}))
    writes = usage.difference(usage.api_writes(run.bench.api.get("/metrics").text), before)
    used = usage.of_pods(cluster.system_pods())
    return {
        "seconds": round(seconds, 2),
        "status_writes": sum(count for what, count in writes.items() if "trainedmodels" in what),
        "loads": _loads(run) - loads,
        "sweep": right,
        "operator": asdict(used["operator"]) if "operator" in used else None,
    }


def delete(run: Run) -> common.Json:
    """One call deletes all; until the last object is gone and the agents hold nothing."""
    with Watch(run.bench) as watch, _Costs(run) as costs:
        started = time.monotonic()
        path = f"/apis/serving.kserve.io/v1alpha1/namespaces/{NAMESPACE}/trainedmodels"
        # The API server ends a request after a minute, and has deleted what it had come to by then.
        while run.bench.api.delete(path, timeout=READY_SECONDS).is_server_error:
            print(f"  {len(watch.times.gone)} deleted", flush=True)
        gone = watch.wait("gone", run.models, READY_SECONDS)
        while _agents(run, "shoal_agent_serving"):
            time.sleep(0.5)
        unloaded = time.monotonic()
        costs.until_now()
    kubernetes.kubectl("delete", "isvc", "--all", "-n", NAMESPACE, "--timeout=120s")  # their pods keep artifacts
    return {
        "gone_seconds": round(gone - started, 2),
        "unloaded_seconds": round(unloaded - started, 2),
        **costs.found,
    }


STAGES: Final[dict[str, Callable[[Run], common.Json]]] = {
    "prepare": prepare,
    "bare": without,
    "start": start,
    "apply": apply,
    "attack": attack,
    "restart": restart,
    "delete": delete,
}


# What is loaded twice comes to new pods: the agents of the old ones keep what they pulled.
ORDER: Final = ("prepare", "bare", "start", "delete", "prepare", "apply", "attack", "restart", "delete")


class _Costs:
    """What the API server, etcd and the containers had to do between entering and ``until_now``."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.found: common.Json = {}

    def __enter__(self) -> "_Costs":
        self._before = self._now()
        self._started, self._machine, self._own = time.monotonic(), usage.machine(), usage.own()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def until_now(self) -> None:
        seconds = time.monotonic() - self._started
        machine, own = usage.machine() - self._machine, usage.own() - self._own
        pods, system, programs, etcd, writes = self._now()
        run, before = self._run, self._before
        counted = usage.difference(writes, before[4])
        stored = usage.difference(etcd, before[3])
        self.found = {
            "cost_seconds": round(seconds, 1),
            "machine_cpu_seconds": round(machine, 1),
            "kubectl_and_client_cpu_seconds": round(own, 1),
            "servers_and_agents": usage.since(pods, before[0]),
            "system": usage.since(system, before[1]),
            "programs": usage.since(programs, before[2]),
            "etcd": stored,
            "etcd_per_model": {name: round(value / run.models, 2) for name, value in stored.items()},
            "api_writes": dict(sorted(counted.items(), key=lambda entry: -entry[1])[:12]),
            "status_writes_per_model": round(
                sum(value for name, value in counted.items() if "trainedmodels/status" in name) / run.models, 4
            ),
            "writes_per_model": round(
                sum(value for name, value in counted.items() if "leases" not in name) / run.models, 4
            ),
        }

    def _now(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, float], dict[str, float]]:
        bench = self._run.bench
        return (
            usage.of_pods(bench.pods(SERVICE)),
            usage.of_pods(cluster.system_pods()),
            usage.of_programs(),
            usage.etcd(),
            usage.api_writes(bench.api.get("/metrics").text),
        )


def _median(found: list[common.Json]) -> common.Json:
    """Of each latency over the attacks: one bad moment of the machine is not the result. Counts are summed."""
    summed = {name: sum(each[name] for each in found) for name in ("requests", "failed", "wrong")}
    latencies = ("mean", "p50", "p90", "p95", "p99", "max")
    return summed | {name: statistics.median(each[name] for each in found) for name in latencies}


async def _attack(run: Run, service: str, right: dict[str, float], rate: int, seconds: float) -> common.Json:
    """Over the models of ``right`` in turn, which says what each answers."""
    body = run.work / "body.json"
    body.write_text(json.dumps(v2_body(list(artifacts.ROW))))
    target = run.bench.target(service)
    targets = [Target(target.url + v2_path(name), target.host, body) for name in right]
    found = await common.attack(targets, run.work, seconds=seconds, rate=rate)
    wrong = await asyncio.to_thread(_wrong, found.results, right)
    found.results.unlink()
    result = asdict(found)
    del result["results"]
    return result | {"wrong": wrong}


def _wrong(results: Path, right: dict[str, float]) -> int:
    """Requests whose answer was none, or another model's."""
    encoded = subprocess.run([str(common.VEGETA), "encode", "-to=json", str(results)], check=True, capture_output=True)
    wrong = 0
    for line in encoded.stdout.splitlines():
        answer = json.loads(line)
        try:
            got = v2_answer(json.loads(base64.b64decode(answer["body"])))
        except (ValueError, LookupError, TypeError):
            got = None
        wrong += got != right[answer["url"].rsplit("/", 2)[1]]
    return wrong


def _objects(run: Run) -> Path:
    file = run.work / "trained-models.yaml"
    uris = {artifacts.name(n): run.bench.uri(artifacts.key(ARTIFACTS, n)) for n in range(run.models)}
    file.write_text(cluster.trained_models(uris, NAMESPACE, SERVICE, MODEL_MEMORY))
    return file


def _scale_operator(replicas: int) -> None:
    deployment = f"deployment/{cluster.OPERATOR}"
    kubernetes.kubectl("scale", deployment, "-n", SYSTEM_NAMESPACE, f"--replicas={replicas}")
    kubernetes.kubectl("rollout", "status", deployment, "-n", SYSTEM_NAMESPACE, "--timeout=300s", timeout=330)


def _loads(run: Run) -> float:
    return _agents(run, "shoal_agent_load_seconds_count")


def _agents(run: Run, metric: str) -> float:
    return run.bench.agents(SERVICE).get(metric, 0.0) + run.bench.agents(SINGLE).get(metric, 0.0)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure many models on few pods.")
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--pods", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=7.0, help="length of each attack")
    parser.add_argument("--stages", default=",".join(ORDER), help="some of " + ",".join(STAGES))
    parser.add_argument("--keep", action="store_true", help="leave namespaces and findings for the next stages")
    parser.add_argument("--as-is", metavar="COMMIT", help="measure what is installed, whose commit this is")
    options = parser.parse_args(arguments)
    WORK.mkdir(parents=True, exist_ok=True)
    kept = WORK / f"density-{options.models}-{options.pods}.json"
    result: common.Json = json.loads(kept.read_text()) if kept.exists() else {}
    result |= {"models": options.models, "pods": options.pods}
    result.setdefault("context", common.context(options.as_is, **VERSIONS))
    with cluster.bench(NAMESPACE, as_is=bool(options.as_is)) as found:
        run = Run(options.models, options.pods, options.seconds, found, WORK)
        for stage in options.stages.split(","):
            print(f"{time.strftime('%H:%M:%S')} {stage}", flush=True)
            result[stage] = STAGES[stage](run) | {"context": common.context(options.as_is)}
            kept.write_text(json.dumps(result, indent=1))
            print(json.dumps(result[stage], indent=1), flush=True)
    if not options.keep:
        cluster.clean(NAMESPACE, cluster.S3_NAMESPACE)
        kept.unlink()
    if all(stage in result for stage in ("bare", "apply")):
        report = density_report.text(result)
        print(report)
        for file in common.write(
            "density" if options.models == 10_000 else f"density-{options.models}", result, report
        ):
            print(f"written: {file.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

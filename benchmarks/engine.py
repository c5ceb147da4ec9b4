"""What one model's change costs among many others: ``python -m benchmarks.engine`` (part of make bench-plan).

State and placement exactly as the operator runs them, without the edges: agents that do at once what they are told.
Nothing may do work for all models because one has changed, so the costs of one should not grow with the others. Each
size runs in a process of its own.
"""

import argparse
import gc
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shoal_api.messages import Action, CopyPhase, ServerReport, SlotReport, SyncRequest, content_digest
from shoal_operator.engine import Engine
from shoal_operator.state import events
from shoal_operator.state.effects import Effect
from shoal_operator.state.values import ModelKey, ModelSpec, PodSpec, ServiceKey, ServiceSpec
from shoal_operator.state.world import World

from . import common

SERVICE: Final = ServiceKey("default", "models")
MEMORY: Final = 1 << 20
SIZES: Final = ((1_000, 6), (10_000, 6), (10_000, 60), (100_000, 600))
REPORTED: Final = 100  # slots in one report of an agent
CHANGES: Final = 200


@dataclass
class Agent:
    """Loads at once what its pod should hold, and reports what changed."""

    pod: str
    held: int = 0
    version: int = 0
    pending: list[SlotReport] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def obey(self, world: World) -> None:
        change = world.pods[self.pod].desired.since(self.held)
        if change is None:
            return
        self.held = change.version
        self.pending += [_slot(intent.name, intent.copy_id, intent.action) for intent in change.intents]
        self.gone += list(change.gone)

    def report(self) -> events.AgentReported:
        """The next part of what is to be told; an empty report is a poll."""
        told, self.pending = self.pending[:REPORTED], self.pending[REPORTED:]
        gone, self.gone = self.gone, []
        self.version += 1
        return events.AgentReported(
            SyncRequest(
                namespace=SERVICE.namespace,
                pod=self.pod,
                pod_uid=self.pod,
                session="0000000001",
                epoch=1,
                server=ServerReport(type="mlserver", ready=True),
                observed_version=self.version,
                observed_base=self.version - 1 or None,
                observed=told,
                observed_gone=gone,
                desired_version=self.held,
            )
        )


class Turns:
    """Feeds an engine and keeps the CPU time of each turn: an event, or one piece of a plan."""

    def __init__(self, models: int, pods: int) -> None:
        self.models = models
        self.world = World()
        self.engine = Engine(self.world)
        self.agents = [Agent(f"pod-{number}") for number in range(pods)]
        self.now = 0.0
        self.turns: list[float] = []
        self._names = itertools.count()

    def do(self, event: events.Event) -> None:
        self._turn(lambda: self.engine.handle(event, self.now))
        while self.engine.unsettled:
            self._turn(lambda: self.engine.settle_one(self.now))

    def settle(self) -> None:
        """Agents and Envoys do what there is to do, until nothing changes any more."""
        busy = True
        while busy:
            busy = False
            for agent in self.agents:
                agent.obey(self.world)
                while agent.pending or agent.gone:
                    busy = True
                    self.do(agent.report())
            self.do(events.GatewayAcknowledged(self.world.sequence))

    def begin(self, *, room: float) -> None:
        """A recovered operator, an InferenceService whose pods hold ``room`` times the models, agents connected."""
        capacity = int(self.models * room / len(self.agents)) * MEMORY
        self.do(events.ServiceSeen(_service(capacity, len(self.agents))))
        for agent in self.agents:
            self.do(events.PodSeen(_pod(agent.pod, capacity)))
        self.do(events.EpochClaimed(1))
        self.do(events.StoreLoaded(()))
        for kind in events.Kind:
            self.do(events.Listed(kind, _listed(self.world, kind)))
        for agent in self.agents:
            self.do(agent.report())

    def add(self, count: int) -> list[str]:
        """So many more models, seen in one go; their names."""
        names = [f"m{next(self._names):07d}" for _ in range(count)]
        for name in names:
            self._turn(lambda name=name: self.engine.handle(events.ModelSeen(_model(name)), self.now))  # type: ignore[misc]
        while self.engine.unsettled:
            self._turn(lambda: self.engine.settle_one(self.now))
        return names

    def _turn(self, work: Callable[[], list[Effect]]) -> None:
        started = time.thread_time()
        work()
        self.turns.append(time.thread_time() - started)


def measure(models: int, pods: int) -> common.Json:
    """One size: all models applied at once, one more and one fewer; one cold model asked for."""
    return {"models": models, "pods": pods} | _with_room(models, pods) | _without(models, pods)


def _with_room(models: int, pods: int) -> common.Json:
    gc.collect()
    before = _resident()
    turns = Turns(models, pods)
    turns.begin(room=1.25)
    turns.turns.clear()
    turns.add(models)
    turns.settle()
    assert sum(len(pod.copies) for pod in turns.world.pods.values()) == models
    return {
        "all_seconds": sum(turns.turns),
        "longest_turn_ms": 1e3 * max(turns.turns),
        "bytes_a_model": (_resident() - before) / models,
        "one_more_us": _each(turns, _add_one),
        "deleted_us": _each(turns, _delete_one),
    }


def _without(models: int, pods: int) -> common.Json:
    gc.collect()
    turns = Turns(models, pods)
    turns.begin(room=0.5)
    turns.add(models)
    turns.settle()
    return {"cold_us": _each(turns, _ask_one)}


def _each(turns: Turns, work: Callable[[Turns], None]) -> float:
    """Mean CPU microseconds of the engine for one of CHANGES."""
    turns.turns.clear()
    for _ in range(CHANGES):
        turns.now += 1.0
        work(turns)
    return 1e6 * sum(turns.turns) / CHANGES


def _add_one(turns: Turns) -> None:
    turns.add(1)
    turns.settle()


def _delete_one(turns: Turns) -> None:
    key = next(iter(turns.world.models))
    turns.do(events.ModelGone(key, turns.world.models[key].spec.uid))
    turns.settle()
    turns.now += 2.0
    turns.do(events.Tick())
    turns.settle()


def _ask_one(turns: Turns) -> None:
    """A request for a model that is loaded nowhere: loaded, and another makes way."""
    service = turns.world.services[SERVICE]
    key = next(iter(service.cold))
    turns.do(events.Requested(SERVICE, key.name))
    turns.settle()


def _service(capacity: int, pods: int) -> ServiceSpec:
    return ServiceSpec(
        namespace=SERVICE.namespace,
        name=SERVICE.name,
        uid="service",
        generation=1,
        capacity_bytes=capacity,
        formats=frozenset({"sklearn"}),
        server_type="mlserver",
        min_replicas=pods,
        max_replicas=pods,
    )


def _pod(uid: str, capacity: int) -> PodSpec:
    return PodSpec(
        namespace=SERVICE.namespace, name=uid, uid=uid, service=SERVICE.name, ip="10.0.0.1", capacity_bytes=capacity
    )


def _model(name: str) -> ModelSpec:
    uri = f"s3://models/{name}"
    return ModelSpec(
        namespace=SERVICE.namespace,
        name=name,
        uid=f"uid-{name}",
        generation=1,
        service=SERVICE.name,
        storage_uri=uri,
        framework="sklearn",
        memory_bytes=MEMORY,
        content=content_digest(uri, "sklearn"),
    )


def _slot(name: str, copy: str, action: Action) -> SlotReport:
    if action is Action.LOAD:
        return SlotReport(name=name, serving=copy, target=copy, phase=CopyPhase.LOADED, artifact_bytes=500)
    phase = CopyPhase.SEEN if action is Action.STAT else CopyPhase.PULLED
    return SlotReport(name=name, target=copy, phase=phase, action=action, artifact_bytes=500)


def _listed(world: World, kind: events.Kind) -> dict[tuple[str, str], str]:
    match kind:
        case events.Kind.SERVICE:
            return {(key.namespace, key.name): service.spec.uid for key, service in world.services.items()}
        case events.Kind.POD:
            return {(pod.spec.namespace, pod.spec.name): uid for uid, pod in world.pods.items()}
        case _:
            return {ModelKey(*key): model.spec.uid for key, model in world.models.items()}


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def text(result: common.Json) -> str:
    rows = "".join(
        f"| {size['models']:,} on {size['pods']:,} pods | {size['all_seconds']:.2f}"
        f" | {1e6 * size['all_seconds'] / size['models']:.0f} | {size['longest_turn_ms']:.1f}"
        f" | {size['one_more_us']:.0f} | {size['deleted_us']:.0f} | {size['cold_us']:.0f}"
        f" | {size['bytes_a_model'] / 1e3:.1f} |\n"
        for size in result["sizes"]
    )
    return (
        common.heading("State and placement: one change among many models", result["context"])
        + "CPU of the operator's core, which is one thread: from the first object to every model's route and status."
        " Nothing else of the operator runs during a turn.\n\n"
        "| | all applied at once, s | us a model | longest turn, ms | one more model, us | one deleted, us"
        " | one cold request, memory full, us | kB a model |\n" + "|---" * 8 + "|\n" + rows
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure state and placement.")
    parser.add_argument("--size", help="MODELSxPODS: measure it in this process and print it")
    options = parser.parse_args(arguments)
    if options.size:
        models, pods = map(int, options.size.split("x"))
        print(json.dumps(measure(models, pods)))
        return 0
    result: common.Json = {"context": common.context(), "sizes": []}
    for models, pods in SIZES:
        print(f"{models:,} models on {pods:,} pods", flush=True)
        command = [sys.executable, "-m", "benchmarks.engine", "--size", f"{models}x{pods}"]
        done = subprocess.run(command, cwd=common.REPOSITORY, check=True, capture_output=True, text=True)
        result["sizes"].append(json.loads(done.stdout))
    report = text(result)
    print(report)
    for file in common.write("engine", result, report):
        print(f"written: {file.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

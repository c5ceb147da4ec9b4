"""One size of ``benchmarks.engine``, in a process of its own: ``python benchmarks/engine_size.py MODELSxPODS``.

Needs nothing of this repository but the operator on PYTHONPATH, so that another commit's can be measured by the same
file: what has another name there is found by both. Prints JSON.
"""

import gc
import itertools
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from shoal_api.messages import Action, CopyPhase, ServerReport, SlotReport, SyncRequest, content_digest
from shoal_operator.engine import Engine
from shoal_operator.gateway.tables import GatewayTables


def _moved(*names: str) -> Any:
    for name in names[:-1]:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return import_module(names[-1])


events: Final = _moved("shoal_operator.state.world.events", "shoal_operator.state.events")
effects: Final = _moved("shoal_operator.state.world.effects", "shoal_operator.state.effects")
entities: Final = _moved("shoal_operator.state.world.entities", "shoal_operator.state.world")
values: Final = _moved("shoal_operator.state.world.values", "shoal_operator.state.values")
facts: Final = getattr(_moved("shoal_operator.agents.border", "builtins"), "facts", lambda message: message)
"""Of an agent's message, where the state does not take the message itself."""
rebuild: Final = _moved("shoal_operator.state.rebuild", "builtins")
garbage: Final = _moved("shoal_operator.garbage", "gc")
"""How the operator has Python collect garbage; ``gc`` itself where it only sets thresholds."""

SERVICE: Final = values.ServiceKey("default", "models")
MEMORY: Final = 1 << 20
REPORTED: Final = 100  # slots in one report of an agent
CHANGES: Final = 50


@dataclass
class Agent:
    """Loads at once what its pod should hold, and reports what changed."""

    pod: str
    held: int = 0
    version: int = 0
    pending: list[SlotReport] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    slots: dict[str, SlotReport] = field(default_factory=dict)
    session: int = 1

    def obey(self, world: Any) -> None:
        change = world.pods[self.pod].desired.since(self.held)
        if change is None:
            return
        self.held = change.version
        told = {intent.name: _slot(intent.name, intent.copy_id, intent.action) for intent in change.intents}
        gone = list(change.gone) if change.base is not None else [name for name in self.slots if name not in told]
        self.pending += [slot for name, slot in told.items() if self.slots.get(name) != slot]
        self.slots |= told
        self.gone += gone
        for name in gone:
            self.slots.pop(name, None)

    def report(self, *, everything: bool = False, ready: bool = True, epoch: int = 1) -> Any:
        """The next part of what is to be told; an empty report is a poll."""
        told, self.pending = self.pending[:REPORTED], self.pending[REPORTED:]
        gone, self.gone = self.gone, []
        self.version += 1
        return events.AgentReported(
            facts(
                SyncRequest(
                    namespace=SERVICE.namespace,
                    pod=self.pod,
                    pod_uid=self.pod,
                    session=f"{self.session:010d}",
                    epoch=epoch,
                    server=ServerReport(type="mlserver", ready=ready),
                    observed_version=self.version,
                    observed_base=None if everything or self.version == 1 else self.version - 1,
                    observed=list(self.slots.values()) if everything else told,
                    observed_gone=gone,
                    desired_version=self.held,
                )
            )
        )


class Turns:
    """Feeds an engine and the gateway's tables, and keeps the CPU time of each turn of the loop: an event, a piece of a
    plan, a piece of work for many, a garbage collection of its own; others that happen within one count with it."""

    def __init__(self, models: int, pods: int, agents: list[Agent] | None = None) -> None:
        self.models = models
        self.world = entities.World()
        self.engine = Engine(self.world)
        self.tables = GatewayTables()
        self.agents = agents or [Agent(f"pod-{number}") for number in range(pods)]
        self.now = 0.0
        self.turns: list[float] = []
        self.emitted: Counter[str] = Counter()
        self._names = itertools.count()
        self._since_tended = 0.0

    def do(self, event: Any) -> None:
        self.turn(lambda: self.engine.handle(event, self.now))
        self.work_off()

    def work_off(self) -> None:
        engine: Any = self.engine
        while engine.has_work if hasattr(Engine, "work") else engine.unsettled:
            work = engine.work if hasattr(Engine, "work") else engine.settle_one
            self.turn(lambda work=work: work(self.now))  # type: ignore[misc]

    def until_quiet(self) -> None:
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
        self.capacity = int(self.models * room / len(self.agents)) * MEMORY
        self.do(events.ServiceSeen(_service(self.capacity, len(self.agents))))
        for agent in self.agents:
            self.do(events.PodSeen(_pod(agent.pod, self.capacity)))
        self.recover()
        for agent in self.agents:
            self.do(agent.report())
            self.do(events.PodSeen(replace(_pod(agent.pod, self.capacity), ready=True, gate_open=True)))

    def recover(self, epoch: int = 1) -> None:
        self.do(events.EpochClaimed(epoch))
        self.do(events.StoreLoaded(()))
        for kind in events.Kind:
            self.do(_listed(self.world, kind))

    def add(self, names: Iterable[str]) -> None:
        """Models seen in one go."""
        for name in names:
            self.turn(lambda name=name: self.engine.handle(events.ModelSeen(model(name)), self.now))  # type: ignore[misc]
        self.work_off()

    def new_names(self, count: int) -> list[str]:
        return [f"m{next(self._names):07d}" for _ in range(count)]

    def turn(self, work: Callable[[], list[Any]]) -> None:
        started = time.thread_time()
        found = work()
        self.tables.apply(found)
        self.turns.append(time.thread_time() - started)
        self.emitted.update(type(effect).__name__ for effect in found)
        self._tend(any(isinstance(effect, effects.Recovered) for effect in found))

    def _tend(self, recovered: bool) -> None:
        """What main.py does about garbage."""
        started = time.thread_time()
        if garbage is gc:
            if recovered:
                gc.freeze()
            return
        self._since_tended += self.turns[-1]
        if self._since_tended >= garbage.EVERY_SECONDS:
            self._since_tended = 0.0
            garbage.tend()
            self.turns.append(time.thread_time() - started)


def measure(models: int, pods: int) -> dict[str, Any]:
    """All models applied at once; the service unusable and usable again; another pod; the operator started again; all
    models deleted. Then, where memory is for half of them, cold models asked for."""
    result = {"models": models, "pods": pods} | _with_room(models, pods)
    return result | _without(models, pods)


def _with_room(models: int, pods: int) -> dict[str, Any]:
    before = _resident()
    turns = Turns(models, pods)
    turns.begin(room=1.25)
    turns.turns.clear()
    turns.add(turns.new_names(models))
    turns.until_quiet()
    assert sum(len(pod.copies) for pod in turns.world.pods.values()) == models
    found: dict[str, Any] = {"apply": _costs(turns), "bytes_a_model": (_resident() - before) / models}
    found["one_more_us"] = _each(turns, _add_one)
    found["deleted_us"] = _each(turns, _delete_one)
    for what, work in (
        ("unusable", _unusable_and_usable),
        ("join", _join),
        ("rebuild", _rebuild),
        ("delete", _delete_all),
    ):
        if what == "delete":
            found["restart"] = _restart(turns)
        if what == "rebuild" and not hasattr(rebuild, "Rebuild"):
            continue  # an older commit's is one step, or none
        turns.turns.clear()
        turns.emitted.clear()
        work(turns)
        found[what] = _costs(turns)
        found[what] |= {"routes": turns.emitted["RouteChanged"]}
    return found


def _unusable_and_usable(turns: Turns) -> None:
    """Something is wrong with the InferenceService, and is mended."""
    for generation, problem in ((2, values.Problem("Wrong", "mend it")), (3, None)):
        pods = len(turns.agents)
        turns.do(events.ServiceSeen(replace(_service(turns.capacity, pods, generation), problem=problem)))
        turns.do(events.GatewayAcknowledged(turns.world.sequence))
        turns.now += 2.0


def _join(turns: Turns) -> None:
    """One pod more, and the first rounds of evening out."""
    agent = Agent("pod-new")
    turns.agents.append(agent)
    turns.do(events.ServiceSeen(_service(turns.capacity, len(turns.agents), generation=4)))
    turns.do(events.PodSeen(replace(_pod(agent.pod, turns.capacity), ready=True, gate_open=True)))
    turns.do(agent.report())
    for _ in range(3):
        turns.until_quiet()
        turns.now += 2.0
        turns.do(events.Tick())


def _rebuild(turns: Turns) -> None:
    """An exception: the InferenceService is taken out, its agents report everything, and it is put back."""
    known: Any = None

    def take_out() -> list[Any]:
        nonlocal known
        known, found = turns.engine.take_out(SERVICE, turns.now)
        return list(found)

    turns.turn(take_out)
    for agent in turns.agents:
        report = agent.report(everything=True)
        turns.turn(lambda report=report: [known.note(report)][:0])  # type: ignore[misc]
    back = rebuild.Rebuild(turns.world, known)
    while not back.done:
        turns.turn(lambda: turns.engine.advance(back, turns.now))
    turns.work_off()
    assert sum(len(pod.copies) for pod in turns.world.pods.values()) >= len(turns.world.models) > 0


def _delete_all(turns: Turns) -> None:
    for key, gone in list(turns.world.models.items()):
        turns.do(events.ModelGone(key, gone.spec.uid))
    turns.do(events.GatewayAcknowledged(turns.world.sequence))
    turns.now += 2.0
    turns.do(events.Tick())
    turns.until_quiet()
    assert not any(pod.copies for pod in turns.world.pods.values())


def _restart(old: Turns) -> dict[str, Any]:
    """Another operator: told of all objects, then by all agents what they hold; from its last list until it is done."""
    agents = [replace(agent, version=0, pending=[], gone=[], session=2) for agent in old.agents]
    turns = Turns(old.models, len(agents), agents)
    turns.do(events.ServiceSeen(_service(old.capacity, len(agents))))
    for agent in agents:
        turns.do(events.PodSeen(replace(_pod(agent.pod, old.capacity), ready=True, gate_open=True)))
    turns.add(key.name for key in old.world.models)
    for agent in agents:
        turns.do(agent.report(everything=True))
    turns.turns.clear()
    turns.recover(epoch=2)
    assert not turns.world.recovering
    assert sum(len(pod.copies) for pod in turns.world.pods.values()) >= len(old.world.models)
    return _costs(turns)


def _without(models: int, pods: int) -> dict[str, Any]:
    gc.collect()
    turns = Turns(models, pods)
    turns.begin(room=0.5)
    turns.add(turns.new_names(models))
    turns.until_quiet()
    turns.now += 60.0
    decisions: list[float] = []
    turns.turns.clear()
    for _ in range(CHANGES):
        turns.now += 1.0
        key = next(iter(turns.world.services[SERVICE].cold))
        before = len(turns.turns)
        turns.do(events.Requested(SERVICE, key.name))
        decisions.append(sum(turns.turns[before:]))
        turns.until_quiet()
    return {
        "decision_us": 1e6 * sum(decisions) / CHANGES,
        "decisions_a_second": CHANGES / sum(decisions),
        "cold_us": 1e6 * sum(turns.turns) / CHANGES,
        "cold": _costs(turns),
    }


def _costs(turns: Turns) -> dict[str, Any]:
    """``over``: turns of more than 50 ms."""
    ordered = sorted(turns.turns)
    return {
        "seconds": sum(ordered),
        "longest_ms": 1e3 * ordered[-1],
        "second_longest_ms": 1e3 * ordered[-2],
        "over": sum(turn > 0.05 for turn in ordered),
        "turns": len(ordered),
    }


def _each(turns: Turns, work: Callable[[Turns], None]) -> float:
    """Mean CPU microseconds of the engine for one of CHANGES."""
    turns.turns.clear()
    for _ in range(CHANGES):
        turns.now += 1.0
        work(turns)
    return 1e6 * sum(turns.turns) / CHANGES


def _add_one(turns: Turns) -> None:
    turns.add(turns.new_names(1))
    turns.until_quiet()


def _delete_one(turns: Turns) -> None:
    key = next(iter(turns.world.models))
    turns.do(events.ModelGone(key, turns.world.models[key].spec.uid))
    turns.until_quiet()
    turns.now += 2.0
    turns.do(events.Tick())
    turns.until_quiet()


def _service(capacity: int, pods: int, generation: int = 1) -> Any:
    return values.ServiceSpec(
        namespace=SERVICE.namespace,
        name=SERVICE.name,
        uid="service",
        generation=generation,
        capacity_bytes=capacity,
        formats=frozenset({"sklearn"}),
        server_type="mlserver",
        min_replicas=pods,
        max_replicas=pods,
    )


def _pod(uid: str, capacity: int) -> Any:
    return values.PodSpec(
        namespace=SERVICE.namespace,
        name=uid,
        uid=uid,
        service=SERVICE.name,
        ip="10.0.0.1",
        capacity_bytes=capacity,
        http_port=8080,
        grpc_port=8081,
    )


def model(name: str) -> Any:
    uri = f"s3://models/{name}"
    return values.ModelSpec(
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


def _listed(world: Any, kind: Any) -> Any:
    if len(fields(events.Listed)) == 1:
        return events.Listed(kind)
    match kind.name:
        case "SERVICE":
            return events.Listed(kind, {(k.namespace, k.name): each.spec.uid for k, each in world.services.items()})
        case "POD":
            return events.Listed(kind, {(p.spec.namespace, p.spec.name): uid for uid, p in world.pods.items()})
        case _:
            return events.Listed(kind, {(k.namespace, k.name): each.spec.uid for k, each in world.models.items()})


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> int:
    if garbage is gc:
        gc.set_threshold(50_000, 50, 100)
    else:
        garbage.begin()
    models, pods = map(int, sys.argv[1].split("x"))
    print(json.dumps(measure(models, pods)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What ``benchmarks.engine`` times: the operator's core without its edges, a turn of its loop at a time.

Needs nothing but the operator on PYTHONPATH, so that another commit's can be measured by the same file: what has
another name there is found by both.
"""

import gc
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from typing import Any, ClassVar, Final

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

    busy: ClassVar[bool] = False
    """One of them has made something since the last turn."""

    def obey(self, world: Any) -> None:
        change = world.pods[self.pod].desired.since(self.held)
        if change is None:
            return
        Agent.busy = True
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
        Agent.busy = True
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
        self.do(events.ServiceSeen(service_spec(self.capacity, len(self.agents))))
        for agent in self.agents:
            self.do(events.PodSeen(pod_spec(agent.pod, self.capacity)))
        self.recover()
        for agent in self.agents:
            self.do(agent.report())
            self.do(events.PodSeen(replace(pod_spec(agent.pod, self.capacity), ready=True, gate_open=True)))

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
        self._end_turn_of_others()
        started = time.thread_time()
        found = work()
        self.tables.apply(found)
        if hasattr(garbage, "end_turn"):
            garbage.end_turn(len(found))  # as core.py does
        self.turns.append(time.thread_time() - started)
        self.emitted.update(type(effect).__name__ for effect in found)
        self._tend(any(isinstance(effect, effects.Recovered) for effect in found))

    @staticmethod
    def _end_turn_of_others() -> None:
        """What agents have made since, which is on other machines, is no turn's: collected by the same rule."""
        if Agent.busy and hasattr(garbage, "end_turn"):
            while garbage.end_turn():
                pass
        Agent.busy = False

    def _tend(self, recovered: bool) -> None:
        """What an earlier main.py did about garbage."""
        if hasattr(garbage, "end_turn"):
            return
        if garbage is gc:
            if recovered:
                gc.freeze()
            return
        started = time.thread_time()
        self._since_tended += self.turns[-1]
        if self._since_tended >= garbage.EVERY_SECONDS:
            self._since_tended = 0.0
            garbage.tend()
            self.turns.append(time.thread_time() - started)


def service_spec(capacity: int, pods: int, generation: int = 1) -> Any:
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


def pod_spec(uid: str, capacity: int) -> Any:
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

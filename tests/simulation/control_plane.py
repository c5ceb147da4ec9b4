"""The simulated operator process: the real engine, what carries its effects out, and what tells it of the cluster."""

import hashlib
import random
from collections import deque
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from shoal_operator.engine import Engine
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import (
    ClaimEpoch,
    CopyForgotten,
    CopyStored,
    DeletionCost,
    Effect,
    Failed,
    GateChanged,
    ModelStatusChanged,
    PodEndpointChanged,
    Recovered,
    ReplicasWanted,
    RouteChanged,
    ServiceRouteChanged,
    ServiceStatusChanged,
    WakeAt,
)
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.values import ServiceKey, Source

from .options import TIMING
from .parts import SimEnvoy

if TYPE_CHECKING:
    from .simulation import Simulation


def in_words(effect: Effect) -> str:
    """The effect as text; sets in order, whatever this process's order of them is."""
    values = (getattr(effect, field.name) for field in fields(effect))
    return f"{type(effect).__name__} {[sorted(v) if isinstance(v, frozenset) else v for v in values]}"


class Digest:
    """Of all effects. A copy of the world begins its own."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, text: str) -> None:
        self._hash.update(text.encode())

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return Digest, ()


def _no_time() -> float:
    return 0.0


def _not_told(*_: Any) -> None:
    """Nobody wants to know how long plans take."""


class ControlPlane:
    """``engine`` None: no operator runs."""

    def __init__(self, simulation: "Simulation", rng: random.Random) -> None:
        self.simulation = simulation
        self.rng = rng
        self.loop = simulation.loop
        self.engine: Engine | None = None
        self.generation = 0
        self.lease = 0
        self.store: dict[tuple[str, str], CopyStored] = {}
        self.envoys = [SimEnvoy(), SimEnvoy()]
        self.endpoints: set[str] = set()  # pods that the gateway knows the address of
        self.absent: dict[ServiceKey, float] = {}  # InferenceServices without a pod, as the activator knows, since when
        self.busy_effects = 0
        self.ticks = 0
        self.woken = 0  # how often pods were asked for where there were to be none
        self.wake = 0  # the timer that counts
        self.trace: deque[tuple[float, Effect]] = deque(maxlen=50)
        self.digest = Digest()

    # Its process.

    def start(self) -> None:
        self.generation += 1
        self.engine = Engine(World(timing=TIMING), _no_time, _not_told)
        if self.simulation.options.piece:
            self.engine.world.pieces.size = self.simulation.options.piece
        self.lease += 1
        self.endpoints = set()
        self.absent = {}
        for envoy in self.envoys:
            envoy.reconnect()
        generation = self.generation
        stored = tuple(events.StoredCopy(c.model, c.uid, c.content, c.service, c.pod_uid) for c in self.store.values())
        self.deliver(events.EpochClaimed(self.lease), generation)
        self.loop.at(self.rng.uniform(0, 1), partial(self.deliver, events.StoreLoaded(stored), generation))
        self.loop.at(self.rng.uniform(0.5, 2), partial(self.sweep, generation))

    def stop(self) -> None:
        if self.engine is None:
            return
        self.engine = None
        self.generation += 1
        if self.rng.random() < 0.5:
            self.store.clear()
        self.loop.at(self.rng.uniform(0.1, 3), self.start)

    # What it is told.

    def sweep(self, generation: int) -> None:
        """List everything (metadata by UID), and show again what a lossy watch may have hidden."""
        if generation != self.generation:
            return
        cluster = self.simulation.cluster
        for service in cluster.services.values():
            self.deliver(events.ServiceSeen(service), generation)
        for pod in cluster.pod_specs.values():
            self.deliver(events.PodSeen(pod), generation)
        for model in cluster.models.values():
            self.deliver(self.simulation.statuses.seen(model), generation)
        for gone in self.missed():
            self.deliver(gone, generation)
        for kind in events.Kind:
            self.deliver(events.Listed(kind), generation)
        self.loop.at(self.rng.uniform(3, 8), partial(self.sweep, generation))

    def missed(self) -> list[events.Event]:
        """Deletions that the operator was not told of, as its informers find them in a list."""
        if self.engine is None:
            return []
        world, cluster = self.engine.world, self.simulation.cluster
        gone: list[events.Event] = [
            events.ServiceGone(key, service.spec.uid)
            for key, service in world.services.items()
            if key not in cluster.services or cluster.services[key].uid != service.spec.uid
        ]
        gone += [events.PodGone(uid) for uid in world.pods if uid not in cluster.pod_specs]
        gone += [
            events.ModelGone(key, model.spec.uid)
            for key, model in world.models.items()
            if model.spec.source is not Source.PREFIX
            and (key not in cluster.models or cluster.models[key].uid != model.spec.uid)
        ]
        return gone

    def notify(self, event: events.Event) -> None:
        """The watch: late, and sometimes never (the sweep finds it)."""
        if not self.simulation.faults or self.rng.random() >= self.simulation.options.watch_loss:
            self.loop.at(self.rng.uniform(0, 0.3), partial(self.deliver, event, self.generation))

    def deliver(self, event: events.Event, generation: int) -> None:
        if self.engine is None or generation != self.generation:
            return
        for effect in self.engine.handle(event, self.loop.now):
            self.carry_out(effect, generation)
        self.simulation.check()
        self.work(generation)

    def work(self, generation: int) -> None:
        """What core.py does when the loop comes round: here other events come in between, where work is in pieces."""
        if self.engine is None or generation != self.generation or not self.engine.has_work:
            return
        if not self.simulation.options.piece:
            effects = self.engine.work_off(self.loop.now)
        else:
            effects = self.engine.work(self.loop.now)
            self.loop.at(self.rng.uniform(0.0, 0.02), partial(self.work, generation))
        for effect in effects:
            self.carry_out(effect, generation)
        self.simulation.check()

    # What it asks for.

    def carry_out(self, effect: Effect, generation: int) -> None:
        cluster, loop = self.simulation.cluster, self.loop
        self.digest.add(f"{loop.now} {in_words(effect)}\n")
        # A copy in back-off is reported again at each attempt: that only marks status, which writes nothing new.
        if not isinstance(effect, WakeAt | ModelStatusChanged | ServiceStatusChanged):
            self.busy_effects += 1
            self.trace.append((loop.now, effect))
        match effect:
            case PodEndpointChanged() | ServiceRouteChanged() | RouteChanged() | Recovered():
                self.tell_gateway(effect, generation)
            case ModelStatusChanged(key):
                self.simulation.statuses.changed(key)
            case Failed():
                raise effect.error
            case WakeAt(at):  # as core.py has it: one timer, and the latest word counts
                self.wake += 1
                loop.at(max(0.0, at - loop.now), partial(self.tick, self.wake, generation))
            case CopyStored():
                self.store[effect.uid, effect.pod_uid] = effect
            case CopyForgotten():
                self.store.pop((effect.uid, effect.pod_uid), None)
            case ClaimEpoch(epoch):
                self.lease = max(self.lease + 1, epoch)
                loop.at(0.1, partial(self.deliver, events.EpochClaimed(self.lease), generation))
            case ReplicasWanted(service, replicas):
                self.woken += not cluster.replicas.get(service.name, 0) and replicas > 0
                cluster.replicas[service.name] = replicas
                loop.at(self.rng.uniform(0, 1), partial(cluster.reconcile, service.name))
            case DeletionCost(uid):
                cluster.costs[uid] = effect.cost
            case GateChanged():
                spec = cluster.pod_specs.get(effect.pod_uid)
                if spec is not None:
                    cluster.show_pod(replace(spec, gate_open=True, ready=True))
            case _:
                pass

    def tell_gateway(self, effect: Effect, generation: int) -> None:
        loop = self.loop
        match effect:
            case PodEndpointChanged(uid, ip):
                self.endpoints = self.endpoints | {uid} if ip else self.endpoints - {uid}
            case ServiceRouteChanged(service, known, pods=pods):
                assert pods <= self.endpoints, "a route to a pod whose address is not known"
                if pods or not known:
                    self.absent.pop(service, None)
                else:
                    self.absent.setdefault(service, loop.now)
            case RouteChanged():
                assert effect.pods <= self.endpoints, "a route to a pod whose address is not known"
                for envoy in self.envoys:
                    envoy.pending.append(effect)
                    # Longer than the grace at times: only the acknowledgement says that it has it.
                    slow = self.simulation.faults and self.rng.random() < 0.05
                    delay = 4.0 if slow else self.rng.uniform(0.001, 0.3)
                    loop.at(delay, partial(self.envoy_applies, envoy, generation))
            case Recovered():
                for envoy in self.envoys:
                    loop.at(self.rng.uniform(0.01, 2.0), partial(self.envoy_applies, envoy, generation))

    def tick(self, wake: int, generation: int) -> None:
        if wake == self.wake:
            self.ticks += 1
            self.deliver(events.Tick(), generation)

    def envoy_applies(self, envoy: SimEnvoy, generation: int) -> None:
        if generation != self.generation or self.engine is None or self.engine.world.recovering:
            return
        envoy.apply()
        sequence = 0 if any(each.fresh for each in self.envoys) else min(each.sequence for each in self.envoys)
        delay = self.rng.uniform(0.001, 0.05)
        self.loop.at(delay, partial(self.deliver, events.GatewayAcknowledged(sequence), generation))

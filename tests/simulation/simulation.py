"""A whole control plane in one seeded loop: API server, operator core, agents, servers, Envoys, clock and faults.

Every step checks the invariants of docs/architecture.md; ``run`` ends with a quiet period in which everything must
have converged and nothing may move any more.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from shoal_api.messages import CopyIntent, SyncRequest, SyncResponse, content_digest, copy_id
from shoal_operator.engine import Engine
from shoal_operator.state import events
from shoal_operator.state.effects import (
    ClaimEpoch,
    CopyForgotten,
    CopyStored,
    DeletionCost,
    Effect,
    GateChanged,
    ModelStatusChanged,
    PodEndpointChanged,
    Recovered,
    ReplicasWanted,
    RouteChanged,
    ServiceRouteChanged,
    ServiceStatusChanged,
    Unavailable,
    WakeAt,
)
from shoal_operator.state.freshness import wanted as wanted_now
from shoal_operator.state.pods import desired, drained
from shoal_operator.state.policy import on_its_way
from shoal_operator.state.values import ModelKey, ModelSpec, PodSpec, ServiceKey, ServiceSpec
from shoal_operator.state.world import Pod, Stage, Timing, World

from .faults import Faults
from .parts import SimEnvoy, SimPod

TIMING = Timing(
    recovery=5,
    server_restart=5,
    first_placement=5,
    service_move=20,
    gate=20,
    residency=3,
    pressure=5,
    failure_first=2,
    failure_last=10,
    review=2,
    hot_rate=0.3,
    hot_idle=5,
    scale_up=2,
    scale_down=8,
    working_set=10,
)
NAMESPACE = "ns"


@dataclass
class Options:
    """Size of a run, and how hostile its surroundings are (probabilities)."""

    services: int = 2
    pods: int = 3
    models: int = 12
    capacity: int = 100
    seconds: float = 60.0
    faults: bool = True
    loss: float = 0.1
    watch_loss: float = 0.05
    strict: bool = True
    requests: float = 0.0  # requests a second, of a few popular models and many others
    unit: int = 1  # bytes, of all sizes
    undeclared: float = 0.0  # models that leave their memory out
    varied: bool = False  # idle unloads, bounds of copies, services that turn strict and back
    most_pods: int = 0  # autoscaled, from `pods` up to so many


class Simulation:
    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.rng = random.Random(seed)
        self.options = options or Options()
        self.now = 0.0
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.ids = itertools.count()
        self.models: dict[ModelKey, ModelSpec] = {}
        self.services: dict[ServiceKey, ServiceSpec] = {}
        self.pod_specs: dict[str, PodSpec] = {}
        self.pods: dict[str, SimPod] = {}
        self.store: dict[tuple[str, str], CopyStored] = {}
        self.owners: dict[str, str] = {}  # pod UID -> its InferenceService's
        self.names = [f"svc{index}" for index in range(self.options.services)]
        self.envoys = [SimEnvoy(), SimEnvoy()]
        self.endpoints: set[str] = set()  # pods that the gateway knows the address of
        self.lease = 0
        self.engine: Engine | None = None
        self.generation = 0
        self.busy_effects = 0
        self.ticks = 0
        self.wakes = itertools.count()
        self.wake = -1  # the timer that counts
        self.faults = self.options.faults
        self.highest: dict[str, int] = {}  # pod UID -> epoch obeyed
        self.trace: deque[tuple[float, Effect]] = deque(maxlen=50)
        self.replicas: dict[str, int] = {}  # as autoscaling asked for, by service name
        self.costs: dict[str, int] = {}  # of deletion, by pod UID
        self.waiting: dict[ModelKey, float] = {}  # requests that the activator holds: since when

    # -- the loop ----------------------------------------------------------------------------------------------

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (self.now + delay, next(self.ids), action))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.queue and self.queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self.queue)
            action()
        self.now = end

    def run(self) -> None:
        for name in self.names:
            self.add_service(name)
        self.start_operator()
        for index in range(self.options.models):
            self.add_model(f"m{index}", self.rng.choice(self.names))
        if self.faults:
            self.at(self.rng.uniform(1, 3), Faults(self, self.rng).strike)
        if self.options.requests:
            self.at(1.0, self.traffic)
        self.advance(self.options.seconds)
        self.faults = False
        if self.engine is None:
            self.advance(5)
        self.advance(60.0)
        self.options.requests = 0.0
        self.advance(120.0 if self.options.most_pods else 60.0)
        assert not self.waiting, f"requests that are never answered: {self.waiting}"
        self.busy_effects = self.ticks = 0
        loads = sum(pod.loads for pod in self.pods.values())
        self.advance(30.0)
        self.check_converged()
        assert loads == sum(pod.loads for pod in self.pods.values()), "loads without a cause"
        if self.options.strict or not any(self.broken_spec(model) for model in self.models.values()):
            # Where models may be cold, one that failed is tried again now and then.
            assert self.busy_effects == 0, f"not quiet after faults stopped: {list(self.trace)[-5:]}"
            # Who has more pods than it must have looks whether that is still right.
            assert self.ticks <= 1 or self.options.most_pods, "timers that never end"

    # -- the operator ------------------------------------------------------------------------------------------

    def start_operator(self) -> None:
        self.generation += 1
        self.engine = Engine(World(timing=TIMING, started_at=self.now))
        self.lease += 1
        self.endpoints = set()
        for envoy in self.envoys:
            envoy.reconnect()
        generation = self.generation
        stored = tuple(events.StoredCopy(c.model, c.uid, c.content, c.service, c.pod_uid) for c in self.store.values())
        self.deliver(events.EpochClaimed(self.lease), generation)
        self.at(self.rng.uniform(0, 1), lambda: self.deliver(events.StoreLoaded(stored), generation))
        self.at(self.rng.uniform(0.5, 2), lambda: self.sweep(generation))

    def stop_operator(self) -> None:
        if self.engine is None:
            return
        self.engine = None
        self.generation += 1
        if self.rng.random() < 0.5:
            self.store.clear()
        self.at(self.rng.uniform(0.1, 3), self.start_operator)

    def sweep(self, generation: int) -> None:
        """List everything (metadata by UID), and show again what a lossy watch may have hidden."""
        if generation != self.generation:
            return
        for service in self.services.values():
            self.deliver(events.ServiceSeen(service), generation)
        for pod in self.pod_specs.values():
            self.deliver(events.PodSeen(pod), generation)
        for model in self.models.values():
            self.deliver(events.ModelSeen(model), generation)
        services = {(k.namespace, k.name): s.uid for k, s in self.services.items()}
        pods = {(s.namespace, s.name): s.uid for s in self.pod_specs.values()}
        models = {(k.namespace, k.name): s.uid for k, s in self.models.items()}
        self.deliver(events.Listed(events.Kind.SERVICE, services), generation)
        self.deliver(events.Listed(events.Kind.POD, pods), generation)
        self.deliver(events.Listed(events.Kind.MODEL, models), generation)
        self.at(self.rng.uniform(3, 8), lambda: self.sweep(generation))

    def notify(self, event: events.Event) -> None:
        """The watch: late, and sometimes never (the sweep finds it)."""
        if not self.faults or self.rng.random() >= self.options.watch_loss:
            generation = self.generation
            self.at(self.rng.uniform(0, 0.3), lambda: self.deliver(event, generation))

    def deliver(self, event: events.Event, generation: int) -> None:
        if self.engine is None or generation != self.generation:
            return
        for effect in self.engine.handle(event, self.now) + self.engine.settle(self.now):
            self.carry_out(effect, generation)
        self.check()

    def carry_out(self, effect: Effect, generation: int) -> None:
        # A copy in back-off is reported again at each attempt: that only marks status, which writes nothing new.
        if not isinstance(effect, WakeAt | ModelStatusChanged | ServiceStatusChanged):
            self.busy_effects += 1
            self.trace.append((self.now, effect))
        match effect:
            case PodEndpointChanged(uid, ip):
                self.endpoints = self.endpoints | {uid} if ip else self.endpoints - {uid}
            case ServiceRouteChanged():
                assert effect.pods <= self.endpoints, "a route to a pod whose address is not known"
            case RouteChanged():
                assert effect.pods <= self.endpoints, "a route to a pod whose address is not known"
                for envoy in self.envoys:
                    envoy.pending.append(effect)
                    # Longer than the grace at times: only the acknowledgement says that it has it.
                    delay = 4.0 if self.faults and self.rng.random() < 0.05 else self.rng.uniform(0.001, 0.3)
                    self.at(delay, partial(self.envoy_applies, envoy, generation))
            case Recovered():
                for envoy in self.envoys:
                    self.at(self.rng.uniform(0.01, 2.0), partial(self.envoy_applies, envoy, generation))
            case WakeAt(at):  # as core.py has it: one timer, and the latest word counts
                self.wake = next(self.wakes)
                self.at(max(0.0, at - self.now), partial(self.tick, self.wake, generation))
            case CopyStored():
                self.store[effect.uid, effect.pod_uid] = effect
            case CopyForgotten():
                self.store.pop((effect.uid, effect.pod_uid), None)
            case ClaimEpoch(epoch):
                self.lease = max(self.lease + 1, epoch)
                lease = self.lease
                self.at(0.1, lambda: self.deliver(events.EpochClaimed(lease), generation))
            case ReplicasWanted(service, replicas):
                self.replicas[service.name] = replicas
                self.at(self.rng.uniform(0, 1), partial(self.reconcile, service.name))
            case DeletionCost(uid):
                self.costs[uid] = effect.cost
            case GateChanged():
                spec = self.pod_specs.get(effect.pod_uid)
                if spec is not None:
                    self.show_pod(replace(spec, gate_open=True, ready=True))
            case _:
                pass

    def tick(self, wake: int, generation: int) -> None:
        if wake == self.wake:
            self.ticks += 1
            self.deliver(events.Tick(), generation)

    def lost(self, uid: str, session: str) -> None:
        """agents/polls.py: no poll of this session for too long."""
        pod = self.pods.get(uid)
        if pod is not None and pod.session == session and self.now < pod.mute_until:
            self.deliver(events.AgentLost(uid, session), self.generation)

    def envoy_applies(self, envoy: SimEnvoy, generation: int) -> None:
        if generation != self.generation or self.engine is None or self.engine.world.recovering:
            return
        envoy.apply()
        sequence = 0 if any(each.fresh for each in self.envoys) else min(each.sequence for each in self.envoys)
        self.at(self.rng.uniform(0.001, 0.05), lambda: self.deliver(events.GatewayAcknowledged(sequence), generation))

    # -- requests ----------------------------------------------------------------------------------------------

    def traffic(self) -> None:
        """Open loop: a few models get most requests."""
        if not self.options.requests:
            return
        self.at(self.rng.expovariate(self.options.requests), self.traffic)
        if self.models:
            keys = sorted(self.models)
            self.ask(keys[min(int(self.rng.paretovariate(1.0)) - 1, len(keys) - 1)])

    def ask(self, key: ModelKey) -> None:
        """One request, through one Envoy: to a pod, held by the activator, or refused with a reason."""
        model = self.models.get(key)
        if model is None:
            self.waiting.pop(key, None)
            return
        route = self.rng.choice(self.envoys).table.get((model.service_key, model.name))
        pods = [self.pods[uid] for uid in sorted(route.pods) if uid in self.pods] if route is not None else []
        if pods and self.rng.choice(pods).answer(model.name, self.now):
            self.waiting.pop(key, None)
        elif route is not None and (route.pods or route.unavailable is Unavailable.COLD):
            self.hold(key, model)
        else:
            self.waiting.pop(key, None)  # answered with the cause

    def hold(self, key: ModelKey, model: ModelSpec) -> None:
        """What gateway/activation.py does: says so each second while requests wait, up to their deadline."""
        since = self.waiting.setdefault(key, self.now)
        self.deliver(events.Requested(model.service_key, model.name), self.generation)
        if self.now < since + 30.0 or not self.faults:
            self.at(1.0, lambda: self.ask(key) if key in self.waiting else None)
        else:
            self.waiting.pop(key, None)

    # -- agents ------------------------------------------------------------------------------------------------

    def poll(self, uid: str) -> None:
        """One agent works, and syncs; messages get lost, late, and doubled."""
        pod = self.pods.get(uid)
        if pod is None:
            return
        if self.now < pod.mute_until:
            self.at(self.rng.uniform(0.05, 0.4), lambda: self.poll(uid))
            return
        pod.work(self.now)
        request = pod.request(self.now)
        copies = 1 if not self.faults else self.rng.choices((0, 1, 2), (self.options.loss, 0.85, 0.05))[0]
        for _ in range(copies):
            delay = self.rng.uniform(0.001, 0.05) if self.rng.random() < 0.95 or not self.faults else 2.0
            self.at(delay, lambda: self.serve(uid, request))
        self.at(self.rng.uniform(0.05, 0.4), lambda: self.poll(uid))

    def serve(self, uid: str, request: SyncRequest) -> None:
        """What agents/server.py does with a request, in the core's terms."""
        if self.engine is None or uid not in self.engine.world.pods:
            return
        self.deliver(events.AgentReported(request), self.generation)
        world = self.engine.world
        pod = world.pods.get(uid)
        if pod is None:
            return
        response = SyncResponse(epoch=world.epoch, observed_acknowledged=pod.observed_version)
        wanted = desired(world, uid)
        if wanted is not None:
            change = wanted.since(request.desired_version)
            response = SyncResponse(
                epoch=world.epoch,
                observed_acknowledged=pod.observed_version,
                desired_version=change.version if change else None,
                desired_base=change.base if change else None,
                desired=list(change.intents) if change else [],
                desired_gone=list(change.gone) if change else [],
                drained=drained(world, uid),
                use_now=wanted_now(world, uid),
            )
        if self.faults and self.rng.random() < self.options.loss:
            return
        late = self.faults and self.rng.random() < 0.05
        self.at(3.0 if late else self.rng.uniform(0.001, 0.05), lambda: self.answer(uid, response, request.session))

    def answer(self, uid: str, response: SyncResponse, session: str) -> None:
        pod = self.pods.get(uid)
        if pod is not None:
            pod.receive(response, session)
            assert pod.epoch >= self.highest.get(uid, 0), "an epoch went back"
            self.highest[uid] = pod.epoch
            if pod.draining and pod.drained and self.pod_specs[uid].deleting:
                self.remove_pod(uid)

    def unloading(self, pod: SimPod, name: str, held: str) -> None:
        """A server is about to stop answering with a copy, on purpose: no Envoy may still send requests for it."""
        model = self.models.get(ModelKey(NAMESPACE, name))
        routed = any(envoy.routes_to(pod.uid, name) for envoy in self.envoys)
        if model is not None and held.startswith(model.uid + ".") and routed:
            raise AssertionError(f"{name} unloaded from {pod.name} while routed there at {self.now}")

    # -- the API server ----------------------------------------------------------------------------------------

    def uid(self, kind: str) -> str:
        return f"{kind}-{next(self.ids)}"

    def add_service(self, name: str) -> None:
        if ServiceKey(NAMESPACE, name) in self.services:
            return
        spec = ServiceSpec(
            namespace=NAMESPACE,
            name=name,
            uid=self.uid("service"),
            generation=1,
            capacity_bytes=self.options.capacity * self.options.unit,
            formats=frozenset({"sklearn"}),
            server_type="mlserver",
            min_replicas=self.options.pods,
            max_replicas=max(self.options.pods, self.options.most_pods),
            autoscaled=self.options.most_pods > 0,
            strict=self.options.strict,
            activation_timeout=10.0,
        )
        self.services[spec.key] = spec
        self.notify(events.ServiceSeen(spec))
        for _ in range(self.options.pods):
            self.at(self.rng.uniform(0, 4), lambda: self.reconcile(name, at_most=1))

    def reconcile(self, name: str, at_most: int = 10) -> None:
        """The Deployment's controllers: as many pods as wanted, and none of an InferenceService that is no more."""
        service = self.services.get(ServiceKey(NAMESPACE, name))
        alive = [uid for uid, spec in self.pod_specs.items() if spec.service == name and not spec.deleting]
        own = [uid for uid in alive if service is not None and self.owners[uid] == service.uid]
        own.sort(key=lambda uid: -self.costs.get(uid, 0))
        wanted = service.min_replicas if service is not None else 0
        if service is not None and service.autoscaled:
            wanted = min(max(wanted, self.replicas.get(name, 0)), service.max_replicas)
        for uid in (*(uid for uid in alive if uid not in own), *own[wanted:]):
            self.delete_pod(uid)
        if service is not None:
            for _ in range(min(at_most, wanted - len(own))):
                self.add_pod(service)

    def delete_pod(self, uid: str) -> None:
        """The grace period begins: preStop asks the agent, and its end comes anyway."""
        spec = self.pod_specs[uid]
        if spec.deleting:
            return
        self.pods[uid].draining = True
        self.show_pod(replace(spec, deleting=True))
        self.reconcile(spec.service)
        self.at(20.0, lambda: self.remove_pod(uid))

    def add_pod(self, owner: ServiceSpec) -> None:
        uid, service = self.uid("pod"), owner.name
        self.owners[uid] = owner.uid
        capacity = self.options.capacity * self.options.unit
        spec = PodSpec(NAMESPACE, uid, uid, service, f"10.0.0.{len(self.pods)}", capacity)
        pod = SimPod(uid, uid, service, capacity, self.rng, self.broken, self.unloading)
        pod.artifact_bytes *= self.options.unit
        self.pods[uid] = pod
        self.show_pod(spec)
        self.poll(uid)

    def show_pod(self, spec: PodSpec) -> None:
        self.pod_specs[spec.uid] = spec
        self.notify(events.PodSeen(spec))

    def remove_pod(self, uid: str) -> None:
        """The pod is gone, and its ReplicaSet makes another one."""
        self.pods.pop(uid, None)
        spec = self.pod_specs.pop(uid, None)
        if spec is not None:
            self.notify(events.PodGone(uid))
            if not spec.deleting:
                self.at(self.rng.uniform(0.1, 2), lambda: self.reconcile(spec.service))

    def add_model(self, name: str, service: str) -> None:
        uri = f"s3://models/{name}"
        memory: int | None = self.rng.choice((5, 10, 20)) * self.options.unit
        if self.options.undeclared and self.rng.random() < self.options.undeclared:
            memory = None
        spec = ModelSpec(
            NAMESPACE, name, self.uid("model"), 1, service, uri, "sklearn", memory, content_digest(uri, "sklearn")
        )
        self.models[spec.key] = spec
        self.notify(events.ModelSeen(spec))

    def broken(self, intent: CopyIntent) -> bool:
        return "broken" in intent.storage_uri

    # -- invariants --------------------------------------------------------------------------------------------

    def check(self) -> None:
        assert self.engine is not None
        world = self.engine.world
        for pod in world.pods.values():
            assert pod.committed <= pod.spec.capacity_bytes, f"{pod.spec.name} is overcommitted at {self.now}"
            assert pod.committed == sum(copy.charged for copy in pod.copies.values()), "the ledger drifted"
            assert pod.unloading <= pod.occupied <= pod.copies.keys()
            leaving = {name: copy for name, copy in pod.copies.items() if not on_its_way(copy)}
            held = {name: copy for name, copy in pod.copies.items() if copy.stage is Stage.HELD}
            assert pod.occupied == leaving.keys()
            assert pod.outgoing == sum(copy.charged for copy in leaving.values()), "outgoing bytes drifted"
            assert pod.held.keys() == held.keys()
            assert pod.promised == sum(copy.memory for copy in held.values()), "promised bytes drifted"
            assert not any(copy.charged for copy in held.values()), "a held copy is charged"
            assert pod.promised <= pod.spec.capacity_bytes - pod.committed + pod.outgoing, "promised what is not there"
            assert pod.lru.keys() <= pod.copies.keys()
            assert pod.failing <= pod.copies.keys()
            if pod.known and not world.recovering:
                self.check_ledger(pod)
        for service in world.services.values():
            models = [world.models[key] for key in world.models_of.get(service.spec.key, ())]
            if not world.recovering:
                assert service.ready_count == sum(model.ready for model in models), "ready count drifted"
                assert service.failed_count == sum(model.failed for model in models), "failed count drifted"

    def check_ledger(self, pod: Pod) -> None:
        """Every content that the server holds, or that the agent is loading, is charged."""
        real = self.pods.get(pod.spec.uid)
        if real is None or real.session != pod.session:
            return
        for name, contents in real.contents().items():
            copy = pod.copies.get(name)
            assert copy is not None, f"{pod.spec.name} holds {name}, which is not charged"
            if copy.uid:  # what nobody knows the memory of is gone soon
                assert copy.charged >= contents * copy.memory, f"{name} takes more than is charged at {self.now}"

    def check_converged(self) -> None:
        assert self.engine is not None
        world = self.engine.world
        assert not world.recovering
        assert set(world.models) == set(self.models)
        assert set(world.pods) == set(self.pods)
        assert world.services.keys() == self.services.keys()
        assert not any(pod.leaving or pod.occupied for pod in world.pods.values()), "a drain that never ends"
        for waiting in (world.draining, world.grace, world.unhealthy, world.held, world.gating, world.retrying):
            assert not waiting, "something waits for ever"
        for model in self.models.values():
            self.check_model(model)
        for pod in self.pods.values():
            assert pod.loaded.keys() <= world.pods[pod.uid].copies.keys(), "a server holds what nobody wants"
            used = sum(intent.memory_bytes for intent in pod.loaded.values())
            assert used <= pod.capacity, "a server holds more than its capacity"

    def check_model(self, model: ModelSpec) -> None:
        """Loaded and routed right, or a good reason: its artifact is broken, or no pod has room."""
        assert self.engine is not None
        state = self.engine.world.models[model.key]
        routes = [envoy.table.get((model.service_key, model.name)) for envoy in self.envoys]
        route = routes[0]
        assert routes[1] == route, "Envoys differ"
        assert route is not None, f"{model.name} is unknown to Envoy"
        want = copy_id(model.uid, model.content)
        for pod_uid in route.pods:
            held = self.pods[pod_uid].loaded.get(model.name)
            assert held is not None, "routed to a pod without it"
            assert held.copy_id.startswith(model.uid + "."), "routed to another model of that name"
            assert held.copy_id == want or self.broken_spec(model) or state.refusal is not None, "old content stays"
        strict = self.services[model.service_key].strict
        least = model.min_copies or (1 if strict else 0)
        if model.max_copies is not None:
            assert len(route.pods) <= max(least, model.max_copies), "more copies than allowed"
        if state.refusal is not None:
            self.check_refusal(model)
        elif not self.broken_spec(model):
            assert len(route.pods) >= least, f"{len(route.pods)} of {least} copies"
            assert state.ready, f"{model.name} is not ready without a reason"
        if not route.pods and not self.broken_spec(model):
            self.check_cold(model, route)
        tried = "missing" in model.storage_uri or state.failure is not None or strict
        if self.broken_spec(model) and not route.pods and tried:
            assert not state.ready, f"{model.name} is broken and says Ready"
            assert state.failed, f"{model.name} is broken and does not say so"
        table = self.envoys[0].table
        others = [key for key in table if key[1] == model.name and key[0] != model.service_key]
        assert not others, "a former service still routes"

    def check_refusal(self, model: ModelSpec) -> None:
        assert self.engine is not None
        memory = self.engine.world.models[model.key].memory
        assert memory is not None
        for pod in self.engine.world.pods.values():
            if pod.spec.service == model.service and pod.placeable and model.name not in pod.copies:
                assert pod.spec.capacity_bytes - pod.committed < memory, "refused although there is room"

    def check_cold(self, model: ModelSpec, route: RouteChanged) -> None:
        """A model that is loaded nowhere: because it may be, and because there is no room."""
        assert self.engine is not None
        state = self.engine.world.models[model.key]
        if state.refusal is not None:
            return
        strict = self.services[model.service_key].strict
        assert not strict, f"{model.name} is not loaded without a reason"
        assert not model.min_copies, f"{model.name} is not loaded without a reason"
        assert route.unavailable is Unavailable.COLD, f"{model.name} would not be held: {route.unavailable}"
        if model.idle_unload is not None:
            return
        for pod in self.engine.world.pods.values():
            if pod.spec.service == model.service and pod.placeable and state.memory is not None:
                assert pod.room < state.memory, f"{model.name} is cold although {pod.spec.name} has room"

    def broken_spec(self, model: ModelSpec) -> bool:
        return "broken" in model.storage_uri or "missing" in model.storage_uri

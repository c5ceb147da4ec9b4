"""A whole control plane in one seeded loop: API server, operator core, agents, servers, an Envoy, clock and faults.

Every step checks the invariants of docs/architecture.md; ``run`` ends with a quiet period in which everything must
have converged and nothing may move any more.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from shoal_api.messages import CopyIntent, SyncRequest, SyncResponse, content_digest, copy_id
from shoal_operator.engine import Engine
from shoal_operator.state import events
from shoal_operator.state.effects import (
    ClaimEpoch,
    CopyForgotten,
    CopyStored,
    Effect,
    GateChanged,
    ModelStatusChanged,
    Recovered,
    RouteChanged,
    WakeAt,
)
from shoal_operator.state.pods import drained
from shoal_operator.state.values import ModelKey, ModelSpec, PodSpec, ServiceKey, ServiceSpec
from shoal_operator.state.world import Timing, World

from .parts import SimEnvoy, SimPod

TIMING = Timing(recovery=5, server_restart=5, first_placement=5, service_move=20, gate=20)
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
        self.envoy = SimEnvoy()
        self.lease = 0
        self.engine: Engine | None = None
        self.generation = 0
        self.busy_effects = 0
        self.faults = self.options.faults
        self.highest: dict[str, int] = {}  # pod UID -> epoch obeyed
        self.trace: deque[tuple[float, Effect]] = deque(maxlen=50)

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
        for index in range(self.options.services):
            self.add_service(f"svc{index}")
        self.start_operator()
        for index in range(self.options.models):
            self.add_model(f"m{index}", self.rng.choice(list(self.services)).name)
        if self.faults:
            self.at(self.rng.uniform(1, 3), self.fault)
        self.advance(self.options.seconds)
        self.faults = False
        if self.engine is None:
            self.advance(5)
        self.advance(120.0)
        self.busy_effects = 0
        loads = sum(pod.loads for pod in self.pods.values())
        self.advance(30.0)
        self.check_converged()
        assert self.busy_effects == 0, f"not quiet after faults stopped: {list(self.trace)[-5:]}"
        assert loads == sum(pod.loads for pod in self.pods.values()), "loads without a cause"

    # -- the operator ------------------------------------------------------------------------------------------

    def start_operator(self) -> None:
        self.generation += 1
        self.engine = Engine(World(timing=TIMING, started_at=self.now))
        self.lease += 1
        self.envoy.reconnect()
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
        if not isinstance(effect, WakeAt | ModelStatusChanged):
            self.busy_effects += 1
            self.trace.append((self.now, effect))
        match effect:
            case RouteChanged():
                self.envoy.pending.append(effect)
                self.at(self.rng.uniform(0.001, 0.3), lambda: self.envoy_applies(generation))
            case Recovered():
                self.at(0.01, lambda: self.envoy_applies(generation))
            case WakeAt(at):
                self.at(max(0.0, at - self.now), lambda: self.deliver(events.Tick(), generation))
            case CopyStored():
                self.store[effect.uid, effect.pod_uid] = effect
            case CopyForgotten():
                self.store.pop((effect.uid, effect.pod_uid), None)
            case ClaimEpoch(epoch):
                self.lease = max(self.lease + 1, epoch)
                lease = self.lease
                self.at(0.1, lambda: self.deliver(events.EpochClaimed(lease), generation))
            case GateChanged():
                spec = self.pod_specs.get(effect.pod_uid)
                if spec is not None:
                    self.show_pod(replace(spec, gate_open=True, ready=True))
            case _:
                pass

    def envoy_applies(self, generation: int) -> None:
        if generation != self.generation or self.engine is None or self.engine.world.recovering:
            return
        sequence = self.envoy.apply()
        self.at(
            self.rng.uniform(0.001, 0.05), lambda: self.deliver(events.GatewayAcknowledged(sequence), generation)
        )

    # -- agents ------------------------------------------------------------------------------------------------

    def poll(self, uid: str) -> None:
        """One agent works, and syncs; messages get lost, late, and doubled."""
        pod = self.pods.get(uid)
        if pod is None:
            return
        pod.work(self.now)
        request = pod.request()
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
        if not world.recovering:
            change = pod.desired.since(request.desired_version)
            response = SyncResponse(
                epoch=world.epoch,
                observed_acknowledged=pod.observed_version,
                desired_version=change.version if change else None,
                desired_base=change.base if change else None,
                desired=list(change.intents) if change else [],
                desired_gone=list(change.gone) if change else [],
                drained=drained(world, uid),
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
            if pod.draining and pod.drained:
                self.remove_pod(uid)

    def unloading(self, pod: SimPod, name: str, held: str) -> None:
        """A server is about to stop answering with a copy, on purpose: no Envoy may still send requests for it."""
        model = self.models.get(ModelKey(NAMESPACE, name))
        if model is not None and held.startswith(model.uid + ".") and self.envoy.routes_to(pod.uid, name):
            raise AssertionError(f"{name} unloaded from {pod.name} while routed there at {self.now}")

    # -- the API server ----------------------------------------------------------------------------------------

    def uid(self, kind: str) -> str:
        return f"{kind}-{next(self.ids)}"

    def add_service(self, name: str) -> None:
        spec = ServiceSpec(
            namespace=NAMESPACE,
            name=name,
            uid=self.uid("service"),
            generation=1,
            capacity_bytes=self.options.capacity,
            formats=frozenset({"sklearn"}),
            server_type="mlserver",
            min_replicas=self.options.pods,
            max_replicas=self.options.pods,
        )
        self.services[spec.key] = spec
        self.notify(events.ServiceSeen(spec))
        for _ in range(self.options.pods):
            self.at(self.rng.uniform(0, 4), lambda: self.add_pod(name))

    def add_pod(self, service: str) -> None:
        uid = self.uid("pod")
        spec = PodSpec(NAMESPACE, uid, uid, service, f"10.0.0.{len(self.pods)}", self.options.capacity)
        pod = SimPod(uid, uid, service, self.options.capacity, self.rng, self.broken, self.unloading)
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
                self.at(self.rng.uniform(0.1, 2), lambda: self.add_pod(spec.service))

    def add_model(self, name: str, service: str) -> None:
        uri = f"s3://models/{name}"
        memory = self.rng.choice((5, 10, 20))
        spec = ModelSpec(
            NAMESPACE, name, self.uid("model"), 1, service, uri, "sklearn", memory, content_digest(uri, "sklearn")
        )
        self.models[spec.key] = spec
        self.notify(events.ModelSeen(spec))

    def change_model(self, spec: ModelSpec) -> None:
        self.models[spec.key] = spec
        self.notify(events.ModelSeen(spec))

    def broken(self, intent: CopyIntent) -> bool:
        return "broken" in intent.storage_uri

    # -- faults ------------------------------------------------------------------------------------------------

    def fault(self) -> None:
        if not self.faults:
            return
        actions: tuple[Callable[[], None], ...] = (
            self.stop_operator,
            self.kill_pod,
            self.drain_pod,
            self.restart_agent,
            self.restart_server,
            self.update_model,
            self.update_model,
            self.delete_model,
            self.delete_and_create,
            self.move_model,
            self.create_model,
        )
        self.rng.choice(actions)()
        self.at(self.rng.uniform(0.2, 4), self.fault)

    def _pod(self) -> SimPod | None:
        return self.rng.choice(list(self.pods.values())) if self.pods else None

    def _model(self) -> ModelSpec | None:
        return self.rng.choice(list(self.models.values())) if self.models else None

    def kill_pod(self) -> None:
        pod = self._pod()
        if pod is not None:
            self.remove_pod(pod.uid)

    def drain_pod(self) -> None:
        """kubectl delete pod: the replacement is made at once, preStop waits for the agent."""
        pod = self._pod()
        if pod is not None and not pod.draining:
            pod.draining = True
            self.show_pod(replace(self.pod_specs[pod.uid], deleting=True))
            self.add_pod(pod.service)
            self.at(20.0, lambda: self.remove_pod(pod.uid))

    def restart_agent(self) -> None:
        pod = self._pod()
        if pod is not None:
            pod.restart_agent()

    def restart_server(self) -> None:
        pod = self._pod()
        if pod is None:
            return
        pod.server_ready = False
        pod.restart_server()

        def back() -> None:
            pod.server_ready = True

        self.at(self.rng.uniform(0.1, 8), back)

    def update_model(self) -> None:
        model = self._model()
        if model is not None:
            uri = f"s3://models/{model.name}-{'broken' if self.rng.random() < 0.3 else next(self.ids)}"
            self.change_model(
                replace(
                    model, storage_uri=uri, content=content_digest(uri, "sklearn"), generation=model.generation + 1
                )
            )

    def delete_model(self) -> None:
        model = self._model()
        if model is not None:
            del self.models[model.key]
            self.notify(events.ModelGone(model.key, model.uid))

    def delete_and_create(self) -> None:
        model = self._model()
        if model is not None:
            del self.models[model.key]
            self.notify(events.ModelGone(model.key, model.uid))
            self.at(self.rng.uniform(0, 1), lambda: self.recreate(model))

    def recreate(self, model: ModelSpec) -> None:
        if model.key not in self.models:
            self.add_model(model.name, model.service)

    def create_model(self) -> None:
        self.add_model(f"n{next(self.ids)}", self.rng.choice(list(self.services)).name)

    def move_model(self) -> None:
        model = self._model()
        if model is not None:
            service = self.rng.choice(list(self.services)).name
            self.change_model(replace(model, service=service, generation=model.generation + 1))

    # -- invariants --------------------------------------------------------------------------------------------

    def check(self) -> None:
        assert self.engine is not None
        world = self.engine.world
        for pod in world.pods.values():
            assert pod.committed <= pod.spec.capacity_bytes, f"{pod.spec.name} is overcommitted at {self.now}"
            assert pod.committed == sum(copy.charged for copy in pod.copies.values()), "the ledger drifted"
            assert pod.unloading <= pod.copies.keys()
        for service in world.services.values():
            models = [world.models[key] for key in world.models_of.get(service.spec.key, ())]
            if not world.recovering:
                assert service.ready_count == sum(model.ready for model in models), "ready count drifted"
                assert service.failed_count == sum(model.failed for model in models), "failed count drifted"

    def check_converged(self) -> None:
        assert self.engine is not None
        world = self.engine.world
        assert not world.recovering
        assert set(world.models) == set(self.models)
        assert set(world.pods) == set(self.pods)
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
        route = self.envoy.table.get((model.service_key, model.name))
        assert route is not None, f"{model.name} is unknown to Envoy"
        want = copy_id(model.uid, model.content)
        for pod_uid in route.pods:
            held = self.pods[pod_uid].loaded.get(model.name)
            assert held is not None and held.copy_id.startswith(model.uid + "."), "routed to a pod without it"
            assert held.copy_id == want or self.broken_spec(model) or state.refusal is not None, "old content stays"
        if not route.pods:
            assert self.broken_spec(model) or state.refusal is not None, f"{model.name} is not loaded without a reason"
        if state.refusal is not None:
            for pod in self.engine.world.pods.values():
                if pod.spec.service == model.service and pod.placeable:
                    assert pod.spec.capacity_bytes - pod.committed < model.memory_bytes, "refused although there is room"
        others = [key for key in self.envoy.table if key[1] == model.name and key[0] != model.service_key]
        assert not others, "a former service still routes"

    def broken_spec(self, model: ModelSpec) -> bool:
        return "broken" in model.storage_uri

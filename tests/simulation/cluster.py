"""The simulated API server: its objects, the controllers that make pods of them, and the watch that tells of them."""

import hashlib
import random
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from shoal_api.messages import CopyIntent, content_digest, copy_id
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey, ModelSpec, PodSpec, ServiceKey, ServiceSpec

from .options import ACTIVATION_TIMEOUT, NAMESPACE, WAKE_TIMEOUT
from .parts import BROKEN, SimPod
from .unregistered import place

if TYPE_CHECKING:
    from .simulation import Simulation

GRACE_PERIOD = 20.0


class Cluster:
    """``models`` are the objects as users wrote them last, ``usable`` the last that could be used of each."""

    def __init__(self, simulation: "Simulation", rng: random.Random) -> None:
        self.simulation = simulation
        self.rng = rng
        self.options = simulation.options
        self.loop = simulation.loop
        self.models: dict[ModelKey, ModelSpec] = {}
        self.usable: dict[ModelKey, ModelSpec] = {}
        self.services: dict[ServiceKey, ServiceSpec] = {}
        self.pod_specs: dict[str, PodSpec] = {}
        self.pods: dict[str, SimPod] = {}
        self.owners: dict[str, str] = {}  # pod UID -> its InferenceService's
        self.names = [f"svc{index}" for index in range(self.options.services)]
        self.replicas: dict[str, int] = {}  # as autoscaling asked for, by service name
        self.costs: dict[str, int] = {}  # of deletion, by pod UID
        self.real: dict[str, int] = {}  # copy id -> bytes that it really takes
        self.unregistered: dict[str, int] = {}  # UID of a model without an object -> bytes that it really takes
        self.revisions: dict[str, list[str]] = {}  # of each storage URI that was overwritten, the last one now
        self.tried: set[str] = set()  # storage URIs that no server loads, as one has found since they were written
        self._uids = 0

    def uid(self, kind: str) -> str:
        self._uids += 1
        return f"{kind}-{self._uids}"

    # InferenceServices and their pods.

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
            activation_timeout=ACTIVATION_TIMEOUT,
            idle=self.options.idle or None,
            wake_timeout=WAKE_TIMEOUT,
            models_from=place(self.simulation),
        )
        self.show_service(spec)
        for _ in range(self.options.pods if spec.idle is None else 0):
            self.loop.at(self.rng.uniform(0, 4), partial(self.reconcile, name, at_most=1))

    def show_service(self, spec: ServiceSpec) -> None:
        self.services[spec.key] = spec
        self.simulation.operator.notify(events.ServiceSeen(spec))

    def remove_service(self, service: ServiceSpec) -> None:
        del self.services[service.key]
        self.simulation.operator.notify(events.ServiceGone(service.key, service.uid))

    def reconcile(self, name: str, at_most: int = 10) -> None:
        """The Deployment's controllers: as many pods as wanted, and none of an InferenceService that is no more."""
        service = self.services.get(ServiceKey(NAMESPACE, name))
        alive = [uid for uid, spec in self.pod_specs.items() if spec.service == name and not spec.deleting]
        own = [uid for uid in alive if service is not None and self.owners[uid] == service.uid]
        own.sort(key=lambda uid: -self.costs.get(uid, 0))
        wanted = service.min_replicas if service is not None else 0
        known = self.replicas.get(name, 0)
        if service is not None and (service.autoscaled or service.idle is not None):
            wanted = min(max(wanted, known), service.max_replicas)
        if service is not None and service.idle is not None and not known:
            wanted = 0
            for uid in own:
                assert not self.pods[uid].loaded, "the last pod goes, and holds models"
        for uid in (*(uid for uid in alive if uid not in own), *own[wanted:]):
            self.delete_pod(uid)
        if service is not None:
            for _ in range(min(at_most, wanted - len(own))):
                self.add_pod(service)

    def add_pod(self, owner: ServiceSpec) -> None:
        uid, service = self.uid("pod"), owner.name
        self.owners[uid] = owner.uid
        capacity = self.options.capacity * self.options.unit
        ip = f"10.0.{self._uids // 256}.{self._uids % 256}"
        spec = PodSpec(NAMESPACE, uid, uid, service, ip, capacity, http_port=8080, grpc_port=8081)
        unloading = self.simulation.agents.unloading
        self.pods[uid] = SimPod(uid, uid, service, capacity, self.rng, self.broken, unloading, self.size, self.storage)
        self.show_pod(spec)
        self.simulation.agents.poll(uid)

    def show_pod(self, spec: PodSpec) -> None:
        self.pod_specs[spec.uid] = spec
        self.simulation.operator.notify(events.PodSeen(spec))

    def delete_pod(self, uid: str) -> None:
        """The grace period begins: preStop asks the agent, and its end comes anyway."""
        spec = self.pod_specs[uid]
        if spec.deleting:
            return
        self.pods[uid].draining = True
        self.show_pod(replace(spec, deleting=True))
        self.reconcile(spec.service)
        self.loop.at(GRACE_PERIOD, partial(self.remove_pod, uid))

    def remove_pod(self, uid: str) -> None:
        """The pod is gone, and its ReplicaSet makes another one."""
        self.pods.pop(uid, None)
        spec = self.pod_specs.pop(uid, None)
        if spec is not None:
            self.simulation.operator.notify(events.PodGone(uid))
            if not spec.deleting:
                self.loop.at(self.rng.uniform(0.1, 2), partial(self.reconcile, spec.service))

    # TrainedModels.

    def add_model(self, name: str, service: str) -> None:
        if ModelKey(NAMESPACE, name) not in self.models:
            self.show_model(self.new_model(name, service))

    def new_model(self, name: str, service: str) -> ModelSpec:
        """As a user would write it; not shown yet."""
        uri = f"s3://models/{name}"
        real = self.rng.choice((5, 10, 20)) * self.options.unit
        memory: int | None = real
        if self.options.undeclared and self.rng.random() < self.options.undeclared:
            memory = None
        spec = ModelSpec(
            NAMESPACE, name, self.uid("model"), 1, service, uri, "sklearn", memory, content_digest(uri, "sklearn")
        )
        self.real[copy_id(spec.uid, spec.content)] = real
        if self.options.overwritten:
            spec = replace(spec, check=self.rng.choice((0.0, 2.0)), min_copies=self.rng.choice((None, 2)))
        return spec

    def show_model(self, spec: ModelSpec) -> None:
        """A user wrote it."""
        before = self.models.get(spec.key)
        if before is None or before.storage_uri != spec.storage_uri:
            self.tried.discard(spec.storage_uri)
        self.models[spec.key] = spec
        if spec.problem is None or spec.key not in self.usable:
            self.usable[spec.key] = spec
        self.simulation.operator.notify(self.simulation.statuses.seen(spec))

    def remove_model(self, model: ModelSpec) -> None:
        del self.models[model.key], self.usable[model.key]
        self.simulation.statuses.gone(model.key)
        self.simulation.operator.notify(events.ModelGone(model.key, model.uid))

    def size(self, copy: str) -> int:
        """Bytes that a copy id really takes in memory: whatever revision it is of, as the first."""
        copy = copy.removesuffix("+")
        if (uid := copy.partition(".")[0]) in self.unregistered:
            return self.unregistered[uid]
        if copy not in self.real:
            uid, _, digest = copy.partition(".")
            sizes = (
                self.real[first]
                for uri, revisions in self.revisions.items()
                for revision in revisions
                if digest == content_digest(uri, "sklearn", revision=revision)
                and (first := copy_id(uid, content_digest(uri, "sklearn"))) in self.real
            )
            # Else it is asked for by the name of a model whose object the operator has not seen, or not any more.
            self.real[copy] = next(sizes, 5 * self.options.unit)
        return self.real[copy]

    def storage(self, uri: str) -> str:
        """The revision that the storage holds."""
        return self.revisions.setdefault(uri, [self.new_revision(uri)])[-1]

    def new_revision(self, uri: str, end: str = "") -> str:
        digest = hashlib.blake2b(f"{uri} {len(self.revisions.get(uri, ()))}".encode(), digest_size=8).hexdigest()
        end = end or "0"
        return digest[: -len(end)] + end

    def broken_now(self, model: ModelSpec) -> bool:
        """Its artifact was overwritten with what no server loads."""
        return self.storage(model.storage_uri).endswith(BROKEN)

    def broken(self, intent: CopyIntent) -> bool:
        """No server loads it, as one finds now."""
        broken = "broken" in intent.storage_uri
        if broken:
            self.tried.add(intent.storage_uri)
        return broken

    def untried(self, model: ModelSpec) -> bool:
        """No server loads it, and none has tried."""
        return "broken" in model.storage_uri and model.storage_uri not in self.tried

    def broken_spec(self, model: ModelSpec) -> bool:
        """No server loads what it names, or it is not there."""
        return "broken" in model.storage_uri or "missing" in model.storage_uri or self.broken_now(model)

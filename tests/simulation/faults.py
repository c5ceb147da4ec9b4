"""What users, Kubernetes and bad luck do to a simulated cluster, one random act at a time."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from shoal_api.messages import content_digest
from shoal_operator.state import events
from shoal_operator.state.values import ModelSpec, ServiceSpec

from .parts import SimPod

if TYPE_CHECKING:
    from .simulation import Simulation


class Faults:
    """``strike`` once, and again after a while, until the simulation's ``faults`` are over."""

    def __init__(self, simulation: "Simulation", rng: random.Random) -> None:
        self.simulation = simulation
        self.rng = rng
        self.actions: tuple[Callable[[], None], ...] = (
            simulation.stop_operator,
            self.kill_pod,
            self.drain_pod,
            self.abandon_drain,
            self.restart_agent,
            self.lose_agent,
            self.restart_server,
            self.update_model,
            self.update_model,
            self.resize_model,
            self.change_copies,
            self.delete_model,
            self.delete_and_create,
            self.move_model,
            self.move_there_and_back,
            self.create_model,
            self.scale,
            self.delete_service,
            self.switch_runtime,
        )
        if simulation.options.varied:
            self.actions += (self.change_bounds, self.change_bounds, self.change_bounds, self.switch_strict)

    def strike(self) -> None:
        if self.simulation.faults:
            self.rng.choice(self.actions)()
            self.simulation.at(self.rng.uniform(0.2, 4), self.strike)

    def _pod(self) -> SimPod | None:
        pods = self.simulation.pods
        return self.rng.choice(list(pods.values())) if pods else None

    def _model(self) -> ModelSpec | None:
        models = self.simulation.models
        return self.rng.choice(list(models.values())) if models else None

    def _service(self) -> ServiceSpec | None:
        services = self.simulation.services
        return self.rng.choice(list(services.values())) if services else None

    # Pods.

    def kill_pod(self) -> None:
        pod = self._pod()
        if pod is not None:
            self.simulation.remove_pod(pod.uid)

    def drain_pod(self) -> None:
        """kubectl delete pod: the replacement is made at once, preStop waits for the agent."""
        pod = self._pod()
        if pod is not None:
            self.simulation.delete_pod(pod.uid)

    def abandon_drain(self) -> None:
        """The server container is stopped (its preStop asks for a drain) and started again in the same pod."""
        pod = self._pod()
        if pod is None or pod.draining:
            return
        pod.draining = True

        def over() -> None:
            pod.draining = self.simulation.pod_specs[pod.uid].deleting if pod.uid in self.simulation.pods else True

        self.simulation.at(self.rng.uniform(0.5, 5), over)

    def restart_agent(self) -> None:
        pod = self._pod()
        if pod is not None:
            pod.restart_agent()

    def lose_agent(self) -> None:
        """The agent is cut off, or its container is away: the operator notices after a while."""
        pod = self._pod()
        if pod is None:
            return
        pod.mute_until = self.simulation.now + self.rng.uniform(1, 8)
        session = pod.session
        self.simulation.at(1.0, lambda: self.simulation.lost(pod.uid, session))

    def restart_server(self) -> None:
        pod = self._pod()
        if pod is None:
            return
        pod.server_ready = False
        pod.restart_server()

        def back() -> None:
            pod.server_ready = True

        self.simulation.at(self.rng.uniform(0.1, 8), back)

    # TrainedModels.

    def _change(self, model: ModelSpec, **changes: object) -> None:
        changed = replace(model, generation=model.generation + 1, **changes)  # type: ignore[arg-type]  # any field
        self.simulation.models[model.key] = changed
        self.simulation.notify(events.ModelSeen(changed))

    def update_model(self) -> None:
        model = self._model()
        if model is not None:
            last = "broken" if self.rng.random() < 0.3 else self.simulation.uid("v")
            uri = f"s3://models/{model.name}-{last}"
            self._change(model, storage_uri=uri, content=content_digest(uri, "sklearn"))

    def resize_model(self) -> None:
        model = self._model()
        if model is not None:
            self._change(model, memory_bytes=self.rng.choice((5, 10, 20, 40)) * self.simulation.options.unit)

    def change_copies(self) -> None:
        model = self._model()
        if model is not None:
            self._change(model, min_copies=self.rng.choice((1, 1, 2)))

    def change_bounds(self) -> None:
        model = self._model()
        if model is not None:
            idle, most = self.rng.choice((None, 3.0)), self.rng.choice((None, 1, 2))
            self._change(model, idle_unload=idle, max_copies=most, min_copies=self.rng.choice((None, 0, 1)))

    def delete_model(self) -> None:
        model = self._model()
        if model is not None:
            del self.simulation.models[model.key]
            self.simulation.notify(events.ModelGone(model.key, model.uid))

    def delete_and_create(self) -> None:
        model = self._model()
        if model is None:
            return
        self.delete_this(model)

        def again() -> None:
            if model.key not in self.simulation.models:
                self.simulation.add_model(model.name, model.service)

        self.simulation.at(self.rng.uniform(0, 1), again)

    def delete_this(self, model: ModelSpec) -> None:
        del self.simulation.models[model.key]
        self.simulation.notify(events.ModelGone(model.key, model.uid))

    def create_model(self) -> None:
        self.simulation.add_model(self.simulation.uid("n"), self.rng.choice(self.simulation.names))

    def move_model(self) -> None:
        model = self._model()
        if model is not None:
            self._change(model, service=self.rng.choice(self.simulation.names))

    def move_there_and_back(self) -> None:
        model = self._model()
        if model is None:
            return
        self._change(model, service=self.rng.choice(self.simulation.names))

        def back() -> None:
            now = self.simulation.models.get(model.key)
            if now is not None:
                self._change(now, service=model.service)

        self.simulation.at(self.rng.uniform(0, 3), back)

    # InferenceServices.

    def _change_service(self, service: ServiceSpec, **changes: object) -> None:
        changed = replace(service, generation=service.generation + 1, **changes)  # type: ignore[arg-type]  # any field
        self.simulation.services[service.key] = changed
        self.simulation.notify(events.ServiceSeen(changed))

    def scale(self) -> None:
        service = self._service()
        if service is not None:
            count = self.rng.randint(1, 4)
            self._change_service(
                service, min_replicas=count, max_replicas=max(count, self.simulation.options.most_pods)
            )
            self.simulation.at(self.rng.uniform(0, 1), lambda: self.simulation.reconcile(service.name))

    def delete_service(self) -> None:
        """Deleted, and made again under its name while the old pods end."""
        service = self._service()
        if service is None:
            return
        del self.simulation.services[service.key]
        self.simulation.notify(events.ServiceGone(service.key, service.uid))
        self.simulation.at(self.rng.uniform(0, 4), lambda: self.simulation.reconcile(service.name))
        self.simulation.at(self.rng.uniform(0.1, 6), lambda: self.simulation.add_service(service.name))

    def switch_strict(self) -> None:
        service = self._service()
        if service is not None:
            self._change_service(service, strict=not service.strict)

    def switch_runtime(self) -> None:
        """The runtime that is chosen now loads something else, until someone corrects it."""
        service = self._service()
        if service is None:
            return
        self._change_service(service, formats=frozenset({"onnx"}))

        def back() -> None:
            now = self.simulation.services.get(service.key)
            if now is not None and now.uid == service.uid:
                self._change_service(now, formats=frozenset({"sklearn"}))

        self.simulation.at(self.rng.uniform(0.5, 5), back)

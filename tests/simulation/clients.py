"""Clients' requests, as the gateway carries them: to a pod, held by the activator, or refused with a reason."""

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shoal_operator.state.owners.project import activation_view
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import ModelKey, ModelSpec, Source

if TYPE_CHECKING:
    from .simulation import Simulation

PATIENCE = 30.0
"""Seconds for which a client of the traffic asks again while there are faults."""


@dataclass(frozen=True)
class Reply:
    """``refused``: the reason of a 503 or 404; None: the model's own server answered."""

    refused: str | None = None


class Clients:
    def __init__(self, simulation: "Simulation", rng: random.Random) -> None:
        self.simulation = simulation
        self.rng = rng
        self.loop = simulation.loop
        self.waiting: dict[ModelKey, float] = {}  # requests that the activator holds: since when

    def traffic(self) -> None:
        """Open loop: a few models get most requests."""
        rate = self.simulation.options.requests
        if not rate:
            return
        self.loop.at(self.rng.expovariate(rate), self.traffic)
        models = self.simulation.cluster.models
        if models:
            keys = sorted(models)
            self.ask(keys[min(int(self.rng.paretovariate(1.0)) - 1, len(keys) - 1)])

    def ask(self, key: ModelKey) -> None:
        """One request, asked again each second until it is answered; gives up at its deadline while there are faults,
        and else never."""
        model = self.simulation.cluster.usable.get(key)
        if model is None or self.attempt(model) is not None:
            self.waiting.pop(key, None)
            return
        since = self.waiting.setdefault(key, self.loop.now)
        self.demand(model)
        if self.loop.now < since + PATIENCE or not self.simulation.faults:
            self.loop.at(1.0, partial(self._again, key))
        else:
            self.waiting.pop(key, None)

    def _again(self, key: ModelKey) -> None:
        if key in self.waiting:
            self.ask(key)

    def demand(self, model: ModelSpec) -> None:
        """What the activator says while requests wait."""
        operator = self.simulation.operator
        operator.deliver(events.Requested(model.service_key, model.name), operator.generation)

    def attempt(self, model: ModelSpec) -> Reply | None:
        """What a request comes to now; None: it is held."""
        route = self.rng.choice(self.simulation.operator.envoys).table.get((model.service_key, model.name))
        if route is None and model.source is not Source.PREFIX:
            return Reply("ModelNotFound")
        if route is None:
            return self._activator(model)
        if route.pods and self._answers(self.rng.choice(sorted(route.pods)), model):
            return Reply()
        if not route.pods and route.unavailable is not Unavailable.COLD:
            return Reply(str(route.unavailable))
        return self._activator(model)

    def _answers(self, uid: str, model: ModelSpec) -> bool:
        pod = self.simulation.cluster.pods.get(uid)
        return pod is not None and pod.answer(model.name, model.uid, self.loop.now)

    def _activator(self, model: ModelSpec) -> Reply | None:
        """gateway/activation.py, by the state's own word for it."""
        operator = self.simulation.operator
        if operator.engine is None or operator.engine.world.recovering:
            return None  # the client is told so, and asks again
        view = activation_view(operator.engine.world, model.service_key, model.name, self.loop.now)
        if view is None:
            return Reply("ModelNotFound")
        if view.endpoints:
            addresses = {each.ip for each in view.endpoints}
            uids = [uid for uid, spec in self.simulation.cluster.pod_specs.items() if spec.ip in addresses]
            return Reply() if any(self._answers(uid, model) for uid in uids) else None
        if view.unavailable is Unavailable.SERVICE_NOT_READY:
            since = operator.absent.get(model.service_key)
            if since is not None and self.loop.now < since + view.timeout:
                return None
        return None if view.unavailable is Unavailable.COLD else Reply(str(view.unavailable))

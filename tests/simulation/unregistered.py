"""Requests for names that nobody registered: of artifacts that are below a place, and of made-up ones."""

import random
from functools import partial
from typing import TYPE_CHECKING

from shoal_operator.state.copies.unregistered import spec_of
from shoal_operator.state.world.prefix import Prefix
from shoal_operator.state.world.values import ModelKey, ModelSpec, ServiceKey

from .clients import PATIENCE, Reply

if TYPE_CHECKING:
    from .simulation import Simulation

THERE, MADE_UP = 8, 16
"""Names of each InferenceService; a name is one model's in a namespace."""
MOST = 16
"""Models of each InferenceService, those with an object of their own included."""
LOOK = 0.1


def names(service: str) -> tuple[str, ...]:
    """Of what is there."""
    return tuple(f"{service}-{number}" for number in range(THERE))


def made_up(service: str) -> tuple[str, ...]:
    return tuple(f"missing-{service}-{number}" for number in range(MADE_UP))


def place(simulation: "Simulation", uri: str = "s3://models/") -> Prefix | None:
    """Where an InferenceService's unregistered models are."""
    if not simulation.options.unregistered:
        return None
    declared = 10 * simulation.options.unit if uri != "s3://models/" else None
    return Prefix(uri, "sklearn", memory_bytes=declared, most=MOST)


class Unregistered:
    def __init__(self, simulation: "Simulation", rng: random.Random) -> None:
        self.simulation = simulation
        self.rng = rng
        self.loop = simulation.loop
        self.waiting: dict[tuple[ServiceKey, str], float] = {}  # requests that are held: since when
        self.answered = self.unknown = 0

    def traffic(self) -> None:
        """Open loop: as often for what is there as for what is not."""
        rate = self.simulation.options.unregistered
        if not rate:
            return
        self.loop.at(self.rng.expovariate(rate), self.traffic)
        services = sorted(self.simulation.cluster.services)
        if services:
            service = self.rng.choice(services)
            self.ask(service, self.rng.choice(self.rng.choice((names, made_up))(service.name)))

    def ask(self, key: ServiceKey, name: str) -> None:
        """One request, asked again each second until there is an answer; gives up while there are faults."""
        model = self._model(key, name)
        reply = self.simulation.clients.attempt(model) if model is not None else Reply("ModelNotFound")
        if model is None or reply is not None:
            self.waiting.pop((key, name), None)
            self._count(model, reply)
            return
        since = self.waiting.setdefault((key, name), self.loop.now)
        self.simulation.clients.demand(model)
        if self.loop.now < since + PATIENCE or not self.simulation.faults:
            self.loop.at(1.0, partial(self._again, key, name))
        else:
            self.waiting.pop((key, name), None)

    def _again(self, key: ServiceKey, name: str) -> None:
        if (key, name) in self.waiting:
            self.ask(key, name)

    def _count(self, model: ModelSpec | None, reply: Reply | None) -> None:
        self.answered += reply == Reply()
        self.unknown += reply == Reply("ModelNotFound")
        assert model is None or reply != Reply() or "missing" not in model.storage_uri, "answered by what is not there"

    def _model(self, key: ServiceKey, name: str) -> ModelSpec | None:
        """What a user means: the registered one of that name, else the artifact; None: the place is closed."""
        cluster = self.simulation.cluster
        registered = cluster.usable.get(ModelKey(key.namespace, name))
        if registered is not None:
            return registered if registered.service == key.name else None
        service = cluster.services.get(key)
        spec = spec_of(service, name) if service is not None else None
        if spec is not None:
            sizes = (5, 10) if spec.storage_uri.startswith("s3://models/") else (10,)
            cluster.unregistered.setdefault(spec.uid, self.rng.choice(sizes) * self.simulation.options.unit)
        return spec

    def check_at_rest(self) -> None:
        """Some names once more, one after another, in a copy of the world: each is answered, or unknown."""
        for key in sorted(self.simulation.cluster.services):
            for name in (*names(key.name)[:3], made_up(key.name)[0]):
                model = self._model(key, name)
                if model is None:
                    continue
                reply = self._request(model)
                if "missing" in model.storage_uri:
                    assert reply == Reply("ModelNotFound"), f"{name} of {key.name}: {reply}"
                elif self.simulation.cluster.broken_spec(model):
                    assert reply is not None
                    assert reply.refused, f"{name} of {key.name} is broken and answers"
                else:
                    assert reply is not None, f"{name} of {key.name} is never answered"
                    assert reply.refused in (None, "InsufficientMemory"), f"{name} of {key.name}: {reply}"

    def _request(self, model: ModelSpec) -> Reply | None:
        deadline, demand_at = self.loop.now + 30.0, self.loop.now
        while self.loop.now < deadline:
            reply = self.simulation.clients.attempt(model)
            if reply is not None:
                return reply
            if self.loop.now >= demand_at:
                self.simulation.clients.demand(model)
                demand_at = self.loop.now + 1.0
            self.loop.advance(LOOK)
        return None

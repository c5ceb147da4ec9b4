"""TrainedModels' statuses as they are stored: written by the operator a little after it says that one changed."""

import random
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from shoal_operator.state.owners.project import model_view
from shoal_operator.state.world import events
from shoal_operator.state.world.values import ModelKey, ModelSpec
from shoal_operator.status.conditions import find
from shoal_operator.status.model_status import model_status
from shoal_operator.watch import parse

if TYPE_CHECKING:
    from .simulation import Simulation

START = datetime(2026, 1, 1, tzinfo=UTC)
LONGEST = 0.5
"""Seconds until a change is written. How long those that pass by themselves are held back is status/budget.py's."""


class Statuses:
    def __init__(self, simulation: "Simulation", rng: random.Random) -> None:
        self.simulation = simulation
        self.rng = rng
        self.stored: dict[ModelKey, tuple[str, dict[str, Any]]] = {}  # with the model's UID
        self._changed: set[tuple[int, ModelKey]] = set()

    @property
    def moment(self) -> datetime:
        """What the clocks on the walls say."""
        return START + timedelta(seconds=self.simulation.loop.now)

    def changed(self, key: ModelKey) -> None:
        """The operator says that it may be another one now."""
        operator = self.simulation.operator
        if (operator.generation, key) not in self._changed:
            self._changed.add((operator.generation, key))
            delay = self.rng.uniform(0.05, LONGEST)
            self.simulation.loop.at(delay, partial(self._write, operator.generation, key))

    def _write(self, generation: int, key: ModelKey) -> None:
        self._changed.discard((generation, key))
        operator, now = self.simulation.operator, self.simulation.loop.now
        if operator.engine is None or operator.generation != generation:
            return
        view = model_view(operator.engine.world, key, now, url="")
        if view is not None and key in self.simulation.cluster.models:
            uid, previous = self.stored.get(key, ("", {}))
            status = model_status(view, previous if uid == view.spec.uid else {}, self.moment)
            if view.spec.uid == self.simulation.cluster.models[key].uid:
                self.stored[key] = view.spec.uid, status

    def gone(self, key: ModelKey) -> None:
        """The object was deleted."""
        self.stored.pop(key, None)

    def ready(self, key: ModelKey) -> tuple[str, str]:
        """Status and reason of the stored condition Ready; empty: nothing was written yet."""
        found = find(self.stored.get(key, ("", {}))[1], "Ready")
        return str(found.get("status", "")), str(found.get("reason", ""))

    def seen(self, spec: ModelSpec) -> events.ModelSeen:
        """The object with its status, as the watch tells of it."""
        uid, status = self.stored.get(spec.key, ("", {}))
        obj = {"metadata": {"generation": spec.generation}, "status": status if uid == spec.uid else {}}
        return events.ModelSeen(spec, parse.vouched(obj), parse.last_good(obj), parse.failure(obj))

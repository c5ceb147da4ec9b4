"""A whole control plane in one seeded loop: API server, operator core, agents, servers, Envoys, clock and faults.

Every step checks the invariants of docs/architecture.md; ``run`` ends with a quiet period in which everything must
have converged and nothing may move any more.
"""

import random
from functools import partial

from .agents import Agents
from .clients import Clients
from .cluster import Cluster
from .control_plane import ControlPlane
from .convergence import check_converged
from .faults import Faults
from .invariants import check, check_counts
from .law import Law, copy
from .loop import Loop
from .options import Options
from .statuses import Statuses
from .unregistered import Unregistered


class Simulation:
    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.rng = random.Random(seed)
        self.options = options or Options()
        self.loop = Loop()
        self.cluster = Cluster(self, self.rng)
        self.operator = ControlPlane(self, self.rng)
        self.agents = Agents(self, self.rng)
        self.statuses = Statuses(self, self.rng)
        self.clients = Clients(self, self.rng)
        self.unregistered = Unregistered(self, self.rng)
        self.law = Law(self, random.Random(f"law {seed}"))
        self.faults = self.options.faults
        self.checked = True  # the invariants after each step

    def run(self) -> None:
        self.begin()
        self.loop.advance(self.options.seconds)
        self.faults = False
        if self.operator.engine is None:
            self.loop.advance(5)
        self.loop.advance(60.0)
        self.options.requests = self.options.unregistered = 0.0
        self.loop.advance(120.0 if self.options.most_pods else 60.0)
        self.end()

    def _on_its_way_out(self) -> bool:
        engine = self.operator.engine
        return engine is not None and any(pod.occupied for pod in engine.world.pods.values())

    def begin(self) -> None:
        for name in self.cluster.names:
            self.cluster.add_service(name)
        self.operator.start()
        for index in range(self.options.models):
            self.cluster.add_model(f"m{index}", self.rng.choice(self.cluster.names))
        if self.faults:
            self.loop.at(self.rng.uniform(1, 3), Faults(self, self.rng).strike)
        if self.options.requests:
            self.loop.at(1.0, self.clients.traffic)
        if self.options.unregistered:
            self.loop.at(1.0, self.unregistered.traffic)
        for _ in range(self.options.samples):
            self.loop.at(self.law.rng.uniform(5, self.options.seconds + 60), partial(self.look, one=True))

    def look(self, *, one: bool = False) -> None:
        """Compare what is said with what is so."""
        if self.checked and self.operator.engine is not None:  # not in a copy of a copy
            check_counts(self, self.operator.engine.world)
            if one:
                self.law.sample()

    def end(self) -> None:
        """Everything has converged, and nothing moves any more."""
        operator, pods = self.operator, self.cluster.pods
        assert not self.unregistered.waiting, f"requests that are never answered: {self.unregistered.waiting}"
        assert not self.clients.waiting, f"requests that are never answered: {self.clients.waiting}"
        operator.busy_effects = operator.ticks = 0
        loads = sum(pod.loads for pod in pods.values())
        self.loop.advance(30.0)
        for _ in range(10):
            if not self._on_its_way_out():
                break
            self.loop.advance(0.5)  # what does not load is tried again for ever: perhaps just now
        assert operator.engine is not None
        check_converged(self, operator.engine.world)
        assert loads == sum(pod.loads for pod in pods.values()), "loads without a cause"
        if not any(self.cluster.broken_spec(model) for model in self.cluster.models.values()):
            # What failed is tried again now and then.
            checked = any(model.check for model in self.cluster.models.values())
            assert checked or operator.busy_effects == 0, f"not quiet after faults stopped: {list(operator.trace)[-5:]}"
            # Who has more pods than it must have looks whether that is still right.
            assert operator.ticks <= 1 or checked or self.options.most_pods, "timers that never end"
        self.look()
        self.law.sample_at_rest(self.options.samples // 2)
        if self.unregistered.answered:
            copied = copy(self)
            copied.be_quiet()
            copied.unregistered.check_at_rest()

    def check(self) -> None:
        """What must always hold."""
        if self.checked and self.operator.engine is not None:
            check(self, self.operator.engine.world)

    def be_quiet(self) -> None:
        """Nobody does anything any more; what is under way goes on."""
        self.faults = self.checked = False
        self.options.requests = self.options.unregistered = 0.0

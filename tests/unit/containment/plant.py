"""The operator's core with simulated agents and a gateway's table, on an event loop whose time only passes in waits."""

import asyncio
import contextlib
import functools
import random
import selectors
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec

from prometheus_client import CollectorRegistry
from shoal_operator.agents.border import facts
from shoal_operator.core import ROOMS, Core, Outlets
from shoal_operator.metrics import FailureMetrics
from shoal_operator.state.world.effects import Effect, RouteChanged
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.events import (
    EpochClaimed,
    Event,
    GatewayAcknowledged,
    Kind,
    Listed,
    ModelSeen,
    PodSeen,
    ServiceSeen,
    StoreLoaded,
)
from shoal_operator.state.world.timing import Timing
from shoal_operator.state.world.values import ModelSpec, ServiceKey

from tests.simulation.parts import SimPod
from tests.unit.state.world_in_hand import model_spec, pod_spec, service_spec

P = ParamSpec("P")

TIMING = Timing(
    recovery=5, drain_grace=0.1, first_placement=2, review=2, use_wait=0.05, retry_refused=0.1, scale_up=2, residency=0
)


class _Selector(selectors.SelectSelector):
    """Waits by moving the clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing is left that could happen"
            self.now += max(timeout, 0.0)
        return found


class Loop(asyncio.SelectorEventLoop):
    """Seconds pass at once."""

    def __init__(self) -> None:
        self.passing = _Selector()
        super().__init__(self.passing)
        # A select that returns a hair early would be made again and again.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self.passing.now


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it to its end. An exception that nobody caught fails it."""
    loop = Loop()
    uncaught: list[Any] = []
    loop.set_exception_handler(lambda _, context: uncaught.append(context.get("exception") or context))
    try:
        loop.run_until_complete(story())
        assert not uncaught, uncaught
    finally:
        loop.close()


def in_virtual_time(story: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test whose seconds pass at once, and which no other load on the machine makes late."""

    @functools.wraps(story)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        play(lambda: story(*args, **kwargs))

    return test


class Plant:
    """InferenceServices by name with pods named after them (a-1, a-2 ...)."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.routes: dict[tuple[str, str], RouteChanged] = {}
        self.sequence = 0
        self.told: list[Effect] = []
        self.fatal: list[Exception] = []
        self.pods: dict[str, SimPod] = {}
        self.rng = random.Random(1)
        self.registry = CollectorRegistry()
        self.hurt: Callable[[Effect], None] = lambda effect: None  # what a room does beside
        outlets = Outlets(self._gateway, dict.fromkeys(ROOMS, self._room), fatal=self.fatal.append)
        world = World(timing=TIMING)
        self.core = Core(world, outlets, self.loop.time, FailureMetrics(self.registry))

    def _gateway(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.hurt(effect)
            if isinstance(effect, RouteChanged):
                self.routes[effect.service.name, effect.model] = effect
            self.sequence = max(self.sequence, getattr(effect, "sequence", 0))
        sequence = self.sequence
        self.loop.call_later(0.01, lambda: self.core.handle(GatewayAcknowledged(sequence)))

    def _room(self, effect: Effect) -> None:
        self.hurt(effect)
        self.told.append(effect)

    def start(self) -> None:
        """Nothing is there yet."""
        first: list[Event] = [EpochClaimed(1), StoreLoaded(()), *map(Listed, Kind)]
        for event in first:
            self.core.handle(event)

    def service(self, name: str, pods: int, **spec: Any) -> None:
        self.core.handle(ServiceSeen(service_spec(name=name, uid=f"u-{name}", min_replicas=pods, **spec)))
        for number in range(1, pods + 1):
            self.pod(name, f"{name}-{number}")

    def pod(self, service: str, uid: str) -> None:
        self.core.handle(PodSeen(pod_spec(uid, service=service, ready=True, gate_open=True)))
        never: Any = lambda *_: False  # noqa: E731
        self.pods[uid] = SimPod(uid, uid, service, 100, self.rng, never, never, lambda _: 10)
        self.loop.call_soon(self._poll, uid)

    def model(self, name: str, service: str, **spec: Any) -> ModelSpec:
        made = model_spec(name, service=service, **spec)
        self.core.handle(ModelSeen(made))
        return made

    def _poll(self, uid: str) -> None:
        pod = self.pods.get(uid)
        if pod is None:
            return
        now = self.loop.time()
        pod.work(now)
        report = facts(pod.request(now))
        with contextlib.suppress(Exception):  # the agents' server answers 500, and the agent comes again
            acknowledged = self.core.report(report)
            if acknowledged is not None:
                pod.receive(self.core.answer(report, acknowledged), pod.session)
        self.loop.call_later(0.2, self._poll, uid)

    def serves(self, service: str, model: str) -> bool:
        """A request now would be answered: it goes to a pod that has the model."""
        route = self.routes.get((service, model))
        return route is not None and bool(route.pods) and all(model in self.pods[uid].loaded for uid in route.pods)

    def trouble(self, service: str) -> str:
        """The reason that its condition shows; empty when there is none."""
        found = self.core.service(ServiceKey("ns", service), "", 1)
        return found.trouble.reason if found is not None and found.trouble is not None else ""

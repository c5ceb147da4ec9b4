"""The one writer of the world: every event of every room passes here, and every effect leaves from here.

Runs on the event loop and never awaits, so events are applied one at a time in the order they come. A plan is made
for all events that asked for it meanwhile, and a large one in pieces, with everything else in between.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from shoal_api.messages import SyncRequest

from shoal_operator.engine import Engine
from shoal_operator.state import freshness, use
from shoal_operator.state.desired import DesiredList
from shoal_operator.state.effects import (
    ClaimEpoch,
    CopyForgotten,
    CopyStored,
    DeletionCost,
    DesiredChanged,
    Effect,
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
from shoal_operator.state.events import AgentLost, AgentReported, Event, Requested, Tick
from shoal_operator.state.pods import desired, drained
from shoal_operator.state.project import activation_view, model_view, service_view
from shoal_operator.state.values import ModelKey, ServiceKey
from shoal_operator.state.views import ActivationView, ModelView, ServiceView
from shoal_operator.state.world import World

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.01


class Outlets(Protocol):
    """Where effects go; main.py gives one that leads to the rooms. Nothing here may block."""

    def gateway(self, effects: Iterable[Effect]) -> None: ...

    def wake_agent(self, pod_uid: str) -> None: ...

    def model_status(self, key: ModelKey) -> None: ...

    def service_status(self, key: ServiceKey) -> None: ...

    def gate(self, effect: GateChanged) -> None: ...

    def store(self, effect: CopyStored | CopyForgotten) -> None: ...

    def replicas(self, effect: ReplicasWanted) -> None: ...

    def deletion_cost(self, effect: DeletionCost) -> None: ...

    def planned(self, service: ServiceKey, models: int, seconds: float) -> None: ...

    def claim_epoch(self, at_least: int) -> None: ...

    def recovered(self, effect: Recovered) -> None: ...


class Core:
    """``handle`` any event. Also what the agents' server asks of the state (agents.server.Backend)."""

    def __init__(self, world: World, outlets: Outlets, clock: Callable[[], float]) -> None:
        self.world = world
        self._outlets = outlets
        self._clock = clock
        self._engine = Engine(world, clock, outlets.planned)
        self._wake: asyncio.TimerHandle | None = None
        self._settling = False

    def handle(self, event: Event) -> None:
        """Apply an event now; a plan, if one is needed, follows in this turn of the loop or the next."""
        self._carry_out(self._engine.handle(event, self._clock()))
        if isinstance(event, Requested):
            # Somebody waits: planned as soon as what has come with it was taken in.
            asyncio.get_running_loop().call_soon(self._settle)
        elif not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._settle)

    def report(self, request: SyncRequest) -> int | None:
        """An agent's report; the version that its next delta may start from, None for a pod we do not know yet."""
        if request.pod_uid not in self.world.pods:
            return None
        self.handle(AgentReported(request))
        pod = self.world.pods.get(request.pod_uid)
        return pod.observed_version if pod is not None else None

    def desired(self, pod_uid: str) -> DesiredList | None:
        """What the pod should hold; None while that is not known."""
        return desired(self.world, pod_uid)

    def drained(self, pod_uid: str) -> bool:
        """Nothing on the pod answers requests any more."""
        return not self.world.recovering and drained(self.world, pod_uid)

    def model(self, key: ModelKey, url: str) -> ModelView | None:
        """One model as it stands; ``url`` is its InferenceService's."""
        return model_view(self.world, key, self._clock(), url=url)

    def service(self, key: ServiceKey, url: str, gateways: int) -> ServiceView | None:
        """One InferenceService as it stands; ``gateways``: connected Envoys."""
        return service_view(self.world, key, self._clock(), url=url, gateways=gateways)

    def activation(self, key: ServiceKey, name: str) -> ActivationView | None:
        """What a request for the model can expect now."""
        return activation_view(self.world, key, name, self._clock())

    def explain(self, key: ModelKey, url: str) -> ModelView | None:
        """One model with each pod's word about it; None when there is no such model."""
        view = self.model(key, url)
        return replace(view, verdicts=self._engine.verdicts(key, self._clock())) if view is not None else None

    def epoch(self) -> int:
        """The epoch claimed; 0 before."""
        return self.world.epoch

    def use_seconds(self, pod_uid: str) -> float:
        """How often the pod's agent should tell what was used."""
        return use.report_seconds(self.world, pod_uid)

    def use_now(self, pod_uid: str) -> bool:
        """The pod's agent should tell what was used at once."""
        return freshness.wanted(self.world, pod_uid)

    def lost(self, pod_uid: str, session: str) -> None:
        """The agent hung up and did not come back in time."""
        self.handle(AgentLost(pod_uid, session))

    def _settle(self) -> None:
        self._settling = False
        self._carry_out(self._engine.settle_one(self._clock()))
        if self._engine.unsettled and not self._settling:
            # Others first: ten thousand new models are planned in pieces, between which requests and agents are heard.
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _carry_out(self, effects: list[Effect]) -> None:
        routes: list[Effect] = []
        for effect in effects:
            match effect:
                case PodEndpointChanged() | RouteChanged() | ServiceRouteChanged():
                    routes.append(effect)
                case DesiredChanged(pod_uid):
                    self._outlets.wake_agent(pod_uid)
                case ModelStatusChanged(model):
                    self._outlets.model_status(model)
                case ServiceStatusChanged(service):
                    self._outlets.service_status(service)
                case CopyStored() | CopyForgotten():
                    self._outlets.store(effect)
                case GateChanged():
                    self._outlets.gate(effect)
                case ReplicasWanted():
                    self._outlets.replicas(effect)
                case DeletionCost():
                    self._outlets.deletion_cost(effect)
                case ClaimEpoch(epoch):
                    self._outlets.claim_epoch(epoch)
                case WakeAt(at):
                    self._wake_at(at)
                case Recovered():
                    self._outlets.gateway(routes)
                    routes = []
                    self._outlets.recovered(effect)
                case _:
                    raise AssertionError(f"no outlet for {effect}")
        if routes:
            self._outlets.gateway(routes)

    def _wake_at(self, at: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        delay = max(0.0, at - self._clock())
        self._wake = asyncio.get_running_loop().call_later(delay, self.handle, Tick())

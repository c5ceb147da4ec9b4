"""The one writer of the world: every event of every room passes here, and every effect leaves from here.

Runs on the event loop and never awaits, so events are applied one at a time in the order they come. A plan is made
for all events that asked for it meanwhile, and a large one in pieces, with everything else in between.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client import CollectorRegistry
from shoal_api.messages import SyncResponse

from shoal_operator.agents.answer import answer
from shoal_operator.containment import Containment
from shoal_operator.engine import Engine
from shoal_operator.logs import OncePer
from shoal_operator.metrics import FailureMetrics
from shoal_operator.state.owners.project import activation_view, model_view, service_view
from shoal_operator.state.pods import limits
from shoal_operator.state.pods.limits import Known
from shoal_operator.state.world.effects import (
    ClaimEpoch,
    CopyForgotten,
    CopyStored,
    DeletionCost,
    DesiredChanged,
    Effect,
    Failed,
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
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.events import AgentLost, AgentReported, Event, PodReached, Requested, Tick
from shoal_operator.state.world.report import AgentReport
from shoal_operator.state.world.values import ModelKey, Problem, ServiceKey
from shoal_operator.state.world.views import ActivationView, ModelView, ServiceView

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.01
SAID_AGAIN_SECONDS = 60.0
"""An error that each turn may have, and that concerns nobody, is said and counted so often."""


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where effects go: ``gateway`` takes those about routes, many at once; ``rooms`` the others, by their type.

    ``planned`` is told of each plan (service, models, seconds), ``ask`` has a pod's agent report everything, ``fatal``
    is told what cannot be contained, ``named`` an epoch above ours that an agent has obeyed, ``turn_ended`` of the end
    of each turn and how many effects it had. Nothing here may block.
    """

    gateway: Callable[[Sequence[Effect]], None]
    rooms: Mapping[type[Any], Callable[[Any], None]]
    planned: Callable[[ServiceKey, int, float], None] = lambda service, models, seconds: None
    ask: Callable[[str], None] = lambda pod_uid: None
    fatal: Callable[[Exception], None] = lambda error: None
    named: Callable[[int], None] = lambda epoch: None
    turn_ended: Callable[[int], object] = lambda effects: None


ROUTES = (PodEndpointChanged, RouteChanged, ServiceRouteChanged)
ROOMS = (
    DesiredChanged,
    ModelStatusChanged,
    ServiceStatusChanged,
    CopyStored,
    CopyForgotten,
    GateChanged,
    ReplicasWanted,
    DeletionCost,
    ClaimEpoch,
    Recovered,
)
"""What ``Outlets.rooms`` has to have an entry for; plans and timers are turned in here."""


class Core:
    """``handle`` any event. Also what the agents' server asks of the state (agents.server.Backend)."""

    def __init__(
        self, world: World, outlets: Outlets, clock: Callable[[], float], metrics: FailureMetrics | None = None
    ) -> None:
        self.world = world
        self._outlets = outlets
        self._clock = clock
        self._engine = Engine(world, clock, outlets.planned)
        self._containment = Containment(
            self._engine,
            clock,
            carry_out=self._carry_out,
            ask=outlets.ask,
            fatal=outlets.fatal,
            metrics=metrics or FailureMetrics(CollectorRegistry()),
        )
        self._wake: asyncio.TimerHandle | None = None
        self._work_planned = False
        self._batch_failed = OncePer(SAID_AGAIN_SECONDS, clock)

    def handle(self, event: Event) -> None:
        """Apply an event now; a plan, if one is needed, follows in this turn of the loop or the next."""
        if not self._containment.absorbs(event) and self._turn(event) and not self._containment.absorbs(event):
            self._turn(event)  # somebody else is out of the way now
        if isinstance(event, Requested):
            # Somebody waits: planned as soon as what has come with it was taken in.
            asyncio.get_running_loop().call_soon(self._work)
        elif not self._work_planned:
            self._work_planned = True
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._work)

    def failed(self, service: ServiceKey | None, doing: str, error: Exception) -> None:
        """A room failed over an object; of the world nothing is wrong."""
        self._containment.note(Failed(service, doing, error))

    def known(self, pod_uid: str) -> Known | None:
        """What the agents' border needs to know of a pod; None for one that was not seen yet."""
        aside = self._containment.pod_aside(pod_uid)
        return limits.set_aside(aside) if aside is not None else limits.known(self.world, pod_uid)

    def addresses(self) -> set[str]:
        """Of all pods that the watch has shown."""
        return limits.addresses(self.world) | self._containment.addresses_aside()

    def epoch_limit(self) -> int:
        """The highest epoch that an agent is believed to have obeyed."""
        return limits.epoch_limit(self.world)

    def report(self, report: AgentReport) -> int | None:
        """An agent's report; the version that its next delta may start from, None for a pod we do not know yet."""
        if report.epoch > self.world.epoch:
            self._outlets.named(report.epoch)
        acknowledged = self._containment.reported(report)
        if acknowledged is not None:
            return acknowledged
        if report.pod_uid not in self.world.pods:
            return None
        self.handle(AgentReported(report))
        pod = self.world.pods.get(report.pod_uid)
        return pod.observed_version if pod is not None else 0

    def answer(self, report: AgentReport, acknowledged: int) -> SyncResponse:
        """What the agent is to be told now; while its service is out it keeps what it has."""
        response = answer(self.world, report, acknowledged)
        if self._containment.pod_is_out(report.pod_uid):
            return response.model_copy(update={"drained": False})
        return response

    def model(self, key: ModelKey, url: str) -> ModelView | None:
        """One model as it stands; ``url`` is its InferenceService's."""
        return model_view(self.world, key, self._clock(), url=url)

    def service(self, key: ServiceKey, url: str, gateways: int) -> ServiceView | None:
        """One InferenceService as it stands; ``gateways``: connected Envoys."""
        view = service_view(self.world, key, self._clock(), url=url, gateways=gateways)
        view = view or self._containment.view(key, url, gateways)
        return replace(view, trouble=self._containment.trouble(key)) if view is not None else None

    def activation(self, key: ServiceKey, name: str) -> ActivationView | None:
        """What a request for the model can expect now."""
        out = self._containment.activation(key, name)
        return out or activation_view(self.world, key, name, self._clock())

    def trouble_of(self, key: ModelKey) -> Problem | None:
        """Why a model is not in the world although there is one."""
        service = self._containment.model_is_out(key)
        return self._containment.trouble(service) if service is not None else None

    def explain(self, key: ModelKey, url: str) -> ModelView | None:
        """One model with each pod's word about it; None when there is no such model."""
        view = self.model(key, url)
        return replace(view, verdicts=self._engine.verdicts(key, self._clock())) if view is not None else None

    def lost(self, pod_uid: str, session: str) -> bool:
        """The agent hung up and did not come back in time; whether that is news, and not the end of its pod or of its
        InferenceService."""
        pod = self.world.pods.get(pod_uid)
        is_news = pod is not None and not pod.leaving and pod.spec.service_key in self.world.services
        self.handle(AgentLost(pod_uid, session))
        return is_news

    def reached(self, pod_uid: str, *, reached: bool) -> None:
        """Whether the pod of an agent that is not heard any more can be reached."""
        self.handle(PodReached(pod_uid, reached=reached))

    def _work(self) -> None:
        self._work_planned = False
        self._carry_out(self._engine.work(self._clock()))
        if self._engine.has_work and not self._work_planned:
            # Others first: ten thousand new models are planned in pieces, between which requests and agents are heard.
            self._work_planned = True
            asyncio.get_running_loop().call_soon(self._work)

    def _turn(self, event: Event) -> bool:
        """Apply an event; whether something failed with it."""
        effects = self._engine.handle(event, self._clock())
        self._carry_out(effects)
        return any(isinstance(effect, Failed) for effect in effects)

    def _carry_out(self, effects: list[Effect]) -> None:
        """Each to its room. One that fails there keeps no other back."""
        routes: list[Effect] = []
        failures: list[Failed] = []
        for effect in effects:
            match effect:
                case PodEndpointChanged() | RouteChanged() | ServiceRouteChanged():
                    routes.append(effect)
                case WakeAt(at):
                    self._wake_at(at)
                case Failed():
                    failures.append(effect)
                case _:
                    if isinstance(effect, Recovered):  # the gateway opens with it, and must have everything
                        failures += self._route(routes)
                        routes = []
                    failures += self._leave(effect, self._outlets.rooms[type(effect)])
        failures += self._route(routes)
        for failure in failures:
            self._containment.failed(failure)
        self._outlets.turn_ended(len(effects))

    def _route(self, routes: list[Effect]) -> list[Failed]:
        """All at once; one by one where that fails, so that only whose route it is is concerned."""
        if not routes:
            return []
        try:
            self._outlets.gateway(routes)
        except Exception as error:
            one = self._outlets.gateway
            failures = [failure for effect in routes for failure in self._leave(effect, lambda each: one([each]))]
            if not failures and self._batch_failed.ready():
                # Nobody has lost anything, and nobody can be named; it is an error of ours all the same.
                self._containment.note(Failed(None, "routes at once", error))
            return failures
        return []

    def _leave(self, effect: Effect, room: Callable[[Any], None]) -> list[Failed]:
        try:
            room(effect)
        except Exception as error:
            return [Failed(self._concerned(effect), type(effect).__name__, error)]
        return []

    def _concerned(self, effect: Effect) -> ServiceKey | None:
        match effect:
            case RouteChanged(service) | ServiceRouteChanged(service) | ReplicasWanted(service):
                return service
            case ServiceStatusChanged(service):
                return service
            case ModelStatusChanged(key):
                model = self.world.models.get(key)
                return model.spec.service_key if model is not None else self._containment.model_is_out(key)
            case CopyStored():
                return ServiceKey(effect.model.namespace, effect.service)
            case PodEndpointChanged(uid) | DesiredChanged(uid) | GateChanged(uid) | DeletionCost(uid):
                pod = self.world.pods.get(uid)
                return pod.spec.service_key if pod is not None else None
            case CopyForgotten(_, uid):
                pod = self.world.pods.get(uid)
                return pod.spec.service_key if pod is not None else None
            case _:
                return None

    def _wake_at(self, at: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        delay = max(0.0, at - self._clock())
        self._wake = asyncio.get_running_loop().call_later(delay, self.handle, Tick())

"""What an error of our own may reach: the InferenceService that was worked on, and nobody else.

That one is taken out of the world and put back as after a start, from what the watch has said last and from full
reports of its agents, with backoff; meanwhile its pods serve what they have. Where that cannot help, because nobody can
be named or because it goes on with everybody, the process is to end: Kubernetes starts a new one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from shoal_operator.engine import Engine
from shoal_operator.logs import hide_secrets
from shoal_operator.metrics import FailureMetrics
from shoal_operator.state.aside import Known
from shoal_operator.state.owners.project import service_view
from shoal_operator.state.rebuild import Rebuild
from shoal_operator.state.world.effects import Effect, Failed, PodEndpointChanged, ServiceStatusChanged, Unavailable
from shoal_operator.state.world.events import AgentReported, Event, ModelGone, ModelSeen, PodGone, Tick
from shoal_operator.state.world.report import AgentReport
from shoal_operator.state.world.values import ModelKey, PodSpec, Problem, ServiceKey
from shoal_operator.state.world.views import ActivationView, ServiceView

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 300.0
WELL_SECONDS = 60.0
"""So long without an error a service is told of as being well again."""
IN_A_ROW = 3
"""When every service there is has failed so often in a row, the fault is not theirs."""
MOST, MOST_SECONDS = 40, 600.0
"""More errors than that in that time are more than a few services can cause with their backoff."""


@dataclass(slots=True)
class _Case:
    """One service that had an error lately."""

    problem: Problem
    failures: int = 0  # in a row
    since: float = 0.0  # when it was taken out last
    timer: asyncio.TimerHandle | None = None
    view: ServiceView | None = None  # as it was


class Containment:
    """``carry_out`` gets effects; ``ask`` has an agent report everything; ``fatal`` ends the process, once."""

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], float],
        *,
        carry_out: Callable[[list[Effect]], None],
        ask: Callable[[str], None],
        fatal: Callable[[Exception], None],
        metrics: FailureMetrics,
    ) -> None:
        self._engine = engine
        self._world = engine.world
        self._clock = clock
        self._carry_out = carry_out
        self._ask = ask
        self._fatal = fatal
        self._metrics = metrics
        self._cases: dict[ServiceKey, _Case] = {}
        self._aside: dict[ServiceKey, Known] = {}
        self._rebuilds: dict[ServiceKey, Rebuild] = {}  # of those aside, the ones that are being put back
        self._recent: deque[float] = deque()

    # What failed.

    def failed(self, effect: Failed) -> None:
        """Take the service out that an error concerns, and put it back after a while."""
        service = effect.service
        if service is not None and service in self._aside:
            if service in self._rebuilds:  # the gateway could not be told
                self._put_off(service, effect)
            return  # one error is enough
        case = self._note(effect)
        if service is None or case is None:
            self._end(effect.error)
            return
        now = self._clock()
        try:
            case.view = service_view(self._world, service, now, url="", gateways=0)
        except Exception:
            case.view = None  # wrong itself
        try:
            known, effects = self._engine.take_out(service, now)
        except Exception as error:
            self._end(error)
            return
        self._aside[service] = known
        case.since = now
        self._metrics.aside.set(len(self._aside))
        for uid in known.pods:
            self._ask(uid)
        self._retry_later(service, case)
        self._carry_out([*effects, ServiceStatusChanged(service)])

    def note(self, effect: Failed) -> None:
        """An error beside the world: nothing of it is wrong, and nobody has to be rebuilt."""
        if self._note(effect, beside=True) is not None and effect.service is not None:
            if effect.service in self._aside:
                return
            self._watch(effect.service)
            self._carry_out([ServiceStatusChanged(effect.service)])

    # What is told meanwhile.

    def absorbs(self, event: Event) -> bool:
        """Take in what is said of a service that is out; whether nobody else has to know. What is kept of it is what it
        is put back by: where that cannot be trusted, nothing can."""
        try:
            return bool(self._aside) and self._absorbed(event)
        except Exception as error:
            self._end(error)
            return True

    def _absorbed(self, event: Event) -> bool:
        absorbed = False
        for key, known in list(self._aside.items()):
            if known.note(event):
                absorbed = True
                match event:
                    case ModelSeen(spec) if spec.key in self._world.models:  # it has come from another service
                        self._carry_out(self._engine.handle(ModelGone(spec.key, spec.uid), self._clock()))
                        for other in self._aside.values():
                            if other is not known:
                                other.note(event)  # the other service may have gone out over this very thing
                    case PodGone(uid) if uid in known.endpoints:
                        known.endpoints.discard(uid)
                        self._carry_out([PodEndpointChanged(uid, "")])  # another pod may have its address soon
                    case AgentReported() if key not in self._rebuilds and not known.late:
                        self._retry_later(key, self._cases[key])
        return absorbed

    def reported(self, request: AgentReport) -> int | None:
        """An agent's report, if its service is out: the version that its next delta may start from."""
        if self.pod_is_out(request.pod_uid):
            self.absorbs(AgentReported(request))
            held = any(request.pod_uid in known.reports for known in self._aside.values())
            return request.observed_version if held else 0  # 0 asks for everything
        return None

    # What is asked meanwhile.

    def pod_is_out(self, uid: str) -> bool:
        """Its service is out."""
        return self.pod_aside(uid) is not None

    def pod_aside(self, uid: str) -> PodSpec | None:
        """The pod, if its service is out."""
        return next((known.pods[uid] for known in self._aside.values() if uid in known.pods), None)

    def addresses_aside(self) -> set[str]:
        """Of the pods whose service is out."""
        return {pod.ip for known in self._aside.values() for pod in known.pods.values() if pod.ip}

    def model_is_out(self, key: ModelKey) -> ServiceKey | None:
        """The model's service, if that is out."""
        return next((service for service, known in self._aside.items() if key in known), None)

    def trouble(self, service: ServiceKey) -> Problem | None:
        """What went wrong with it lately."""
        case = self._cases.get(service)
        return case.problem if case is not None else None

    def view(self, service: ServiceKey, url: str, gateways: int) -> ServiceView | None:
        """A service that is out, as it was."""
        known = self._aside.get(service)
        if known is None or known.service is None:
            return None
        view = self._cases[service].view
        if view is None:
            ready = sum(pod.ready for pod in known.pods.values())
            total = known.models
            view = ServiceView(known.service, url, known.service.min_replicas, ready, total, total, 0)
        return replace(view, spec=known.service, url=url, gateways=gateways)

    def activation(self, service: ServiceKey, name: str) -> ActivationView | None:
        """A model of a service that is out: its requests can wait."""
        known = self._aside.get(service)
        if known is None:
            return None
        may_be = known.service is not None and known.service.may_have(name)  # not known before it is looked up
        if ModelKey(service.namespace, name) not in known and not may_be:
            return None
        if known.service is None:
            return ActivationView((), Unavailable.SERVICE_NOT_READY)
        spec = known.service
        return ActivationView((), Unavailable.COLD, timeout=spec.longest_wait, max_held=spec.max_held)

    # Putting back.

    def _retry_later(self, service: ServiceKey, case: _Case) -> None:
        """Once the pause is over, and agents have reported or have had their time."""
        known = self._aside[service]
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(case.failures - 1, 20))
        patience = self._world.timing.recovery if known.late else 0.0
        self._at(case, case.since + max(pause, patience), self._retry, service)

    def _retry(self, service: ServiceKey) -> None:
        case, known = self._cases[service], self._aside[service]
        now = self._clock()
        if self._world.recovering or (known.late and now < case.since + self._world.timing.recovery):
            self._at(case, now + FIRST_PAUSE_SECONDS, self._retry, service)
            return
        self._rebuilds[service] = Rebuild(self._world, known)
        self._go_on(service)

    def _go_on(self, service: ServiceKey) -> None:
        """A piece of putting back; others get the event loop between two."""
        rebuild = self._rebuilds[service]
        try:
            effects = self._engine.advance(rebuild, self._clock())
        except Exception as error:
            self._put_off(service, Failed(service, "rebuild", error))
            if rebuild.merging:
                self._end(error)
            return
        if not rebuild.done:
            self._at(self._cases[service], self._clock(), self._go_on, service)
            self._carry_out(effects)
            return
        del self._aside[service], self._rebuilds[service]
        self._metrics.aside.set(len(self._aside))
        log.info("an InferenceService was rebuilt", extra={"event": "Rebuilt", "service": "/".join(service)})
        self._watch(service)
        self._carry_out([*effects, *self._engine.handle(Tick(), self._clock())])

    def _put_off(self, service: ServiceKey, effect: Failed) -> None:
        """It could not be put back; tried again after a longer pause."""
        if (rebuild := self._rebuilds.pop(service, None)) is not None:
            rebuild.give_up()
        self._note(effect)
        case = self._cases[service]
        case.since = self._clock()
        self._retry_later(service, case)
        self._carry_out([ServiceStatusChanged(service)])

    def _watch(self, service: ServiceKey) -> None:
        self._at(self._cases[service], self._clock() + WELL_SECONDS, self._well, service)

    def _well(self, service: ServiceKey) -> None:
        """Nothing has happened for a while."""
        del self._cases[service]
        if service not in self._world.services:
            self._metrics.forget(service)
        self._carry_out([ServiceStatusChanged(service)])

    # Saying so.

    def _note(self, effect: Failed, *, beside: bool = False) -> _Case | None:
        """Count it and say so. None when it is one too many, which those ``beside`` the world never are."""
        now, service, error = self._clock(), effect.service, effect.error
        self._metrics.failed(service, effect.doing)
        log.error(
            "an error of the operator's own; please report it",
            exc_info=error,
            extra={"event": "InternalError", "service": "/".join(service or ("unknown",)), "doing": effect.doing},
        )
        if not beside:
            self._recent.append(now)
        while self._recent and self._recent[0] < now - MOST_SECONDS:
            self._recent.popleft()
        if service is None:
            return None
        case = self._cases.setdefault(service, _Case(Problem("InternalError", "")))
        case.failures += not beside
        case.problem = Problem("InternalError", _sentence(effect))
        if not beside and (len(self._recent) > MOST or self._all_fail()):
            self._end(error)
            return None
        return case

    def _all_fail(self) -> bool:
        """Nobody is left whom going on would serve."""
        everyone = self._world.services.keys() | self._aside.keys()
        return all(key in self._cases and self._cases[key].failures >= IN_A_ROW for key in everyone)

    def _end(self, error: Exception) -> None:
        log.critical(
            "an error that cannot be contained: the operator ends, and is started again",
            extra={"event": "NotContained", "cause": repr(error)[:300]},
        )
        self._fatal(error)

    def _at(self, case: _Case, at: float, call: Callable[[ServiceKey], None], service: ServiceKey) -> None:
        if case.timer is not None:
            case.timer.cancel()
        case.timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), call, service)


def _sentence(effect: Failed) -> str:
    said = hide_secrets(" ".join(f"{type(effect.error).__name__}: {effect.error}".split()))[:200]
    return (
        f"Shoal itself failed while it worked on this InferenceService ({effect.doing}: {said}). It is looked at anew, "
        "with growing pauses; what is loaded goes on being served. If this stays: report it, with the operator's log "
        "lines of event InternalError."
    )

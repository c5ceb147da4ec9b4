"""One InferenceService taken out of the world, and what is sure of it meanwhile.

After an exception nobody knows what of its models, pods and copies is as it should be. What the watch has said last of
them is sure, and so is what their agents report. Taking out happens in one step, so it only lifts objects out of the
world's dictionaries: what they hold is looked at by ``rebuild``, in pieces.
"""

from collections import deque
from dataclasses import dataclass, field, replace

from shoal_operator.state.pods import moves
from shoal_operator.state.pods.limits import MAX_UNKNOWN
from shoal_operator.state.world import parts
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import Effect
from shoal_operator.state.world.entities import Model, Pod, World
from shoal_operator.state.world.events import (
    AgentLost,
    AgentReported,
    Event,
    ModelGone,
    ModelSeen,
    PodGone,
    PodSeen,
    Requested,
    ServiceGone,
    ServiceSeen,
)
from shoal_operator.state.world.models import Members
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.report import AgentReport
from shoal_operator.state.world.stats import Stats
from shoal_operator.state.world.values import ModelKey, PodSpec, ServiceKey, ServiceSpec


@dataclass(slots=True)
class Known:
    """What is sure of one InferenceService.

    ``lifted``, ``lifted_pods``: as they were taken out of the world; ``seen``: what the watch has said since, where it
    can be used, and ``complaints`` where it cannot. ``routed``: what the gateway was told of models besides the
    lifted ones; ``endpoints``: pods that it was told of.
    """

    key: ServiceKey
    service: ServiceSpec | None = None
    lifted: Members = field(default_factory=Members)  # by name
    lifted_pods: dict[str, Pod] = field(default_factory=dict)
    seen: dict[ModelKey, ModelSeen] = field(default_factory=dict)
    complaints: dict[ModelKey, ModelSeen] = field(default_factory=dict)
    pods: dict[str, PodSpec] = field(default_factory=dict)
    reports: dict[str, AgentReport] = field(default_factory=dict)  # the last full one of each agent
    routed: set[tuple[ServiceKey, str]] = field(default_factory=set)
    endpoints: set[str] = field(default_factory=set)
    stats: Stats = field(default_factory=Stats)
    later: deque[Event] | None = None  # what is said while it is being put back, if it is

    def __contains__(self, key: object) -> bool:
        """The model is the service's."""
        return key in self.seen or (isinstance(key, ModelKey) and self.former(key) is not None)

    def former(self, key: ModelKey) -> Model | None:
        """A model as it was taken out."""
        return self.lifted.get(key.name) if key.namespace == self.key.namespace else None

    @property
    def models(self) -> int:
        """How many there are; O(those seen since)."""
        return len(self.lifted) + sum(self.former(key) is None for key in self.seen)

    def model(self, key: ModelKey) -> ModelSeen | None:
        """What the watch has said last of a model that can be used."""
        seen, lifted = self.seen.get(key), self.former(key)
        if seen is not None or lifted is None:
            return seen
        vouched = lifted.vouched == lifted.spec.content
        return ModelSeen(lifted.spec, vouched, lifted.last_good, lifted.failure)

    def complaint(self, key: ModelKey) -> ModelSeen | None:
        """What it has said since, and is of no use."""
        complaint, lifted = self.complaints.get(key), self.former(key)
        if complaint is not None or key in self.seen or lifted is None or lifted.complaint is None:
            return complaint
        return ModelSeen(replace(lifted.spec, problem=lifted.complaint))

    def note(self, event: Event) -> bool:
        """Take in what an event says of the service; whether it was about it."""
        about_it = self._take_in(event)
        if about_it and self.later is not None and not isinstance(event, Requested):
            self.later.append(event)
        return about_it

    def _take_in(self, event: Event) -> bool:
        match event:
            case ServiceSeen(spec) if spec.key == self.key:
                self.service = spec.with_place_of(self.service) if self.service is not None else spec
            case ServiceGone(key) if key == self.key:
                self.service = None
            case ModelSeen(model_spec):
                if model_spec.service_key != self.key:
                    self._move_on(model_spec.key)
                    return False
                self._saw(event)
            case ModelGone(model_key, uid) if model_key in self:
                last = self.model(model_key)
                if last is not None and last.spec.uid == uid:
                    self._drop(model_key)
            case PodSeen(pod_spec) if pod_spec.service_key == self.key:
                self.pods[pod_spec.uid] = pod_spec
            case PodGone(uid) if uid in self.pods:
                del self.pods[uid]
                self.reports.pop(uid, None)
            case AgentReported(request) if request.pod_uid in self.pods:
                self._reported(request)
            case AgentLost(uid) if uid in self.pods:
                self.reports.pop(uid, None)
            case Requested(key) if key == self.key:
                pass  # whoever waits says so again
            case _:
                return False
        return True

    def _saw(self, event: ModelSeen) -> None:
        key, last = event.spec.key, self.model(event.spec.key)
        same = last is not None and last.spec.uid == event.spec.uid and last.spec.problem is None
        if event.spec.problem is not None and same:
            self.complaints[key] = event  # the last usable spec stays in force
        else:
            self.seen[key] = event
            self.complaints.pop(key, None)

    def _move_on(self, key: ModelKey) -> None:
        """The model is another service's now, whoever knows that one is told."""
        last = self.model(key)
        if last is not None:
            self.note(ModelGone(key, last.spec.uid))

    def _drop(self, key: ModelKey) -> None:
        self.seen.pop(key, None)
        self.complaints.pop(key, None)
        model = self.former(key)
        if model is not None:
            self.lifted.drop(key.name)
            self.routed |= {(service, key.name) for service in model.routes}

    def _reported(self, request: AgentReport) -> None:
        """Keep what the agent holds, as one full report."""
        before = self.reports.pop(request.pod_uid, None)
        if request.observed_base is not None:
            if before is None or before.session != request.session or before.observed_version < request.observed_base:
                return  # it is asked for everything
            slots = {slot.name: slot for slot in (*before.observed, *request.observed)}
            for name in request.observed_gone:
                slots.pop(name, None)
            observed = tuple(slots.values())[:MAX_UNKNOWN]
            request = replace(request, observed=observed, observed_base=None, observed_gone=())
        self.reports[request.pod_uid] = request

    @property
    def late(self) -> list[str]:
        """Ready pods whose agents have not reported since, by UID."""
        return [uid for uid, pod in self.pods.items() if pod.ready and uid not in self.reports]


def take_out(world: World, key: ServiceKey, now: float) -> tuple[Known, list[Effect]]:
    """Forget everything of the service; what is sure of it, and what the edges must do. Nothing is said of it: what
    serves goes on serving, and agents keep what they have.

    One step: O(pods), and some 0.1 us a copy.
    """
    known = Known(key)
    service, known.lifted, known.lifted_pods = parts.lift(world, key)
    if service is not None:
        known.service, known.stats = service.spec, service.stats
    for uid, pod in known.lifted_pods.items():
        if not pod.gone:
            known.pods[uid] = pod.spec
        if pod.routed is not None:
            known.endpoints.add(uid)
    guests = _guests(world, known)
    parts.forget(world, key, known, known.lifted_pods)
    return known, _let_go(world, guests, now)


def _guests(world: World, known: Known) -> list[ModelKey]:
    """Models of other services that had copies on the pods, and have none there any more."""
    if not world.models:
        return []
    return [
        guest
        for uid, pod in known.lifted_pods.items()
        for name in known.lifted.lacks(pod.copies)
        if (guest := ModelKey(pod.spec.namespace, name)) in world.models
        and world.models[guest].copies.pop(uid, None) is not None
    ]


def _let_go(world: World, guests: list[ModelKey], now: float) -> list[Effect]:
    """Models on their way from here to another InferenceService have lost one side."""
    ctx = Context(world, now)
    for guest in guests:
        with ctx.contained("letting go of a model that moves"):
            model = world.models[guest]
            moves.begin_move(ctx, model, None)
            world.pieces.put(Task.ROUTES, guest, [guest])
            ctx.plan_model(model)
    return ctx.effects

"""One InferenceService put back as after a start, in pieces.

A small world of its own goes through the recovery with what is known of it, whatever else happens meanwhile; what is
said of the service in that time is told to the small world as well. Then the gateway is told, still in pieces, and in
one last step the small world's contents are in the world. If anything fails before that, the world has not been
touched, and another ``Rebuild`` can be made of what is known.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from shoal_operator.state import wish
from shoal_operator.state.aside import Known
from shoal_operator.state.copies import life
from shoal_operator.state.machine import step
from shoal_operator.state.pods import recovery
from shoal_operator.state.world import parts
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import (
    CopyForgotten,
    DesiredChanged,
    Effect,
    Failed,
    ModelStatusChanged,
    PlanNeeded,
    PodEndpointChanged,
    Recovered,
    RouteChanged,
    ServiceRouteChanged,
    ServiceStatusChanged,
    WakeAt,
)
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.events import (
    AgentReported,
    EpochClaimed,
    Event,
    Kind,
    Listed,
    ModelGone,
    PodSeen,
    Proceed,
    ServiceSeen,
    StoredCopy,
    StoreLoaded,
)
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.remains import Remains
from shoal_operator.state.world.values import ModelKey, ServiceKey

T = TypeVar("T")

MODELS_AT_ONCE = 400
EFFECTS_AT_ONCE = 200
EVENTS_AT_ONCE = 20
"""Of what was said of the service meanwhile: each is a step."""

_SAID_AT_LAST = ModelStatusChanged | ServiceStatusChanged | DesiredChanged | PlanNeeded
"""That something is to be looked at again, which it can be once it is in the world."""


class NotRebuilt(Exception):
    """The service could not be put back; what was raised is the cause."""


class Rebuild:
    """``advance`` until ``done``. ``merging``: the world is being changed; what fails now cannot be contained."""

    def __init__(self, world: World, known: Known) -> None:
        self.merging = self.done = False
        self._world = world
        self._known = known
        # Numbers of its own, and nothing is acknowledged: both become the world's when it is told.
        self._own = World(timing=world.timing, versions=world.versions, acknowledged=-1)
        self._now = 0.0
        self._later = known.later = deque[Event]()
        self._unsent: deque[Effect] = deque()
        self._work = self._pieces()

    def advance(self, now: float) -> list[Effect]:
        """The next piece, and what the edges must do. Raises NotRebuilt, or whatever else went wrong; it ends then."""
        self._now = now
        return next(self._work)

    def give_up(self) -> None:
        """It could not be put back: what there was of it is let go of."""
        if not self.merging:
            self._leave(Remains(self._own.models.lift(self._known.key), self._own.pods))

    def _leave(self, remains: Remains) -> None:
        self._world.pieces.put_source(Task.REMAINS, self._known.key, remains)

    def _pieces(self) -> Iterator[list[Effect]]:
        yield from self._let_go()
        for _ in self._build():
            yield []
        for _ in self._compare():
            yield []
        own = self._own
        sent: list[Effect] = []
        while self._later or own.pieces or self._unsent:
            for _ in range(min(len(self._later), EVENTS_AT_ONCE)):
                self._step(event := self._later.popleft())
                if isinstance(event, ModelGone):
                    self._world.models.forget([event.key])
            if own.pieces:
                self._step(Proceed())
            sent = self._send()
            if self._later or own.pieces or self._unsent:
                yield sent
        # From here to the end in one go: nothing can be said of the service in between.
        self.merging = True
        parts.put_in(self._world, own)
        for key in own.models.services():
            self._world.pieces.put_all(Task.ROUTES, key, self._world.models.of(key))  # the status of each is looked at
        known = self._known
        self._leave(Remains(known.lifted, known.lifted_pods, known.reports))
        self.done = True
        planned = [PlanNeeded(key) for key, service in own.services.items() if service.plan_requested]
        yield [*sent, *map(DesiredChanged, own.pods), *planned, ServiceStatusChanged(self._known.key)]

    def _let_go(self) -> Iterator[list[Effect]]:
        """Copies on pods of others, of models on their way from there to here: they have lost one side."""
        world, known = self._world, self._known
        for keys in _pages(known):
            ctx = Context(world, self._now)
            for model in map(known.former, keys):
                for uid, copy in model.copies.items() if model is not None else ():
                    pod = world.pods.get(uid)
                    if pod is not None and pod.copies.get(copy.name) is copy:
                        with ctx.contained("letting go of a model that moves", pod.spec.service_key):
                            life.retire(ctx, pod, copy)
            yield ctx.effects

    # The small world.

    def _build(self) -> Iterator[None]:
        """What a new operator would be told, in an order that is good, and its recovery. Agents that have not reported
        are not waited for."""
        own, known = self._own, self._known
        self._step(EpochClaimed(self._world.epoch))
        self._step(StoreLoaded(()))
        if known.service is not None:
            self._step(ServiceSeen(known.service))
        for uid in list(known.pods):
            if uid in known.pods:
                self._step(PodSeen(known.pods[uid]))
                if uid not in known.reports:
                    recovery.store_loaded(Context(own, self._now), self._stored(uid))
                yield
        new = [key for key in known.seen if known.former(key) is None]
        for keys in chain(_pages(known), _in_parts(new, MODELS_AT_ONCE)):
            for key in keys:
                for seen in (known.model(key), known.complaint(key)):
                    if seen is not None:
                        self._step(seen)
            yield
        for uid in list(known.reports):
            if uid in known.reports and uid in known.pods:
                # The epoch that it has obeyed is our own.
                self._step(AgentReported(replace(known.reports[uid], epoch=0)))
                yield
        own.awaiting_since = self._now - own.timing.recovery
        for kind in Kind:
            self._step(Listed(kind))
        while own.recovering or own.pieces:
            yield
            self._step(Proceed())

    def _stored(self, uid: str) -> Iterator[StoredCopy]:
        """What a pod holds whose agent has not said it since."""
        pod = self._known.lifted_pods.get(uid)
        for name, copy in pod.copies.items() if pod is not None else ():
            key = ModelKey(self._known.key.namespace, name)
            model = self._known.former(key)
            if model is not None and copy.serving == model.aim_id:
                yield StoredCopy(key, copy.uid, model.spec.content, self._known.key.name, uid)

    def _step(self, event: Event) -> None:
        for effect in step(self._own, event, self._now):
            match effect:
                case Failed():
                    raise NotRebuilt(f"{effect.doing}: {effect.error!r}") from effect.error
                case Recovered() | WakeAt():
                    pass
                case _ if not isinstance(effect, _SAID_AT_LAST):
                    self._unsent.append(effect)

    def _compare(self) -> Iterator[None]:
        """With what there was: what was learned is kept, and what the edges were told and is not so is taken back."""
        own, known = self._own, self._known
        for keys in _pages(known):
            for key in keys:
                model, lifted = own.models.get(key), known.former(key)
                if lifted is None:
                    continue
                if model is not None and lifted.spec.content == model.spec.content:
                    wish.remember(model, lifted)
                self._take_back((service, key.name) for service in lifted.routes)
            yield
        for routed in _in_parts(sorted(known.routed), MODELS_AT_ONCE):
            self._take_back(routed)
            self._world.models.forget(ModelKey(known.key.namespace, name) for _, name in routed)
            yield
        for uid, lifted_pod in list(known.lifted_pods.items()):
            own_pod = own.pods.get(uid)
            for name, copy in lifted_pod.copies.items():
                held_copy = own_pod.copies.get(name) if own_pod is not None else None
                if held_copy is None or held_copy.uid != copy.uid:
                    self._unsent.append(CopyForgotten(copy.uid, uid))
            yield
        if known.key in own.services:
            own.services[known.key].stats = known.stats
        else:
            self._unsent.append(ServiceRouteChanged(known.key, known=False, sequence=0))
        self._unsent += [PodEndpointChanged(uid, "") for uid in sorted(known.endpoints - own.pods.keys())]

    def _take_back(self, routed: Iterable[tuple[ServiceKey, str]]) -> None:
        """Routes that the gateway was told of, where there are none now."""
        for service, name in routed:
            model = self._own.models.get(ModelKey(self._known.key.namespace, name))
            if model is None or service not in model.routes:
                self._unsent.append(RouteChanged(service, name, 0))

    def _send(self) -> list[Effect]:
        """The next effects, numbered as the world's."""
        count = min(len(self._unsent), EFFECTS_AT_ONCE)
        return [self._numbered(self._unsent.popleft()) for _ in range(count)]

    def _numbered(self, effect: Effect) -> Effect:
        if not isinstance(effect, RouteChanged | ServiceRouteChanged):
            return effect
        if isinstance(effect, RouteChanged):
            self._known.routed.add((effect.service, effect.model))  # if it has to be built once more
        return replace(effect, sequence=self._world.next_sequence())


def _pages(known: Known) -> Iterator[list[ModelKey]]:
    """The models that were taken out; those that go meanwhile are left out."""
    after = ""
    while names := known.lifted.page(after, MODELS_AT_ONCE):
        after = names[-1]
        yield [ModelKey(known.key.namespace, name) for name in names]


def _in_parts(items: list[T], size: int) -> Iterator[list[T]]:
    """What there was when it began, so that it may change meanwhile."""
    return (items[begin : begin + size] for begin in range(0, len(items), size))

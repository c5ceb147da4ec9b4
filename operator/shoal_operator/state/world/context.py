"""One step's surroundings: the world, the time, and the effects gathered so far."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shoal_operator.state.world.blame import blamed
from shoal_operator.state.world.effects import CopyForgotten, DesiredChanged, Effect, Failed, PlanNeeded
from shoal_operator.state.world.entities import Model, Service, World
from shoal_operator.state.world.values import ModelKey, ServiceKey, Source


@dataclass(slots=True)
class Context:
    """``now`` in monotonic seconds, given by the caller: the state reads no clock."""

    world: World
    now: float
    effects: list[Effect] = field(default_factory=list)

    def emit(self, effect: Effect) -> None:
        """Ask the edges for something; silent until the world is known, when recovery says everything once."""
        if isinstance(effect, DesiredChanged | CopyForgotten):
            self.world.touch(effect.pod_uid)
        if not self.world.silent:
            self.effects.append(effect)

    def say(self, effect: Effect) -> None:
        """The same, also while the world is not known."""
        self.effects.append(effect)

    @contextmanager
    def contained(self, doing: str, service: ServiceKey | None = None) -> Iterator[None]:
        """An exception inside ends what is inside, and becomes an effect. ``service``: whom it concerns if no frame
        says more."""
        try:
            yield
        except Exception as error:
            self.effects.append(Failed(blamed(self.world, error) or service, doing, error))

    def plan(self, service: Service) -> None:
        """Ask for a plan, once, unless the service still waits for its first pods."""
        if service.gathering or service.plan_requested or self.world.recovering:
            return
        service.plan_requested = True
        self.effects.append(PlanNeeded(service.spec.key))

    def plan_model(self, model: Model) -> None:
        service = self.world.services.get(model.spec.service_key)
        if service is not None:
            self.plan_later(service, [model.spec.key], asked=model.asked_until > self.now)
            self.plan(service)

    def plan_later(self, service: Service, keys: Iterable[ModelKey], *, asked: bool = False) -> None:
        """Have the next plan look at these models: before all others if they are ``asked`` for."""
        if not asked:
            service.dirty.update(keys)
            return
        for key in keys:
            service.dirty.ask(key)

    def planned(self, service: Service, batch: Iterable[ModelKey]) -> None:
        """A plan was made, after which these need not be looked at again."""
        service.plan_requested = False
        service.dirty.difference_update(batch)

    def offer_memory(self, service: Service) -> None:
        """Memory was freed: offer it to refused and to cold models, in batches."""
        if service.refused or service.cold:
            self.retry_at(service, self.now + self.world.timing.retry_refused)

    def retry_at(self, service: Service, at: float) -> None:
        """Plan for those who wait at that time, or earlier."""
        if service.retry_at is None or at < service.retry_at:
            service.retry_at = at
            self.world.retrying.add(service.spec.key)

    def retries(self) -> Iterator[Service]:
        """InferenceServices for whom it is time to plan again; each is named once."""
        for key in list(self.world.retrying):
            service = self.world.services.get(key)
            if service is None or service.retry_at is None:
                self.world.retrying.discard(key)
            elif self.now >= service.retry_at:
                service.retry_at = None
                self.world.retrying.discard(key)
                yield service

    def review(self, service: Service) -> None:
        """Review the service's hot models and replicas regularly, as long as something happens."""
        self.world.reviewing.add(service.spec.key)
        self.review_soon()

    def review_soon(self) -> None:
        """Have the next regular review, if none is due."""
        if self.world.review_at is None:
            self.world.review_at = self.now + self.world.timing.review

    def review_due(self) -> bool:
        """It is time for the regular review; it is not due again until it is asked for."""
        if self.world.review_at is None or self.now < self.world.review_at:
            return False
        self.world.review_at = None
        return True

    def settle_later(self, model: Model) -> None:
        """Something was learned of it: if nobody registered it, it is seen at the end of the step whether it stays."""
        if model.spec.source is Source.PREFIX:
            self.world.unsettled.add(model.spec.key)

    def next_unsettled(self) -> ModelKey | None:
        """One of those of which that is so, which it is no more; None: there is none, or not in this step."""
        key = next(iter(self.world.unsettled), None)
        if key is None or not self.world.pieces.spend():
            return None
        self.world.unsettled.discard(key)
        return key

    def reviewed(self, key: ServiceKey) -> None:
        """Nothing of this service will change while nothing happens."""
        self.world.reviewing.discard(key)

    def model(self, key: ModelKey, uid: str) -> Model | None:
        """The live model of that name, if it is still the one with that UID."""
        model = self.world.models.get(key)
        return model if model is not None and model.spec.uid == uid else None

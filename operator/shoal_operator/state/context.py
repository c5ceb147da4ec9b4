"""One step's surroundings: the world, the time, and the effects gathered so far."""

from dataclasses import dataclass, field

from .effects import Effect, PlanNeeded
from .values import ModelKey
from .world import Model, Service, World


@dataclass(slots=True)
class Context:
    """``now`` in monotonic seconds, given by the caller: the state reads no clock."""

    world: World
    now: float
    effects: list[Effect] = field(default_factory=list)

    def emit(self, effect: Effect) -> None:
        """Ask the edges for something; silent while recovering, since recovery's end emits everything once."""
        if not self.world.recovering:
            self.effects.append(effect)

    def plan(self, service: Service) -> None:
        """Ask for a plan, once, unless the service still waits for its first pods."""
        if service.held or service.plan_requested or self.world.recovering:
            return
        service.plan_requested = True
        self.effects.append(PlanNeeded(service.spec.key))

    def plan_model(self, model: Model) -> None:
        service = self.world.services.get(model.spec.service_key)
        if service is not None:
            service.dirty.add(model.spec.key)
            self.plan(service)

    def plan_waiting(self, service: Service) -> None:
        """Memory was freed: offer it to refused and to cold models, in batches."""
        if service.waiting or service.cold:
            self.retry_at(service, self.now + self.world.timing.retry_refused)

    def retry_at(self, service: Service, at: float) -> None:
        """Plan for those who wait at that time, or earlier."""
        if service.retry_at is None or at < service.retry_at:
            service.retry_at = at
            self.world.retrying.add(service.spec.key)

    def review(self, service: Service) -> None:
        """Look at the service's hot models and replicas regularly, as long as something happens."""
        self.world.reviewing.add(service.spec.key)
        self.review_soon()

    def review_soon(self) -> None:
        """Have the next regular look, if none is due."""
        if self.world.review_at is None:
            self.world.review_at = self.now + self.world.timing.review

    def model(self, key: ModelKey, uid: str) -> Model | None:
        """The live model of that name, if it is still the one with that UID."""
        model = self.world.models.get(key)
        return model if model is not None and model.spec.uid == uid else None

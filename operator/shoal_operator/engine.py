"""State and placement, turned together: one event in, all effects out, plans made on the way.

Without I/O or clock, so that the operator and the simulation run exactly the same code.
"""

from collections.abc import Callable

from shoal_operator.placement.planner import plan
from shoal_operator.placement.verdicts import verdicts
from shoal_operator.state.aside import Known, take_out
from shoal_operator.state.machine import step
from shoal_operator.state.owners.plans import offers, plan_input
from shoal_operator.state.rebuild import Rebuild
from shoal_operator.state.world.effects import Effect, Failed, PlanNeeded
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.events import Event, Planned, Proceed
from shoal_operator.state.world.values import ModelKey, ServiceKey, Verdict


class Engine:
    """``handle`` applies events; services that need a plan are collected and planned once a batch is done."""

    def __init__(
        self,
        world: World,
        clock: Callable[[], float] = lambda: 0.0,
        planned: Callable[[ServiceKey, int, float], None] = lambda service, models, seconds: None,
    ) -> None:
        """``planned`` is told of each plan: its service, how many models it looked at, and seconds by ``clock``."""
        self.world = world
        self._clock = clock
        self._planned = planned
        self._to_plan: dict[ServiceKey, None] = {}
        self._planned_last = False

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Apply one event at ``now`` (monotonic seconds); plans are left for ``work_off``."""
        try:
            return self._without_plans(step(self.world, event, now))
        except Exception as error:  # in what contains the rest
            return [Failed(None, "step", error)]

    def work_off(self, now: float) -> list[Effect]:
        """Make and apply plans until no service asks for one, and what is done in pieces until all is done."""
        effects: list[Effect] = []
        while self.has_work:
            effects += self.work(now)
        return effects

    @property
    def has_work(self) -> bool:
        """Some service has asked for a plan since its last one, or some of what is done in pieces is left."""
        return bool(self._to_plan or self.world.pieces)

    def work(self, now: float) -> list[Effect]:
        """A bounded piece of work: plan a part of what one service has to be planned, or the next of the world's
        pieces. They take turns, so that neither waits for all of the other."""
        service = next(iter(self._to_plan), None)
        if self.world.pieces and (service is None or self._planned_last):
            self._planned_last = False
            return self.handle(Proceed(), now)
        if service is None:
            return []
        self._planned_last = True
        del self._to_plan[service]
        begun = self._clock()
        try:
            given = plan_input(self.world, service, now)
            if given is None:
                return []
            made = plan(given)
        except Exception as error:
            return [Failed(service, "plan", error)]
        effects = self.handle(Planned(made), now)
        self._planned(service, len(given.needs), self._clock() - begun)
        return effects

    def take_out(self, service: ServiceKey, now: float) -> tuple[Known, list[Effect]]:
        """See ``state.aside``."""
        self._to_plan.pop(service, None)
        known, effects = take_out(self.world, service, now)
        return known, self._without_plans(effects)

    def advance(self, rebuild: Rebuild, now: float) -> list[Effect]:
        """The next piece of putting a service back. Raises what keeps it from that: see ``state.rebuild``."""
        return self._without_plans(rebuild.advance(now))

    def _without_plans(self, effects: list[Effect]) -> list[Effect]:
        """What is left of effects once the plans that they ask for are noted."""
        left: list[Effect] = []
        for effect in effects:
            if isinstance(effect, PlanNeeded):
                self._to_plan[effect.service] = None
            else:
                left.append(effect)
        return left

    def verdicts(self, key: ModelKey, now: float) -> tuple[Verdict, ...]:
        """Why the model is not on each of the pods of its InferenceService where it is not; O(pods)."""
        found = offers(self.world, key, now)
        return verdicts(*found) if found is not None else ()

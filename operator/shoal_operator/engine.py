"""State and placement, turned together: one event in, all effects out, plans made on the way.

Without I/O or clock, so that the operator and the simulation run exactly the same code.
"""

from collections.abc import Callable

from shoal_operator.placement.planner import plan
from shoal_operator.placement.verdicts import verdicts
from shoal_operator.state.effects import Effect, PlanNeeded
from shoal_operator.state.events import Event, Planned
from shoal_operator.state.machine import step
from shoal_operator.state.plans import offers, plan_input
from shoal_operator.state.values import ModelKey, ServiceKey, Verdict
from shoal_operator.state.world import World


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

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Apply one event at ``now`` (monotonic seconds); plans are left for ``settle``."""
        effects: list[Effect] = []
        for effect in step(self.world, event, now):
            if isinstance(effect, PlanNeeded):
                self._to_plan[effect.service] = None
            else:
                effects.append(effect)
        return effects

    def settle(self, now: float) -> list[Effect]:
        """Make and apply plans until no service asks for one."""
        effects: list[Effect] = []
        while self.unsettled:
            effects += self.settle_one(now)
        return effects

    @property
    def unsettled(self) -> bool:
        """Some service has asked for a plan since its last one."""
        return bool(self._to_plan)

    def settle_one(self, now: float) -> list[Effect]:
        """Plan a part of what one service has to be planned, and apply it: a bounded piece of work."""
        service = next(iter(self._to_plan), None)
        if service is None:
            return []
        del self._to_plan[service]
        begun = self._clock()
        given = plan_input(self.world, service, now)
        if given is None:
            return []
        effects = self.handle(Planned(plan(given)), now)
        self._planned(service, len(given.needs), self._clock() - begun)
        return effects

    def verdicts(self, key: ModelKey, now: float) -> tuple[Verdict, ...]:
        """Why the model is not on each of the pods of its InferenceService where it is not; O(pods)."""
        found = offers(self.world, key, now)
        return verdicts(*found) if found is not None else ()

"""State and placement, turned together: one event in, all effects out, plans made on the way.

Without I/O or clock, so that the operator and the simulation run exactly the same code.
"""

from shoal_operator.placement.planner import plan
from shoal_operator.state.effects import Effect, PlanNeeded
from shoal_operator.state.events import Event, Planned
from shoal_operator.state.machine import step
from shoal_operator.state.plans import plan_input
from shoal_operator.state.values import ServiceKey
from shoal_operator.state.world import World


class Engine:
    """``handle`` applies events; services that need a plan are collected and planned once a batch is done."""

    def __init__(self, world: World) -> None:
        self.world = world
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
        """Plan every service that asked for it since the last call, and apply the plans."""
        effects: list[Effect] = []
        while self._to_plan:
            service = next(iter(self._to_plan))
            del self._to_plan[service]
            given = plan_input(self.world, service)
            if given is not None:
                effects += self.handle(Planned(plan(given)), now)
        return effects

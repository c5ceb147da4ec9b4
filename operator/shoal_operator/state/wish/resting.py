"""What an InferenceService that may be without pods can count on. Pure questions."""

from shoal_operator.state.world.entities import Model, Service, World
from shoal_operator.state.world.rest import Bounds, Phase


def bounds(world: World, service: Service) -> Bounds:
    """The seconds that hold for it."""
    spec, timing = service.spec, world.timing
    idle = spec.idle if spec.idle is not None else float("inf")
    return Bounds(idle, timing.use_told, spec.longest_wait, timing.look_up)


def pod_expected(world: World, service: Service, now: float) -> bool:
    """A request that comes now has a pod in time, by all that is known, though there may be none."""
    return service.spec.idle is not None and service.rest.expects(bounds(world, service), now)


def never_looked_up(service: Service, model: Model) -> bool:
    """No pod has looked for what the model names, and none runs that could."""
    return service.rest.phase in (Phase.ZERO, Phase.WAKING) and model.vouched != model.spec.content

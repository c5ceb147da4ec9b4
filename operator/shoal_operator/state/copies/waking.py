"""An InferenceService without pods is used again: a pod is asked for.

For a model that a request can count on at once. For one that nobody has looked up, or whose last try failed, at most
once in a while: whoever asks for what is not there has no pod started for each of his questions.
"""

from shoal_operator.state import wish
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import ReplicasWanted, ServiceStatusChanged
from shoal_operator.state.world.entities import Model, Service, World
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import ServiceKey


def used(ctx: Context, service: Service) -> None:
    """A request for one of its models was sent to a pod."""
    service.rest.use(ctx.now)


def asked(ctx: Context, service: Service, model: Model) -> None:
    """A request waits for the model."""
    rest = service.rest
    rest.use(ctx.now)
    if not rest.resting:
        return
    if rest.phase is Phase.EMPTYING or wish.counted_on(service, model, ctx.now):
        wake(ctx, service, "a request waits")
    else:
        want_look(ctx, service)


def look_up(ctx: Context, service: Service, model: Model) -> None:
    """Its artifact is to be looked up. What was Ready once, and what failed, waits for the next pod."""
    if service.rest.phase is Phase.ZERO and model.vouched != model.spec.content and model.failure is None:
        want_look(ctx, service)


def want_look(ctx: Context, service: Service) -> None:
    """Something is to be looked up, and no pod is wanted."""
    service.rest.want_look()
    at = service.rest.look_at(wish.bounds(ctx.world, service))
    if at is not None:
        ctx.world.alarms.put(max(at, ctx.now), service.spec.key)


def wake(ctx: Context, service: Service, why: str) -> None:
    """Pods are wanted again. Those that there still are need not be waited for."""
    rest, key = service.rest, service.spec.key
    before = rest.phase
    rest.turn(Phase.UP if _any_pod(ctx.world, key) else Phase.WAKING, ctx.now)
    ctx.world.alarms.put(ctx.now, key)
    if before is Phase.ZERO:
        service.stats.wakes += 1
        ctx.emit(ReplicasWanted(key, service.scale.replicas or service.spec.min_replicas, why))
    ctx.offer_memory(service)
    ctx.emit(ServiceStatusChanged(key))


def waits(service: Service) -> float:
    """Seconds that a request which comes now may wait: longer where a pod has to come first."""
    spec = service.spec
    return spec.activation_timeout if service.rest.phase is Phase.UP else spec.longest_wait


def _any_pod(world: World, key: ServiceKey) -> bool:
    return any(world.pods[uid].placeable for uid in world.pods_of.get(key, ()))

"""InferenceServices coming, changing and going."""

from operator import attrgetter

from . import cold, probes, scaling
from .context import Context
from .effects import ServiceRouteChanged, ServiceStatusChanged
from .pods import release
from .routes import refresh, refresh_service
from .values import ServiceKey, ServiceSpec
from .world import Service


def seen(ctx: Context, spec: ServiceSpec) -> None:
    """An InferenceService as it is now, its runtime resolved."""
    world = ctx.world
    service = world.services.get(spec.key)
    if service is None:
        service = world.services[spec.key] = Service(spec)
        for key in world.models_of.get(spec.key, ()):
            model = world.models[key]
            model.loaded = model.ready = model.failed = False  # counted nowhere yet
            service.dirty.add(key)
        refresh_service(ctx, spec.key)
        for key in world.models_of.get(spec.key, ()):
            refresh(ctx, world.models[key])
        if any(world.pods[uid].placeable for uid in world.pods_of.get(spec.key, ())):
            service.hold_until = ctx.now + world.timing.first_placement
            world.held.add(spec.key)
        _begin(ctx, service)
        release(ctx, spec.key)
        ctx.plan(service)
        return
    before, service.spec = service.spec, spec
    if spec == before:
        return
    if (spec.autoscaled, spec.min_replicas, spec.max_replicas) != (
        before.autoscaled,
        before.min_replicas,
        before.max_replicas,
    ):
        scaling.begin(ctx, service)
    if _DECIDES(spec) != _DECIDES(before):
        refresh_service(ctx, spec.key)
        for key in world.models_of.get(spec.key, ()):
            service.dirty.add(key)
            world.models[key].target = max(1, world.models[key].target)
            cold.watch_idle(ctx, world.models[key])
            refresh(ctx, world.models[key])
    release(ctx, spec.key)
    if service.dirty:
        ctx.plan(service)
    ctx.emit(ServiceStatusChanged(spec.key))


_DECIDES = attrgetter("problem", "formats", "strict", "capacity_bytes")
"""What decides where models can be; a change has them all looked at again."""


def _begin(ctx: Context, service: Service) -> None:
    """What is only known now that the service is: sizes to be looked up, replicas."""
    for key in ctx.world.models_of.get(service.spec.key, ()):
        model = ctx.world.models[key]
        model.target = max(1, model.target)
        cold.watch_idle(ctx, model)
        if model.memory is None:
            probes.want(ctx, service, model)
    if not ctx.world.recovering:
        scaling.begin(ctx, service)


def gone(ctx: Context, key: ServiceKey, uid: str) -> None:
    """The InferenceService was deleted: its models wait for it to come back; its pods go with their Deployment."""
    world = ctx.world
    service = world.services.get(key)
    if service is None or service.spec.uid != uid:
        return
    del world.services[key]
    world.retrying.discard(key)
    world.held.discard(key)
    world.sequence += 1
    ctx.emit(ServiceRouteChanged(key, known=False, sequence=world.sequence))
    for model_key in world.models_of.get(key, ()):
        model = world.models[model_key]
        model.refusal = None
        probes.end(ctx, model)
        refresh(ctx, model)
    ctx.emit(ServiceStatusChanged(key))

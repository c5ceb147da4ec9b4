"""InferenceServices coming, changing and going."""

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
            model.ready = model.failed = False  # counted nowhere yet
            service.dirty.add(key)
        refresh_service(ctx, spec.key)
        for key in world.models_of.get(spec.key, ()):
            refresh(ctx, world.models[key])
        if any(world.pods[uid].placeable for uid in world.pods_of.get(spec.key, ())):
            service.hold_until = ctx.now + world.timing.first_placement
            world.held.add(spec.key)
        release(ctx, spec.key)
        ctx.plan(service)
        return
    before, service.spec = service.spec, spec
    if spec == before:
        return
    if (spec.problem, spec.formats) != (before.problem, before.formats):
        refresh_service(ctx, spec.key)
        for key in world.models_of.get(spec.key, ()):
            service.dirty.add(key)
            refresh(ctx, world.models[key])
    release(ctx, spec.key)
    if service.dirty:
        ctx.plan(service)
    ctx.emit(ServiceStatusChanged(spec.key))


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
        refresh(ctx, model)
    ctx.emit(ServiceStatusChanged(key))

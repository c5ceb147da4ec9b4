"""InferenceServices coming, changing and going."""

from collections.abc import Iterable
from operator import attrgetter

from shoal_operator.state import wish
from shoal_operator.state.copies import probes
from shoal_operator.state.copies.routes import refresh, refresh_service, to_be_announced
from shoal_operator.state.demand import cold, resting, scaling
from shoal_operator.state.owners import unregistered
from shoal_operator.state.pods.health import end_gathering, gather, stop_gathering
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import ServiceRouteChanged, ServiceStatusChanged
from shoal_operator.state.world.entities import Service
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.values import ModelKey, ServiceKey, ServiceSpec


def seen(ctx: Context, spec: ServiceSpec) -> None:
    """An InferenceService as it is now, its runtime resolved."""
    world = ctx.world
    service = world.services.get(spec.key)
    if service is None:
        # One pod is all that there is to wait for where there may be none.
        service = world.services[spec.key] = Service(spec, gathering=spec.idle is None)
        if not to_be_announced(ctx):
            resting.begin(ctx, service)
        for uid in world.pods_of.get(spec.key, ()):
            world.touch(uid)  # what they have room for is not known
        refresh_service(ctx, spec.key)
        if any(world.pods[uid].placeable for uid in world.pods_of.get(spec.key, ())):
            gather(ctx, service)
        _revise_all(ctx, spec.key)
        if not world.recovering:
            scaling.begin(ctx, service)
            if spec.idle is not None:
                scaling.announce(ctx, service)
        end_gathering(ctx, spec.key)
        ctx.plan(service)
        return
    spec = spec.with_place_of(service.spec)
    before, service.spec = service.spec, spec
    if spec == before:
        return
    if spec.idle != before.idle:
        resting.changed(ctx, service, before.idle)
        if spec.idle is not None:
            stop_gathering(ctx, spec.key)
    if _WAITS(spec) != _WAITS(before):
        resting.waits_differ(ctx, service)
    if (spec.autoscaled, spec.min_replicas, spec.max_replicas) != (
        before.autoscaled,
        before.min_replicas,
        before.max_replicas,
    ):
        scaling.begin(ctx, service)
        scaling.on_each_pod(ctx, service)
    if _DECIDES(spec) != _DECIDES(before) or spec.policy != before.policy:
        refresh_service(ctx, spec.key)
    if _DECIDES(spec) != _DECIDES(before):
        _revise_all(ctx, spec.key)
    if (spec.models_from, spec.uid) != (before.models_from, before.uid):
        unregistered.place_changed(ctx, spec.key)
    if spec.check != before.check:
        world.pieces.put_all(Task.CHECKS, spec.key, world.models.of(spec.key))
    end_gathering(ctx, spec.key)
    if service.dirty:
        ctx.plan(service)
    ctx.emit(ServiceStatusChanged(spec.key))


_DECIDES = attrgetter("problem", "formats", "strict", "capacity_bytes", "multi_model", "uid", "maybe_none")
"""What decides where models can be; a change has them all looked at again."""
_WAITS = attrgetter("wake_timeout", "activation_timeout")


def _revise_all(ctx: Context, key: ServiceKey) -> None:
    """The service came, changed or went: what that means for its models, for some now, the rest in pieces."""
    if not to_be_announced(ctx):
        revise(ctx, ctx.world.pieces.begin_all(Task.MODELS, key, ctx.world.models.of(key)))


def revise(ctx: Context, keys: Iterable[ModelKey]) -> None:
    """One piece of its models: they are planned anew and sizes are looked up, or nothing is wanted of them any more."""
    services: dict[ServiceKey, Service] = {}
    for key in keys:
        model = ctx.world.models.get(key)
        if model is None:
            continue
        service = ctx.world.services.get(model.spec.service_key)
        if service is None:
            wish.admit(None, model)
            probes.end(ctx, model)
        else:
            services[service.spec.key] = service
            ctx.plan_later(service, [key])
            if model.crashes:
                wish.worked(model)  # there may be more memory now
            wish.want(service, model)
            wish.choose_content(ctx, model)
            cold.watch_idle(ctx, model)
            if model.size is None:
                probes.look_up(ctx, service, model)
        refresh(ctx, model)
    for service in services.values():
        ctx.plan(service)


def gone(ctx: Context, key: ServiceKey, uid: str) -> None:
    """The InferenceService was deleted: its models wait for it to come back; its pods go with their Deployment."""
    world = ctx.world
    service = world.services.get(key)
    if service is None or service.spec.uid != uid:
        return
    del world.services[key]
    stop_gathering(ctx, key)
    ctx.emit(ServiceRouteChanged(key, known=False, sequence=world.next_sequence()))
    _revise_all(ctx, key)
    unregistered.place_changed(ctx, key)
    ctx.emit(ServiceStatusChanged(key))

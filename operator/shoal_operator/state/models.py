"""TrainedModels coming, changing and going."""

from . import cold, copies, demand, probes, routes
from .context import Context
from .policy import on_its_way
from .reports import end_move
from .values import ModelKey, ModelSpec
from .world import Model, Service


def seen(ctx: Context, spec: ModelSpec, *, vouched: bool = False) -> None:
    """A TrainedModel as it is now: new, changed, or another one under a used name.

    ``vouched``: its status says Ready for this very spec; that counts for a model that this operator knows nothing of.
    """
    world = ctx.world
    model = world.models.get(spec.key)
    if model is not None and model.spec.uid != spec.uid:
        gone(ctx, spec.key, model.spec.uid)
        model = None
    if model is None:
        model = world.models[spec.key] = Model(spec)
        if vouched:
            model.vouched = model.artifact_seen = spec.content
        world.models_of.setdefault(spec.service_key, set()).add(spec.key)
        _take_in(ctx, model)
        return
    before = model.spec
    if spec == before:
        return
    if spec.service != before.service:
        _move(ctx, model, spec)
    model.spec = spec
    if spec.content != before.content:
        probes.end(ctx, model)
        model.artifact_bytes = None
        if not model.copies:
            model.estimate = None  # else the former content's serves until an agent has seen the new one
        model.worked()
        model.target = max(1, model.target)
    if spec.memory_bytes != before.memory_bytes:
        _resize(ctx, model)
    if (spec.idle_unload, spec.min_copies) != (before.idle_unload, before.min_copies):
        cold.watch_idle(ctx, model)
    _take_in(ctx, model)


def _take_in(ctx: Context, model: Model) -> None:
    routes.refresh(ctx, model)
    service = ctx.world.services.get(model.spec.service_key)
    if service is not None and model.memory is None and model.spec.problem is None:
        probes.want(ctx, service, model)  # its memory is estimated before it is placed
    ctx.plan_model(model)


def gone(ctx: Context, key: ModelKey, uid: str) -> None:
    """The TrainedModel was deleted: unknown at once, its copies drain and unload."""
    world = ctx.world
    model = ctx.model(key, uid)
    if model is None:
        return
    routes.forget(ctx, model)
    probes.end(ctx, model)
    demand.settled(ctx, model)
    world.agenda.forget(key)
    del world.models[key]
    world.models_of[model.spec.service_key].discard(key)
    service = world.services.get(model.spec.service_key)
    if service is not None:
        _forget(service, key)
    for copy in list(model.copies.values()):
        copies.retire(ctx, world.pods[copy.pod_uid], copy)


def end_moves(ctx: Context) -> None:
    """Former services stop serving models whose new service did not load them in time."""
    moving = ctx.world.moving
    while moving and moving[0][0] <= ctx.now:
        until, key = moving.popleft()
        model = ctx.world.models.get(key)
        if model is not None and model.former is not None and model.former_until == until:
            end_move(ctx, model)


def _forget(service: Service, key: ModelKey) -> None:
    """The model is not this service's any more."""
    service.waiting.discard(key)
    service.dirty.discard(key)
    service.hot.discard(key)
    service.cold.pop(key, None)
    service.to_probe.pop(key, None)


def _resize(ctx: Context, model: Model) -> None:
    """The declared memory changed: copies that fit as they are stay; placement finds other pods for the rest."""
    for copy in model.copies.values():
        pod = ctx.world.pods[copy.pod_uid]
        if on_its_way(copy):
            copies.resize(ctx, model, pod, copy)
            service = ctx.world.services.get(pod.spec.service_key)
            if service is not None:
                ctx.plan_waiting(service)


def _move(ctx: Context, model: Model, spec: ModelSpec) -> None:
    """The model belongs to another InferenceService now; one that served it does so until that one does.

    Who moves on (or back) before the new one has loaded it is served by the first one meanwhile.
    """
    world = ctx.world
    # Counted and waiting in the former service until now.
    key, old = spec.key, world.services.get(model.spec.service_key)
    if old is not None:
        old.ready_count -= model.ready
        old.failed_count -= model.failed
        old.loaded_count -= model.loaded
        _forget(old, key)
    probes.end(ctx, model)
    model.loaded = model.ready = model.failed = False
    model.refusal = None
    model.target = max(1, model.target)
    world.models_of[model.spec.service_key].discard(key)
    world.models_of.setdefault(spec.service_key, set()).add(key)
    answering = {world.pods[copy.pod_uid].spec.service_key for copy in model.copies.values() if copy.answers}
    before = () if spec.service_key in answering else (model.spec.service_key, model.former)
    model.former = next((former for former in before if former in answering), None)
    model.spec = spec
    if model.former is not None:
        model.former_until = ctx.now + world.timing.service_move
        world.moving.append((model.former_until, key))
    for copy in list(model.copies.values()):
        pod = world.pods[copy.pod_uid]
        if pod.spec.service_key not in (spec.service_key, model.former):
            copies.retire(ctx, pod, copy)

"""TrainedModels coming, changing and going."""

from . import copies, routes
from .context import Context
from .reports import end_move
from .values import ModelKey, ModelSpec
from .world import Model, Stage


def seen(ctx: Context, spec: ModelSpec) -> None:
    """A TrainedModel as it is now: new, changed, or another one under a used name."""
    world = ctx.world
    model = world.models.get(spec.key)
    if model is not None and model.spec.uid != spec.uid:
        gone(ctx, spec.key, model.spec.uid)
        model = None
    if model is None:
        model = world.models[spec.key] = Model(spec)
        world.models_of.setdefault(spec.service_key, set()).add(spec.key)
        routes.refresh(ctx, model)
        ctx.plan_model(model)
        return
    before = model.spec
    if spec == before:
        return
    if spec.service != before.service:
        _move(ctx, model, spec)
    model.spec = spec
    if spec.memory_bytes != before.memory_bytes:
        _resize(ctx, model)
    routes.refresh(ctx, model)
    ctx.plan_model(model)


def gone(ctx: Context, key: ModelKey, uid: str) -> None:
    """The TrainedModel was deleted: unknown at once, its copies drain and unload."""
    world = ctx.world
    model = ctx.model(key, uid)
    if model is None:
        return
    routes.forget(ctx, model)
    del world.models[key]
    world.models_of[model.spec.service_key].discard(key)
    service = world.services.get(model.spec.service_key)
    if service is not None:
        service.waiting.discard(key)
        service.dirty.discard(key)
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


def _resize(ctx: Context, model: Model) -> None:
    """The declared memory changed: copies that fit as they are stay; placement finds other pods for the rest."""
    for copy in model.copies.values():
        pod = ctx.world.pods[copy.pod_uid]
        if copy.stage is Stage.PLACED:
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
        old.waiting.discard(key)
        old.dirty.discard(key)
    model.ready = model.failed = False
    model.refusal = None
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

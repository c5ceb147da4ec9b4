"""TrainedModels coming, changing and going."""

from collections.abc import Iterable
from dataclasses import replace

from shoal_api.messages import CopyFailure, FailureStage

from shoal_operator.state import wish
from shoal_operator.state.copies import checks, life, memory, probes, routes
from shoal_operator.state.demand import cold
from shoal_operator.state.pods import moves, revisions
from shoal_operator.state.wish import on_its_way
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import ServiceStatusChanged
from shoal_operator.state.world.entities import Model
from shoal_operator.state.world.values import Content, ModelKey, ModelSpec


def seen(
    ctx: Context,
    spec: ModelSpec,
    *,
    vouched: bool = False,
    last_good: Content | None = None,
    failure: CopyFailure | None = None,
) -> None:
    """A TrainedModel as it is now: new, changed, or another one under a used name.

    ``vouched``: its status says Ready for this very spec; ``last_good``: what requests could last count on, by its
    status; ``failure``: by its status, why this very spec could not be loaded. They count for a model that this
    operator knows nothing of.
    """
    world = ctx.world
    model = world.models.get(spec.key)
    if model is not None and model.spec.uid != spec.uid:
        gone(ctx, spec.key, model.spec.uid)
        model = None
    if model is None:
        model = world.models[spec.key] = wish.begin(spec, last_good, vouched=vouched)
        ctx.emit(ServiceStatusChanged(spec.service_key))  # which says how many there are
        if failure is not None and spec.problem is None:
            wish.recall(ctx, model, failure)
        _take_in(ctx, model)
        ctx.settle_later(model)  # which nobody registered, and that was put back
        return
    before = model.spec
    if spec.problem is not None and before.problem is None:
        _complain(ctx, model, spec)
        return
    spec = wish.carry(model, spec)
    mended, model.complaint = model.complaint, None
    if spec == before:
        if mended is not None:
            routes.refresh(ctx, model)
        return
    sized = model.memory
    if spec.service != before.service:
        _move(ctx, model, spec)
    model.spec = spec
    if spec.content != before.content:
        probes.end(ctx, model)
        # What the former content was estimated at serves until an agent has seen the new one.
        memory.unlearn(model, content=not model.copies)
        wish.worked(model)
        wish.want(world.services.get(spec.service_key), model)
    elif spec.memory_bytes is None and before.memory_bytes is not None:
        memory.take_over(world.services.get(spec.service_key), model, before.memory_bytes)
    if spec.memory_bytes != before.memory_bytes and model.crashes:
        wish.worked(model)
        wish.want(world.services.get(spec.service_key), model)
    wish.choose_content(ctx, model)
    if model.memory != sized:
        _resize(ctx, model)
    if spec.check != before.check and model.copies:
        checks.watch(ctx, model)
    if (spec.idle_unload, spec.min_copies) != (before.idle_unload, before.min_copies):
        cold.watch_idle(ctx, model)
    _take_in(ctx, model)


def _complain(ctx: Context, model: Model, spec: ModelSpec) -> None:
    """An edit that cannot be used changes what is said, and nothing else: the last usable spec stays in force."""
    if (model.complaint, model.spec.generation) != (spec.problem, spec.generation):
        model.complaint = spec.problem
        model.spec = replace(model.spec, generation=spec.generation)
        routes.refresh(ctx, model)  # where nothing is known to work, it counts as failed now


def _take_in(ctx: Context, model: Model) -> None:
    routes.refresh(ctx, model)
    service = ctx.world.services.get(model.spec.service_key)
    if service is not None and model.size is None and model.spec.problem is None:
        probes.look_up(ctx, service, model)  # its memory is estimated before it is placed
    ctx.plan_model(model)


def gone(ctx: Context, key: ModelKey, uid: str) -> None:
    """The TrainedModel was deleted: unknown at once, its copies drain and unload."""
    world = ctx.world
    model = ctx.model(key, uid)
    if model is None:
        return
    routes.forget(ctx, model)
    probes.end(ctx, model)
    wish.answered(world, model)
    world.agenda.forget(key)
    del world.models[key]
    revisions.forget(world, key)
    ctx.emit(ServiceStatusChanged(model.spec.service_key))
    service = world.services.get(model.spec.service_key)
    if service is not None:
        wish.forget(service, model)
        service.asked_for.drop(key.name)
    for copy in list(model.copies.values()):
        life.retire(ctx, world.pods[copy.pod_uid], copy)


def reachable(ctx: Context, keys: Iterable[ModelKey]) -> None:
    """Their storage is there by now: those that failed for it are tried again at once."""
    for model in filter(None, map(ctx.world.models.get, keys)):
        if model.failure is not None and model.failure.stage is FailureStage.STORAGE:
            wish.try_now(ctx.world, model, ctx.now)


def _resize(ctx: Context, model: Model) -> None:
    """Its memory is another one: copies that fit as they are stay; placement finds other pods for the rest."""
    for copy in model.copies.values():
        pod = ctx.world.pods[copy.pod_uid]
        if on_its_way(copy):
            life.resize(ctx, model, pod, copy)
            service = ctx.world.services.get(pod.spec.service_key)
            if service is not None:
                ctx.offer_memory(service)


def _move(ctx: Context, model: Model, spec: ModelSpec) -> None:
    """The model belongs to another InferenceService now; one that served it does so until that one does.

    Who moves on (or back) before the new one has loaded it is served by the first one meanwhile.
    """
    world = ctx.world
    # Counted and waiting in the former service until now.
    key = spec.key
    routes.uncount(model)
    wish.move(world.services.get(model.spec.service_key), model)
    probes.end(ctx, model)
    for each in (model.spec.service_key, spec.service_key):
        ctx.emit(ServiceStatusChanged(each))
    answering = {world.pods[copy.pod_uid].spec.service_key for copy in model.copies.values() if copy.answers}
    before = () if spec.service_key in answering else (model.spec.service_key, model.former)
    moves.begin_move(ctx, model, next((former for former in before if former in answering), None))
    world.models.move(key, spec.service_key)
    model.spec = spec
    for copy in list(model.copies.values()):
        pod = world.pods[copy.pod_uid]
        if pod.spec.service_key not in (spec.service_key, model.former):
            life.retire(ctx, pod, copy)

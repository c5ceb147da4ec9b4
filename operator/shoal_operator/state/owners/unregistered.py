"""How models that nobody registered go: there is no such artifact, nobody asks for them, or their place is another."""

from collections.abc import Iterable
from dataclasses import replace

from shoal_api.messages import ARTIFACT_NOT_FOUND

from shoal_operator.state import wish
from shoal_operator.state.copies.unregistered import crowded, idle, patience, spec_of
from shoal_operator.state.owners import models
from shoal_operator.state.world.agenda import Topic
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import Model, Service
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.values import ModelKey, ServiceKey, Source


def settle(ctx: Context) -> None:
    """Look at those of which something was learned."""
    while (key := ctx.next_unsettled()) is not None:
        model = ctx.world.models.get(key)
        if model is not None:
            with ctx.contained("unregistered", model.spec.service_key):
                _settle(ctx, model, ctx.world.services.get(model.spec.service_key))


def _settle(ctx: Context, model: Model, service: Service | None) -> None:
    key, answers = model.spec.key, any(copy.answers for copy in model.copies.values())
    failed = model.failure
    if service is None or service.spec.models_from is None:
        models.gone(ctx, key, model.spec.uid)
    elif failed is not None and failed.reason == ARTIFACT_NOT_FOUND and not answers:
        service.asked_for.not_there(key.name, ctx.now)
        models.gone(ctx, key, model.spec.uid)
    elif _unused(ctx, model, service):
        models.gone(ctx, key, model.spec.uid)
    else:
        revise(ctx, [key])  # its memory may be declared, and what is written have changed while it was kept aside
        service.asked_for.found(key.name)
        ctx.world.agenda.put(max(ctx.now, model.last_used) + patience(model), key, Topic.UNUSED)


def _unused(ctx: Context, model: Model, service: Service) -> bool:
    """Idle for long enough, or others want its place."""
    if not idle(model, ctx.now) or (wish.deadly(model) and ctx.now < model.retry_at):
        return False
    return crowded(ctx, service) or ctx.now >= model.last_used + patience(model)


def revise(ctx: Context, keys: Iterable[ModelKey]) -> None:
    """A piece of an InferenceService's models, whose place is another one, or none any more."""
    for key in keys:
        model = ctx.world.models.get(key)
        if model is None or model.spec.source is not Source.PREFIX:
            continue
        service = ctx.world.services.get(model.spec.service_key)
        spec = spec_of(service.spec, key.name) if service is not None else None
        if spec is None:
            models.gone(ctx, key, model.spec.uid)
        else:
            models.seen(ctx, replace(spec, memory_bytes=_declared(model, service)))


def _declared(model: Model, service: Service | None) -> int | None:
    place = service.spec.models_from if service is not None else None
    return place.memory_bytes if place is not None and model.artifact_seen else None


def place_changed(ctx: Context, key: ServiceKey) -> None:
    """The InferenceService has another place for them, or went."""
    ctx.world.pieces.put_all(Task.UNREGISTERED, key, ctx.world.models.of(key))

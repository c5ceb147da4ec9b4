"""Requests for models that are not loaded, as the activator tells of them. One load for any number of requests."""

from shoal_api.messages import CopyFailure, FailureStage

from shoal_operator.state import wish
from shoal_operator.state.copies import freshness, life, probes, recency, unregistered, waking
from shoal_operator.state.copies.routes import failing, refresh
from shoal_operator.state.world.cause import ACTIVATION_TIMEOUT
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import Model, Service, Stage
from shoal_operator.state.world.values import ModelKey, ServiceKey

GIVE_UP_FACTOR = 2.0
"""A load goes on for those who ask again: so many activation timeouts after the last request."""


def requested(ctx: Context, key: ServiceKey, name: str) -> None:
    """A request waits for the model, or was just sent to a pod that holds it: both count as use."""
    world = ctx.world
    model = world.models.get(ModelKey(key.namespace, name)) or unregistered.asked(ctx, key, name)
    service = world.services.get(key)
    if model is None or service is None or key not in (model.spec.service_key, model.former):
        return
    recency.use(world, model, ctx.now, [world.pods[uid] for uid in model.copies])
    own = model.routes.get(key)
    if own is not None and own.pods:
        waking.used(ctx, service)
    if world.recovering or (own is not None and own.pods) or key != model.spec.service_key:
        return
    if failing(model, ctx.now) is not None:
        return  # its cause is what the request is answered with
    waking.asked(ctx, service, model)
    waits = waking.waits(service) * GIVE_UP_FACTOR
    if wish.ask(world, service, model, ctx.now, waits):
        service.stats.activations += 1
        ctx.review_soon()
        life.hurry(ctx, model, urgent=True)
    if wish.choose_content(ctx, model) and model.fallback:
        wish.back_off(world, model, ctx.now)  # what failed is tried again once nobody waits
        refresh(ctx, model)
    probes.hurry(ctx, service, model)
    if not any(wish.on_its_way(copy) for copy in model.copies.values()):
        ctx.plan_later(service, [model.spec.key], asked=True)
        if freshness.known(ctx, service, model.memory or 0):
            ctx.plan(service)


def review(ctx: Context) -> None:
    """Models that nobody has asked for any more and that found no room are cold again; those whose load takes longer
    than a request may wait say so."""
    for key in list(ctx.world.asked):
        model = ctx.world.models.get(key)
        if model is None:
            continue
        service = ctx.world.services.get(model.spec.service_key)
        if wish.asked(model, ctx.now):
            if service is not None:
                _notice_late(ctx, service, model)
            continue
        wish.answered(ctx.world, model)
        life.hurry(ctx, model, urgent=False)
        if service is not None and not model.copies and wish.may_be_cold(service, model):
            wish.cool(service, model, used=True)
            refresh(ctx, model)


def _notice_late(ctx: Context, service: Service, model: Model) -> None:
    """A request has waited as long as one may, and the load goes on: the next one would wait in vain as well, but for
    the last good content, if that is another one."""
    waits = service.spec.activation_timeout
    late = [
        copy
        for copy in model.copies.values()
        if copy.stage is Stage.PLACED
        and not (copy.late or copy.current)
        and copy.aim_id == model.aim_id
        and ctx.now >= max(model.asked_at, copy.placed_at) + waits
    ]
    if not late or failing(model, ctx.now) is not None:
        return
    if not model.fallback and wish.last_good_usable(service, model, ctx.now):
        text = f"It was not loaded within {waits:g} s, which is as long as a request may wait for it."
        wish.fail(ctx, model, CopyFailure(stage=FailureStage.LOAD, reason=ACTIVATION_TIMEOUT, message=text))
    else:
        for copy in late:
            copy.late = True
    refresh(ctx, model)

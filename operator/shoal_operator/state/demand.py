"""Requests for models that are not loaded, as the activator tells of them. One load for any number of requests."""

from . import freshness, policy
from .context import Context
from .routes import failing, refresh
from .values import ModelKey, ServiceKey
from .world import NEVER, Model, Service

GIVE_UP_FACTOR = 2.0
"""A load goes on for those who ask again: so many activation timeouts after the last request."""


def requested(ctx: Context, key: ServiceKey, name: str) -> None:
    """A request waits for the model, or was just sent to a pod that holds it: both count as use."""
    world = ctx.world
    model = world.models.get(ModelKey(key.namespace, name))
    service = world.services.get(key)
    if model is None or service is None or key not in (model.spec.service_key, model.former):
        return
    touch(ctx, model)
    own = model.routes.get(key)
    if world.recovering or (own is not None and own.pods) or key != model.spec.service_key:
        return
    if failing(model, ctx.now) is not None:
        return  # its cause is what the request is answered with
    waits = service.spec.activation_timeout * GIVE_UP_FACTOR
    if not policy.demanded(model, ctx.now):
        service.stats.activations += 1
        model.asked_at = ctx.now
        world.asking.add(model.spec.key)
        ctx.review_soon()
    model.asked_until = ctx.now + waits
    service.cold.pop(model.spec.key, None)
    model.target = max(1, model.target)
    if not any(policy.on_its_way(copy) for copy in model.copies.values()):
        service.dirty.add(model.spec.key)
        if freshness.known(ctx, service, model.memory or 0):
            ctx.plan(service)


def touch(ctx: Context, model: Model) -> None:
    """The model is in use now: it is the last of its pods to be evicted."""
    model.last_used = ctx.now
    for copy in model.copies.values():
        pod = ctx.world.pods[copy.pod_uid]
        if model.spec.name in pod.lru:
            pod.lru.move_to_end(model.spec.name)


def settled(ctx: Context, model: Model) -> None:
    """It is loaded, or failed: nobody waits for it any more."""
    model.asked_until = NEVER
    ctx.world.asking.discard(model.spec.key)


def give_up(ctx: Context) -> None:
    """Models that nobody has asked for any more and that found no room are cold again."""
    for key in list(ctx.world.asking):
        model = ctx.world.models.get(key)
        if model is None or not policy.demanded(model, ctx.now):
            ctx.world.asking.discard(key)
            service = ctx.world.services.get(model.spec.service_key) if model is not None else None
            if model is not None and service is not None and not model.copies:
                _stop(ctx, service, model)


def _stop(ctx: Context, service: Service, model: Model) -> None:
    if policy.may_be_cold(service, model):
        service.waiting.discard(model.spec.key)
        model.target, model.refusal = 0, None
        service.cold[model.spec.key] = None
        refresh(ctx, model)

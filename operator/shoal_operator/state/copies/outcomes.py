"""What an attempt to load came to, and what that means for those who wait."""

from shoal_api.messages import MODEL_SERVER_CRASHED

from shoal_operator.state import wish
from shoal_operator.state.copies import crashes, recency
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import Copy, Model, Pod, Service


def failed(ctx: Context, service: Service | None, pod: Pod, model: Model, copy: Copy) -> None:
    """The copy's agent reports a failure of what it is to load. ``service`` None: it is counted already."""
    failure = copy.report.failure if copy.report is not None else None
    if failure is None:
        return
    if service is not None:
        service.stats.failed(failure.reason)
    if not copy.current:
        if copy.aim_id == model.wanted_id:
            wish.fail(ctx, model, failure)
            ctx.settle_later(model)
        else:
            wish.fail_last_good(ctx, model)
        if not copy.answers:
            recency.fails(pod, copy.name)
            if service is not None:
                ctx.offer_memory(service)  # it may make way for others now
        if any(wish.on_its_way(other) and other.aim_id != model.aim_id for other in model.copies.values()):
            ctx.plan_model(model)  # they waited for this one
        if failure.reason == MODEL_SERVER_CRASHED and copy.aim_id == model.wanted_id:
            crashes.crashed(ctx, ctx.world.services.get(model.spec.service_key), pod, model)

"""A model that moved to another InferenceService: the former one serves it until the new one does, and no longer."""

from shoal_operator.state.copies import life
from shoal_operator.state.copies.routes import refresh
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import Model
from shoal_operator.state.world.values import ServiceKey


def begin_move(ctx: Context, model: Model, former: ServiceKey | None) -> None:
    """That InferenceService serves the model until its own one does, and not for ever; None: nobody does."""
    model.former = former
    if former is not None:
        model.former_until = ctx.now + ctx.world.timing.service_move
        ctx.world.moving.append((model.former_until, model.spec.key))


def end_overdue(ctx: Context) -> None:
    """Former services stop serving models whose new service did not load them in time."""
    moving = ctx.world.moving
    while moving and moving[0][0] <= ctx.now and ctx.world.pieces.spend():
        until, key = moving.popleft()
        model = ctx.world.models.get(key)
        if model is not None and model.former is not None and model.former_until == until:
            end_move(ctx, model)


def end_move(ctx: Context, model: Model) -> None:
    """The model's new InferenceService serves it, or the time for that is over: the former one lets go."""
    former, model.former = model.former, None
    for copy in list(model.copies.values()):
        pod = ctx.world.pods[copy.pod_uid]
        if pod.spec.service_key == former:
            life.retire(ctx, pod, copy)
    refresh(ctx, model)


def end_finished_move(ctx: Context, model: Model) -> None:
    """End a move that was found, not begun, when its new InferenceService serves the model already."""
    own = ctx.world.pods_of.get(model.spec.service_key, ())
    if model.former is not None and any(copy.current and copy.pod_uid in own for copy in model.copies.values()):
        end_move(ctx, model)

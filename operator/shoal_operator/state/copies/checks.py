"""Looks at the storage beside what serves: one agent of a model's is asked whether the storage still holds that.

So many a second of all models together, in the order in which they were asked for; of a model that is not loaded none,
since its load looks there anyway.
"""

from collections.abc import Iterable

from shoal_operator.state.copies import life
from shoal_operator.state.world.agenda import Topic
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import Copy, Model, Stage, World
from shoal_operator.state.world.values import ModelKey


def order(ctx: Context, key: ModelKey) -> None:
    """Have one of the model's agents look, soon."""
    ctx.world.checks.add(key)


def watch(ctx: Context, model: Model) -> None:
    """Where it is loaded: look regularly, if that is wanted."""
    seconds = interval(ctx.world, model)
    if seconds and any(copy.answers for copy in model.copies.values()):
        ctx.world.agenda.put(ctx.now + seconds, model.spec.key, Topic.CHECK)


def watch_some(ctx: Context, keys: Iterable[ModelKey]) -> None:
    """A piece of an InferenceService's models, which are looked at another time now."""
    for key in keys:
        if (model := ctx.world.models.get(key)) is not None:
            watch(ctx, model)


def interval(world: World, model: Model) -> float:
    """Seconds between two looks: as the model says, else its InferenceService; 0: nobody looks."""
    service = world.services.get(model.spec.service_key)
    inherited = service.spec.check if service is not None else 0.0
    return model.spec.check if model.spec.check is not None else inherited


def advance(ctx: Context) -> None:
    """Ask for those whose turn it is."""
    world = ctx.world
    while world.checks and ctx.now >= world.check_at and world.pieces.spend():
        key = next(iter(world.checks))
        world.checks.discard(key)
        model = world.models.get(key)
        copy = _who(ctx, model) if model is not None else None
        if copy is not None:
            life.check(ctx, world.pods[copy.pod_uid], copy)
            world.check_at = max(ctx.now, world.check_at) + world.timing.check_pace


def _who(ctx: Context, model: Model) -> Copy | None:
    """One whose agent tells revisions: rather one that is not about to load another, which looks there anyway."""
    found = None
    for copy in model.copies.values():
        tells = copy.report is not None and copy.report.revision is not None
        if copy.stage is Stage.PLACED and copy.answers and tells and ctx.world.pods[copy.pod_uid].connected:
            found = copy
            if copy.aim_id == model.aim_id:
                break
    return found

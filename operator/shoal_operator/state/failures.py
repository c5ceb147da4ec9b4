"""When a model that failed, and that no agent tries again by itself, may be tried again."""

from .agenda import Topic
from .world import Model, World

MAX_DOUBLINGS = 16


def back_off(world: World, model: Model, now: float) -> None:
    """Put off the model's next try, twice as long after each failure in a row, and look at it then."""
    timing, doublings = world.timing, min(max(0, model.failures - 1), MAX_DOUBLINGS)
    model.retry_at = now + min(timing.failure_first * 2.0**doublings, timing.failure_last)
    world.agenda.put(model.retry_at, model.spec.key, Topic.RETRY)

"""What requests for cold models can have at most, and which models that concerns when it becomes another amount.

A model that minCopies keeps makes way for nobody. Where such models fill the pods, a request for another one would wait
in vain: that is known, and said, before anybody asks.
"""

from shoal_operator.state.copies.routes import refresh_all
from shoal_operator.state.demand.candidates import obtainable
from shoal_operator.state.world.context import Context


def look(ctx: Context) -> None:
    """Look at the InferenceServices whose pods were touched; O(log pods) each (O(pods) where none takes models), and
    O(models whose room it decides)."""
    world = ctx.world
    keys = {world.pods[uid].spec.service_key: None for uid in world.touched if uid in world.pods}
    keys |= {world.standing_in[uid]: None for uid in world.touched if uid in world.standing_in}
    for key in keys:
        now, service = obtainable(world, key), world.services.get(key)
        if service is None:
            continue
        before, service.obtainable = service.obtainable, now
        if before != service.obtainable:
            whole = service.spec.capacity_bytes
            low, high = sorted(whole if bytes_ is None else bytes_ for bytes_ in (before, service.obtainable))
            if (before or 0) < (service.obtainable or 0):
                ctx.offer_memory(service)  # who was refused may have it now
            if concerned := service.sizes.between(low, high):
                if service.spec.autoscaled:
                    ctx.review(service)  # another pod may be what they lack, or need no more
                refresh_all(ctx, key, concerned)

"""What requests for cold models can have at most, and which models that concerns when it becomes another amount.

A model that minCopies keeps makes way for nobody. Where such models fill the pods, a request for another one would wait
in vain: that is known, and said, before anybody asks.
"""

from itertools import islice

from shoal_operator.state.copies.routes import refresh_all, refresh_all_of
from shoal_operator.state.demand.candidates import obtainable
from shoal_operator.state.world.context import Context

MANY = 1000
"""Models that are named one by one; where more are concerned, all of the InferenceService's are gone through."""


def look(ctx: Context) -> None:
    """Look at the InferenceServices whose pods were touched; O(log pods) each (O(pods) where none takes models), and
    O(models whose room it decides), of which there are no more than MANY."""
    world = ctx.world
    uids = {**world.ordered, **world.touched}
    keys = {world.pods[uid].spec.service_key: None for uid in uids if uid in world.pods}
    keys |= {world.standing_in[uid]: None for uid in uids if uid in world.standing_in}
    # All of them before anything follows from one: what that touches is looked at in the next step, and not half now.
    amounts = {key: obtainable(world, key) for key in keys}
    world.looked()
    for key, now in amounts.items():
        service = world.services.get(key)
        if service is None:
            continue
        before, service.obtainable = service.obtainable, now
        if before != service.obtainable:
            whole = service.spec.capacity_bytes
            low, high = sorted(whole if bytes_ is None else bytes_ for bytes_ in (before, service.obtainable))
            if (before or 0) < (service.obtainable or 0):
                ctx.offer_memory(service)  # who was refused may have it now
            concerned = list(islice(service.sizes.between(low, high), MANY + 1))
            if concerned and service.spec.autoscaled:
                ctx.review(service)  # another pod may be what they lack, or need no more
            if len(concerned) <= MANY:
                refresh_all(ctx, key, concerned)
            else:
                refresh_all_of(ctx, key)

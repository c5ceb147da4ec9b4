"""A namespace's models by name, a page at a time: for who lists them."""

from heapq import nsmallest
from itertools import chain

from shoal_operator.state.world.entities import World
from shoal_operator.state.world.values import ModelKey, ServiceKey


def page(world: World, namespace: str, service: str | None, after: str, limit: int) -> tuple[list[ModelKey], bool]:
    """The ``limit`` models that come after that name, and whether there are more.

    ``service``: of that InferenceService only. O(limit) for each of the InferenceServices asked for.
    """
    if service is not None:
        owners = [ServiceKey(namespace, service)]
    else:
        owners = [owner for owner in world.models.services() if owner.namespace == namespace]
    found = nsmallest(limit + 1, chain.from_iterable(world.models.of(owner).page(after, limit + 1) for owner in owners))
    return found[:limit], len(found) > limit

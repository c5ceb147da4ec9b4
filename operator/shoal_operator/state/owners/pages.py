"""A namespace's models by name, a page at a time: for who lists them."""

import heapq
from itertools import chain

from shoal_operator.state.world.entities import World
from shoal_operator.state.world.values import ModelKey, ServiceKey


def page(world: World, namespace: str, service: str | None, after: str, limit: int) -> tuple[list[ModelKey], bool]:
    """The ``limit`` models that come after that name, and whether there are more.

    ``service``: of that InferenceService only. O(models of the services asked for), without an order kept for it.
    """
    if service is not None:
        groups = [world.models_of.get(ServiceKey(namespace, service), ())]
    else:
        groups = [keys for owner, keys in world.models_of.items() if owner.namespace == namespace]
    names = (key.name for key in chain.from_iterable(groups) if key.name > after)
    found = heapq.nsmallest(limit + 1, names)
    return [ModelKey(namespace, name) for name in found[:limit]], len(found) > limit

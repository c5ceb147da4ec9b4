"""Which copies of a pod could make way, and in which order."""

import math
from collections.abc import Container
from itertools import islice

from shoal_operator.state import wish
from shoal_operator.state.copies import recency
from shoal_operator.state.world.entities import NEVER, Copy, Model, Pod, World
from shoal_operator.state.world.values import ModelKey, Victim

MAX_VICTIMS = 512
MAX_LOOKED_AT = 1024
MAX_PASSED = 256
"""Young copies that are enough already; behind so many the rest is young as well."""


def in_order(world: World, pod: Pod, wanted: int, now: float, own: Container[ModelKey] = ()) -> list[Victim]:
    """Who could be evicted, first who failed, then least recently used; as many as free ``wanted`` bytes.

    As many again of the young ones: they go only where no older ones can, so they must not take those' place. Nor must
    those of the models themselves that want the room (``own``), which make way for one another only.
    """
    found: list[Victim] = []
    if not pod.placeable:
        return found
    for name in sorted(pod.failing):
        copy = pod.copies[name]
        if wish.evictable(world, pod, copy, now):
            found.append(Victim(ModelKey(pod.spec.namespace, name), copy.charged, math.inf))
    pinned = []
    of_young, passed = wanted, 0
    for looked_at, name in enumerate(pod.lru):
        if wanted <= 0 or len(found) >= MAX_VICTIMS or looked_at >= MAX_LOOKED_AT or passed >= MAX_PASSED:
            break
        copy = pod.copies[name]
        if not wish.evictable(world, pod, copy, now):
            pinned.append(name)
            continue
        model = world.models[ModelKey(pod.spec.namespace, name)]
        young = now - _since(model, copy) < world.timing.residency or copy.in_flight > 0
        if young and of_young <= 0:
            passed += 1
            continue
        found.append(Victim(model.spec.key, copy.charged, max(0.0, now - model.last_used), young))
        if model.spec.key in own:
            continue
        if young:
            of_young -= copy.charged
        else:
            wanted -= copy.charged
    recency.keep(world, pod, pinned)
    return found


def next_of_age(world: World, pod: Pod, now: float, own: Container[ModelKey]) -> float | None:
    """When the first of those that only their youth keeps may make way for an update; None: there is none."""
    for name in islice(pod.lru, MAX_LOOKED_AT):
        key, copy = ModelKey(pod.spec.namespace, name), pod.copies[name]
        if key in own or not wish.evictable(world, pod, copy, now):
            continue
        at = _since(world.models[key], copy) + world.timing.residency
        if at > now or copy.in_flight:
            return at if at > now else now + world.timing.residency
    return None


def _since(model: Model, copy: Copy) -> float:
    """When it was used, or loaded."""
    return max(model.last_used, copy.loaded_at if copy.loaded_at is not None else model.last_used)


def last_used(world: World, pod: Pod, name: str) -> float:
    """When the model of one of the pod's copies was last used."""
    model = world.models.get(ModelKey(pod.spec.namespace, name))
    return model.last_used if model is not None else NEVER

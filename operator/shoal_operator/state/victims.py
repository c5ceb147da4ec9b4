"""Which copies of a pod could make way, and in which order."""

import math

from . import policy
from .values import ModelKey, Victim
from .world import Pod, World

MAX_VICTIMS = 512
MAX_LOOKED_AT = 1024


def in_order(world: World, pod: Pod, wanted: int, now: float) -> list[Victim]:
    """Who could be evicted, first who failed, then least recently used; as many as free ``wanted`` bytes."""
    found: list[Victim] = []
    if not pod.placeable:
        return found
    for name in sorted(pod.failing):
        copy = pod.copies[name]
        if policy.evictable(world, pod, copy, now):
            found.append(Victim(ModelKey(pod.spec.namespace, name), copy.charged, math.inf))
    pinned = []
    for looked_at, name in enumerate(pod.lru):
        if wanted <= 0 or len(found) >= MAX_VICTIMS or looked_at >= MAX_LOOKED_AT:
            break
        copy = pod.copies[name]
        if not policy.evictable(world, pod, copy, now):
            pinned.append(name)
            continue
        model = world.models[ModelKey(pod.spec.namespace, name)]
        since = max(model.last_used, copy.loaded_at if copy.loaded_at is not None else model.last_used)
        young = now - since < world.timing.residency or copy.in_flight > 0
        found.append(Victim(model.spec.key, copy.charged, max(0.0, now - model.last_used), young))
        wanted -= copy.charged
    for name in pinned:  # kept copies must not hide the others for ever
        pod.lru.move_to_end(name)
    return found

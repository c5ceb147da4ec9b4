"""Which pods a plan for a few models has to look at: the same decision as if it looked at all of them.

Free room, room on its way out, and copies used longest ago are orders that state keeps (``Standings``). For each model
that is placed the first of an order may be another one, so as many more of each are looked at as there are models.
"""

import math
from collections.abc import Sequence

from shoal_operator.state.demand import victims
from shoal_operator.state.world.entities import Pod, World
from shoal_operator.state.world.standings import FAILED, NEVER_USED, Standing, Standings
from shoal_operator.state.world.values import ModelNeed, ServiceKey, Victim

SPARE = 4
"""Pods of each order that are looked at beyond the number of models."""
MAX_LOOKED_INTO = 24
"""Pods whose copies are looked at for somebody who may make way."""


def standings(world: World, key: ServiceKey) -> Standings:
    """The service's pods in order, as of now: O(log n) for each pod that changed since."""
    for uid in world.each_touched():
        pod = world.pods.get(uid)
        before = world.standing_in.pop(uid, None)
        if pod is None:
            if before is not None:
                world.standings[before].put(uid, None)
        else:
            world.standing_in[uid] = pod.spec.service_key
            world.standings.setdefault(pod.spec.service_key, Standings()).put(uid, standing(world, pod))
    return world.standings.setdefault(key, Standings())


def standing(world: World, pod: Pod) -> Standing | None:
    """Where the pod stands now; None: it takes no models."""
    if not pod.placeable:
        return None
    capacity, room = pod.spec.capacity_bytes, pod.room
    unused_since = None
    if pod.failing:
        unused_since = FAILED
    elif pod.lru:
        unused_since = max(NEVER_USED, victims.last_used(world, pod, next(iter(pod.lru))))
    coming = room + pod.ledger.unclaimed
    return Standing(capacity, capacity - room, len(pod.copies), coming, pod.ledger.obtainable, unused_since)


def obtainable(world: World, key: ServiceKey) -> int | None:
    """Bytes that a request could have on the best of the service's pods; None: nothing of it serves.

    While the last pod that takes models leaves, what it keeps will be kept on the next one as well.
    """
    most = standings(world, key).most_obtainable()
    return most if most is not None else max((pod.ledger.obtainable for pod in counted_on(world, key)), default=None)


def counted_on(world: World, key: ServiceKey) -> list[Pod]:
    """The service's pods that take models; where there is none, those that still serve; O(pods)."""
    pods = [world.pods[uid] for uid in world.pods_of.get(key, ())]
    return [pod for pod in pods if pod.placeable] or [pod for pod in pods if pod.serves]


def anywhere(need: ModelNeed) -> bool:
    """Of pods with the same room none is better for it than another: it has no copy to keep away from."""
    return need.wanted <= 1 and all(copy.leaving or copy.current for copy in need.copies)


def may_evict(need: ModelNeed) -> bool:
    """Others may have to make way for it. Not for one that has its copies, as most have that are looked at again."""
    if need.evict_idle is None or need.evict_idle == math.inf:
        return False
    staying = [copy for copy in need.copies if not copy.leaving]
    return sum(copy.current for copy in staying) < need.wanted or not all(copy.current for copy in staying)


def few(order: Standings, needs: Sequence[ModelNeed]) -> set[str]:
    """UIDs of pods that are least full, have most on its way out, or hold a copy of one of the models."""
    count = len(needs) + SPARE
    uids = {*order.least_full(count), *order.most_coming(count)}
    for need in needs:
        uids.update(copy.pod_uid for copy in need.copies)
    return uids


def making_way(world: World, order: Standings, needs: Sequence[ModelNeed], now: float) -> dict[str, tuple[Victim, ...]]:
    """Who could make way for these models, by pod, where the copies are that were used longest ago.

    Goes on until no further pod can have anybody who was used longer ago than who would have to go by now.
    """
    found: dict[str, tuple[Victim, ...]] = {}
    evicting = [need for need in needs if may_evict(need)]
    wanted, own = sum(need.memory_bytes for need in evicting), {need.key for need in evicting}
    if wanted <= order.most_room() and not any(need.copies or _taken(world, order, need) for need in evicting):
        wanted = 0  # there is room for all of them
    largest = max((need.memory_bytes for need in evicting), default=0)
    enough, best = len(evicting) + SPARE, -math.inf
    for looked_into, (since, uid) in enumerate(order.longest_unused()):
        over = looked_into >= enough and now - since <= best
        if looked_into >= MAX_LOOKED_INTO or (since != FAILED and (over or not wanted)):
            break
        pod = world.pods[uid]
        found[uid] = tuple(victims.in_order(world, pod, wanted, now, own))
        others = [victim for victim in found[uid] if victim.model not in own]
        best = max(best, _idle_of_last(others, largest - pod.room - pod.ledger.unclaimed))
    return found


def _taken(world: World, order: Standings, need: ModelNeed) -> bool:
    """Where there is most room, something of the model's name is still on its way out."""
    return any(need.key.name in world.pods[uid].occupied for uid in order.least_full(1))


def _idle_of_last(found: Sequence[Victim], lacking: int) -> float:
    """Idle seconds of who was used last of those who would have to go; below 0: they are not enough."""
    for victim in found:
        if victim.young:
            continue
        lacking -= victim.memory_bytes
        if lacking <= 0:
            return min(victim.idle, -NEVER_USED)
    return -math.inf

"""Where the fewest and least used copies have to go for a model that no pod has room for. Pure."""

import math

from shoal_operator.state.world.values import ModelNeed, Victim

from .ledger import PodLedger


def cheapest(need: ModelNeed, pods: list[PodLedger]) -> tuple[PodLedger, list[Victim]] | None:
    """The pod, of those that lack nothing but room, and who leaves it; None when nobody may go anywhere.

    Room that is on its way costs nobody anything. Else the pod whose most recently used victim was used longest ago:
    that is least recently used first, over all pods together. Copies that have hardly been there go only where no
    older ones can.
    """
    for young in (False, True):
        best: tuple[PodLedger, list[Victim]] | None = None
        best_cost = -1.0
        for pod in pods:
            victims = pod.making_room(need, need.memory_bytes, young=young)
            if victims is None:
                continue
            cost = min((victim.idle for victim in victims), default=math.inf)
            if cost > best_cost or (best is not None and cost == best_cost and len(victims) < len(best[1])):
                best, best_cost = (pod, victims), cost
        if best is not None:
            return best
    return None

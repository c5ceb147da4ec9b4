"""A pod that is being drained or deleted takes no new copies."""

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.state.world.values import ModelNeed

NAME = "NotLeaving"
DESCRIPTION = "The pod is not draining, being deleted, or given up because its server stayed away."


def refuse(need: ModelNeed, pod: PodLedger) -> str | None:
    return "the pod is leaving" if pod.offer.leaving else None

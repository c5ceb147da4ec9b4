"""Copies of one model go to different zones and nodes, so that losing one keeps the model served."""

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.placement.spread import Spread

NAME = "SpreadNodes"
DESCRIPTION = "Zones, then nodes, with the fewest copies of the model first."
NODES_IN_ZONE = 10_000  # zones weigh more than any number of copies on one node


def key(pod: PodLedger, spread: Spread) -> float:
    return spread.zones.get(pod.offer.zone, 0) * NODES_IN_ZONE + spread.nodes.get(pod.offer.node, 0)

"""Among equally full pods, the one with fewer models: each costs the server some overhead."""

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.placement.spread import Spread

NAME = "FewestCopies"
DESCRIPTION = "The fewest copies on the pod first."


def key(pod: PodLedger, spread: Spread) -> float:
    return pod.copies

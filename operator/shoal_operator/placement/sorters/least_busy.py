"""Further copies of a model in use go where the fewest requests go; for others requests do not matter."""

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.placement.spread import Spread

NAME = "LeastBusy"
DESCRIPTION = "For a further copy of a model in use, the pod with the fewest requests a second first."


def key(pod: PodLedger, spread: Spread) -> float:
    return pod.rate if spread.used else 0.0

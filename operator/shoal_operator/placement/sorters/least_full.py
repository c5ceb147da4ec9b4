"""Models spread over all pods by the memory they declare."""

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.placement.spread import Spread

NAME = "LeastFull"
DESCRIPTION = "The smallest committed share of the pod's model memory first."


def key(pod: PodLedger, spread: Spread) -> float:
    return pod.fullness

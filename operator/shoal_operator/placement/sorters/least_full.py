"""Models spread over all pods by the memory they declare."""

from shoal_operator.placement.held import Held
from shoal_operator.placement.ledger import PodLedger

NAME = "LeastFull"
DESCRIPTION = "The smallest committed share of the pod's model memory first."


def key(pod: PodLedger, held: Held) -> float:
    return pod.fullness

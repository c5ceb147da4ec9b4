"""Further copies of a model in use go where the fewest requests go; for others requests do not matter."""

from shoal_operator.placement.held import Held
from shoal_operator.placement.ledger import PodLedger

NAME = "LeastBusy"
DESCRIPTION = "For a further copy of a model in use, the pod with the fewest requests a second first."


def key(pod: PodLedger, held: Held) -> float:
    return pod.rate if held.used else 0.0

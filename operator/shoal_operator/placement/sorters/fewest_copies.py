"""Among equally full pods, the one with fewer models: each costs the server some overhead."""

from shoal_operator.placement.held import Held
from shoal_operator.placement.ledger import PodLedger

NAME = "FewestCopies"
DESCRIPTION = "The fewest copies on the pod first."


def key(pod: PodLedger, held: Held) -> float:
    return pod.copies

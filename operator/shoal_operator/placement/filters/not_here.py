"""A pod holds a model at most once."""

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.state.world.values import ModelNeed

NAME = "NotHere"
DESCRIPTION = "The pod does not hold a copy of the model already."


def refuse(need: ModelNeed, pod: PodLedger) -> str | None:
    return "it holds a copy already" if any(copy.pod_uid == pod.offer.uid for copy in need.copies) else None

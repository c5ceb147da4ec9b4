"""A server knows a model by its name: a copy under the same name must be gone first."""

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.state.world.values import ModelNeed

NAME = "NameFree"
DESCRIPTION = "No copy under the model's name is still being unloaded from the pod."


def refuse(need: ModelNeed, pod: PodLedger) -> str | None:
    return "an earlier model of that name is still being unloaded" if pod.offer.uid in need.occupied else None

"""Only a pod whose model server answers and whose agent is connected can load a model."""

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.state.world.values import ModelNeed

NAME = "PodReady"
DESCRIPTION = "The pod's model server answers and its agent is connected."


def refuse(need: ModelNeed, pod: PodLedger) -> str | None:
    if not pod.offer.server_ready:
        return "its model server is not ready"
    return None if pod.offer.agent_connected else "its agent is not connected"

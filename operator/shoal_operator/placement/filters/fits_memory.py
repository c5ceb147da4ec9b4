"""Committed memory (loaded, loading, and not yet confirmed unloaded) never exceeds a pod's capacity."""

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.state.world.values import ModelNeed

NAME = "FitsMemory"
DESCRIPTION = "The model's declared memory fits what is left of the pod's model memory."
MEBIBYTE = 1 << 20


def refuse(need: ModelNeed, pod: PodLedger) -> str | None:
    if need.memory_bytes <= pod.free:
        return None
    return f"needs {_mebibytes(need.memory_bytes)}, {_mebibytes(pod.free)} of {_mebibytes(pod.offer.capacity)} are free"


def _mebibytes(count: int) -> str:
    return f"{count / MEBIBYTE:.4g}Mi"

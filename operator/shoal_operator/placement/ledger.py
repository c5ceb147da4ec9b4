"""What a plan in the making knows of a pod: the offer, and what this plan has already put there."""

from dataclasses import dataclass

from shoal_operator.state.values import PodOffer


@dataclass(slots=True)
class PodLedger:
    """``committed`` in bytes and ``copies`` grow as the plan places models; never above ``offer.capacity``."""

    offer: PodOffer
    committed: int
    copies: int

    @classmethod
    def of(cls, offer: PodOffer) -> "PodLedger":
        return cls(offer, offer.committed, offer.copies)

    @property
    def free(self) -> int:
        return self.offer.capacity - self.committed

    @property
    def fullness(self) -> float:
        return self.committed / self.offer.capacity if self.offer.capacity else 1.0

    def add(self, memory_bytes: int) -> None:
        self.committed += memory_bytes
        self.copies += 1

"""What a plan in the making knows of a pod: the offer, and what this plan has already put there."""

from dataclasses import dataclass, field

from shoal_operator.state.world.values import ModelNeed, PodOffer, Victim


@dataclass(slots=True)
class PodLedger:
    """``committed`` in bytes and ``copies`` grow as the plan places models; never above ``offer.capacity``.

    ``outgoing``: bytes of ``committed`` that will be free and are promised to nobody. ``victims``: who could still be
    evicted, in order. ``rate`` in requests a second.
    """

    offer: PodOffer
    committed: int
    copies: int
    outgoing: int
    rate: float
    victims: list[Victim] = field(default_factory=list)
    changed: bool = False  # since the planner last asked where it sorts

    @classmethod
    def of(cls, offer: PodOffer) -> "PodLedger":
        return cls(offer, offer.committed, offer.copies, offer.outgoing, offer.rate, list(offer.victims))

    @property
    def free(self) -> int:
        return self.offer.capacity - self.committed

    @property
    def fullness(self) -> float:
        return self.committed / self.offer.capacity if self.offer.capacity else 1.0

    def add(self, memory_bytes: int) -> None:
        """Place a copy: in what is free, else in what is on its way out."""
        self.copies += 1
        self.changed = True
        if memory_bytes > self.free:
            waits_for = min(memory_bytes, self.outgoing)
            self.outgoing -= waits_for
            memory_bytes -= waits_for
        self.committed += memory_bytes

    def grow(self, memory_bytes: int) -> None:
        """A copy that is there takes more."""
        self.committed += memory_bytes
        self.changed = True

    def making_room(self, need: ModelNeed, memory_bytes: int, *, young: bool) -> list[Victim] | None:
        """Who has to go for ``memory_bytes`` more, beyond what is free or going; None when that is not enough."""
        if need.evict_idle is None:
            return None
        lacking = memory_bytes - self.free - self.outgoing
        chosen: list[Victim] = []
        for victim in self.victims:
            if lacking <= 0:
                break
            if victim.idle >= need.evict_idle and victim.model != need.key and (young or not victim.young):
                chosen.append(victim)
                lacking -= victim.memory_bytes
        return chosen if lacking <= 0 else None

    def evict(self, victims: list[Victim]) -> None:
        """Have them leave; what they hold can be promised from now on."""
        for victim in victims:
            self.victims.remove(victim)
            self.outgoing += victim.memory_bytes
            self.copies -= 1

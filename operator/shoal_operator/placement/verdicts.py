"""Every pod's word about one model, as things stand: for people who ask why it is where it is. Pure."""

from shoal_operator.state.world.values import ModelNeed, PodOffer, Verdict

from .filters import FILTERS
from .ledger import PodLedger


def verdicts(need: ModelNeed, pods: tuple[PodOffer, ...]) -> tuple[Verdict, ...]:
    """Each filter's refusal of each pod, in order; a pod that nothing refuses is not named."""
    found = []
    for offer in pods:
        pod = PodLedger.of(offer)
        for name, refuse in FILTERS.items():
            message = refuse(need, pod)
            if message is not None:
                found.append(Verdict(offer.name, name, message))
    return tuple(found)

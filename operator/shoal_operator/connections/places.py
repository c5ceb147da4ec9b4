"""Who may have how many connections to a port at a time. Pure: sockets are elsewhere.

An address of a pod that state knows has places of its own, whatever others do. All other addresses share a number of
places, of which each has a few, until a token of theirs was good: from then on a connection is its pod's. So agents
whose address is not their pod's (another network, a NAT) still come in, and who has no token keeps out only its like.
"""

from collections import Counter
from dataclasses import dataclass

from .rates import Rates

PLACES_OF_A_POD = 16
"""An agent has two; what it left behind goes within seconds."""
PLACES_OF_A_SOURCE = 64
FOREIGN_PLACES = 2_048
"""Of one address that is no pod's that we know, and of all of them: connections without a good token so far."""
OPENED_PER_SECOND = 10.0
OPENED_BURST = 64.0
"""New connections of one address: each is a TLS handshake."""
FOREIGN_OPENED_PER_SECOND = 200.0
FOREIGN_OPENED_BURST = 2_048.0
"""The same of all addresses that are no pods' that we know."""


@dataclass(slots=True, eq=False)
class Place:
    """A connection's. ``pod``: UID of the pod whose token it has shown; empty so far."""

    source: str
    own: bool
    pod: str = ""


class Places:
    """``enter`` for each new connection, ``leave`` when it has ended. ``per_second``, ``burst``: of one address."""

    def __init__(self, per_second: float = OPENED_PER_SECOND, burst: float = OPENED_BURST) -> None:
        self._of_address: Counter[str] = Counter()  # of pods that are known
        self._foreign: Counter[str] = Counter()
        self._foreign_total = 0
        self._of_pod: Counter[str] = Counter()
        self._opened = Rates(per_second, burst)
        self._foreign_opened = Rates(FOREIGN_OPENED_PER_SECOND, FOREIGN_OPENED_BURST, max_keys=1)

    def __len__(self) -> int:
        return self._of_address.total() + self._foreign_total + self._of_pod.total()

    def enter(self, source: str, *, own: bool, now: float) -> Place | None:
        """A place for a connection from this address; None: there is none. ``own``: a known pod has the address."""
        if own:
            if self._of_address[source] >= PLACES_OF_A_POD or not self._opened.take(source, now):
                return None
            self._of_address[source] += 1
            return Place(source, own=True)
        full = self._foreign[source] >= PLACES_OF_A_SOURCE or self._foreign_total >= FOREIGN_PLACES
        if full or not self._opened.take(source, now) or not self._foreign_opened.take(None, now):
            return None
        self._foreign[source] += 1
        self._foreign_total += 1
        return Place(source, own=False)

    def vouched(self, place: Place, pod_uid: str) -> bool:
        """Its token was good: it is this pod's connection. False: the pod has too many of them."""
        if place.pod == pod_uid:
            return True
        if self._of_pod[pod_uid] >= PLACES_OF_A_POD:
            return False
        self.leave(place)
        place.pod = pod_uid
        self._of_pod[pod_uid] += 1
        return True

    def leave(self, place: Place) -> None:
        """The connection has ended."""
        if place.pod:
            _less(self._of_pod, place.pod)
        elif place.own:
            _less(self._of_address, place.source)
        else:
            _less(self._foreign, place.source)
            self._foreign_total -= 1


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]

"""Shares each gateway's memory among the requests that it holds, so that nobody's flood takes what others need. Pure.

An InferenceService may have as much held in a gateway as is still free there: alone half of all, two a third each. So
whoever comes next finds room, nothing is set aside for those who do not come, and together they never exceed the whole.
"""

from collections import Counter

from shoal_operator.state.world.values import ServiceKey

HELD_SHARE = 0.5
"""Of a gateway's memory limit; its heap may be ``limits.HEAP_SHARE`` of it."""
REQUEST_BYTES = 128 * 1024
"""What a held request takes without its body: two connections' and streams' buffers (measured: 80 to 125 KiB)."""
LARGEST_BYTES = 768 * 1024
"""What it takes at most: the rest of a larger body waits at the client (measured: up to 775 KiB)."""
LARGEST_RETRIED_BYTES = 2688 * 1024
"""The same for one that has been to a pod in vain: more is kept of it to be sent again (measured: up to 2683 KiB)."""


def held_bytes(body_bytes: int | None, *, retried: bool, received: int = 0) -> int:
    """What a request takes of the gateway while it is held; ``body_bytes`` None: not known, so the most. ``received``:
    so many of them are there already, however many that is."""
    largest = LARGEST_RETRIED_BYTES if retried else LARGEST_BYTES
    if body_bytes is None:
        return largest + received
    both = min(REQUEST_BYTES + 2 * body_bytes, largest)  # what is read in is there twice, in two listeners
    return max(both, REQUEST_BYTES + received)


class HeldMemory:
    """Who holds how much. ``total_bytes``: of each gateway; gateways are told apart by any name."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._gateways: Counter[str] = Counter()
        self._services: Counter[tuple[str, ServiceKey]] = Counter()

    def take(self, gateway: str, service: ServiceKey, amount: int) -> bool:
        """Charge ``amount`` bytes to the service; False (and nothing charged) when that were more than its share."""
        free = self.total_bytes - self._gateways[gateway]
        if self._services[gateway, service] + amount > free:
            self._forget(gateway, service)
            return False
        self._gateways[gateway] += amount
        self._services[gateway, service] += amount
        return True

    def give_back(self, gateway: str, service: ServiceKey, amount: int) -> None:
        """The request that ``amount`` was taken for is not held any more."""
        self._gateways[gateway] -= amount
        self._services[gateway, service] -= amount
        self._forget(gateway, service)

    def _forget(self, gateway: str, service: ServiceKey) -> None:
        if not self._services[gateway, service]:
            del self._services[gateway, service]
        if not self._gateways[gateway]:
            del self._gateways[gateway]

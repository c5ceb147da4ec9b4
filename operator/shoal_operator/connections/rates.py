"""How often each of many may do something: a bucket of tokens for each, and bounded memory for all. No clock here."""

from collections import OrderedDict
from collections.abc import Hashable

MAX_KEYS = 20_000


class Rates:
    """``take`` once for each time; a key that is not heard of for long is forgotten, and then as good as new."""

    def __init__(self, per_second: float, burst: float, max_keys: int = MAX_KEYS) -> None:
        self._per_second = per_second
        self._burst = burst
        self._max_keys = max_keys
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # how many are left, as of when

    def take(self, key: Hashable, now: float, amount: float = 1.0) -> bool:
        """Whether so much more is allowed now; ``now`` in seconds, of any clock."""
        left, at = self._left.get(key, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - at) * self._per_second)
        allowed = left >= amount
        self._left[key] = (left - amount if allowed else left, now)
        self._left.move_to_end(key)
        if len(self._left) > self._max_keys:
            self._left.popitem(last=False)
        return allowed

    def forget(self, key: Hashable) -> None:
        """The key is gone for good."""
        self._left.pop(key, None)

"""Keys that are joined with what was said of them, and of nothing else.

The keys of a Secret come from the kubelet, what is said of it (endpoint, region) from the operator, each when it gets
round to it. Both arrive in one volume, so neither changes alone unnoticed: keys that change while what is said is still
of the Secret's former state (its uid and resourceVersion) may belong to another store. They wait for its words; until
those come the former keys are used, with what was said of them.
"""

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Access = TypeVar("Access")


@dataclass(frozen=True, slots=True)
class _Pair(Generic[Access]):
    said_of: Hashable
    keys: Hashable
    access: Access


class Joined(Generic[Access]):
    """What each Secret was last used as. One for all readers; bounded by ``keep_only``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pairs: dict[str, _Pair[Access]] = {}

    def held_back(self, secret: str, said_of: Hashable, keys: Hashable, access: Access) -> Access | None:
        """The former access, if these keys have to wait for what is said of them; None when ``access`` can be used."""
        with self._lock:
            before = self._pairs.get(secret)
            if before is not None and before.said_of == said_of and before.keys != keys:
                return before.access
            self._pairs[secret] = _Pair(said_of, keys, access)
            return None

    def keep_only(self, secrets: set[str]) -> None:
        """Forget those that are not listed any more."""
        with self._lock:
            for gone in self._pairs.keys() - secrets:
                del self._pairs[gone]

"""The models of one InferenceService that placement is to look at: those that a request waits for first."""

from collections.abc import Iterable, Iterator
from itertools import chain

from shoal_operator.state.world.values import ModelKey


class Unplanned:
    """A set in the order of coming, in two parts. Every method is O(1), or O(given)."""

    __slots__ = ("_asked", "_others")

    def __init__(self) -> None:
        self._asked: dict[ModelKey, None] = {}
        self._others: dict[ModelKey, None] = {}

    @property
    def asked(self) -> Iterable[ModelKey]:
        """Those that a request waits for, the longest first."""
        return self._asked.keys()

    def update(self, keys: Iterable[ModelKey]) -> None:
        """They are to be looked at."""
        self._others.update(dict.fromkeys(key for key in keys if key not in self._asked))

    def ask(self, key: ModelKey) -> None:
        """A request waits for it: ahead of all that nobody has asked for."""
        self._others.pop(key, None)
        self._asked[key] = None

    def discard(self, key: ModelKey) -> None:
        self._asked.pop(key, None)
        self._others.pop(key, None)

    def difference_update(self, keys: Iterable[ModelKey]) -> None:
        for key in keys:
            self.discard(key)

    def __iter__(self) -> Iterator[ModelKey]:
        return chain(self._asked, self._others)

    def __contains__(self, key: object) -> bool:
        return key in self._asked or key in self._others

    def __len__(self) -> int:
        return len(self._asked) + len(self._others)

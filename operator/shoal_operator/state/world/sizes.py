"""Models by the memory that they take: who is concerned when a pod's room for them becomes another."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from shoal_operator.state.world.values import ModelKey


@dataclass(slots=True)
class Sizes:
    """``put`` and ``discard`` are O(log n) and a move in a list of different sizes; ``between`` is O(what it finds)."""

    _size: dict[ModelKey, int] = field(default_factory=dict)
    _keys: dict[int, dict[ModelKey, None]] = field(default_factory=dict)
    _sizes: list[int] = field(default_factory=list)

    def put(self, key: ModelKey, size: int | None) -> None:
        """The model takes so many bytes; None: nobody knows yet."""
        before = self._size.get(key)
        if size == before:
            return
        if before is not None:
            self.discard(key)
        if size is None:
            return
        self._size[key] = size
        if size not in self._keys:
            insort(self._sizes, size)
        self._keys.setdefault(size, {})[key] = None

    def discard(self, key: ModelKey) -> None:
        """The model is not one of them any more, if it ever was."""
        size = self._size.pop(key, None)
        if size is None:
            return
        keys = self._keys[size]
        del keys[key]
        if not keys:
            del self._keys[size]
            del self._sizes[bisect_left(self._sizes, size)]

    def between(self, low: int, high: int) -> Iterator[ModelKey]:
        """Models that take more than ``low`` bytes, and no more than ``high``."""
        sizes = self._sizes[bisect_right(self._sizes, low) : bisect_right(self._sizes, high)]
        return (key for size in sizes for key in self._keys[size])

    def smallest(self) -> int:
        """Bytes of the smallest; 0: there is none."""
        return self._sizes[0] if self._sizes else 0

    def largest(self) -> int:
        """Bytes of the largest; 0: there is none."""
        return self._sizes[-1] if self._sizes else 0

"""A set that remembers in which order its elements came.

A set of strings is in another order in every process. Wherever such an order decides, even only who comes first, two
runs of the same events differ, and what goes wrong in one cannot be repeated.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, MutableSet
from typing import TypeVar

T = TypeVar("T")


class OrderedSet(MutableSet[T]):
    """O(1) to add, discard and find, in the order in which they were added."""

    __slots__ = ("_elements",)

    def __init__(self, elements: Iterable[T] = ()) -> None:
        self._elements: OrderedDict[T, None] = OrderedDict.fromkeys(elements)

    def __contains__(self, element: object) -> bool:
        return element in self._elements

    def __iter__(self) -> Iterator[T]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    def __repr__(self) -> str:
        return f"OrderedSet({list(self._elements)})"

    def add(self, element: T) -> None:
        self._elements[element] = None

    def discard(self, element: T) -> None:
        self._elements.pop(element, None)

    def update(self, elements: Iterable[T]) -> None:
        """Add all of them."""
        self._elements.update(dict.fromkeys(elements))

    def difference_update(self, elements: Iterable[T]) -> None:
        """Discard all of them."""
        for element in elements:
            self._elements.pop(element, None)

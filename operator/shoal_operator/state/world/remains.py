"""What is left of something large that nobody needs any more, let go of a little at a time.

Python frees at once what nothing refers to, and all that only that referred to: a hundred thousand models are a tenth
of a second for whoever happens to drop the last reference.
"""

from typing import Any, Protocol


class Holder(Protocol):
    """A dict, or what takes its place."""

    def popitem(self) -> Any: ...

    def __len__(self) -> int: ...


class Remains:
    """A source of pieces (``pieces.Source``): taking them is all that is done with them."""

    __slots__ = ("_models", "_others")

    def __init__(self, models: Holder, *others: Holder) -> None:
        """``others``: of pods, or of agents' reports; each holds some thousand copies, and is taken alone."""
        self._models = models
        self._others = list(others)

    def take(self, count: int) -> list[Any]:
        if len(self._models):
            return [self._models.popitem() for _ in range(min(count, len(self._models)))]
        while self._others and not len(self._others[-1]):
            self._others.pop()
        return [self._others[-1].popitem()] if self._others else []

    def again(self) -> None:
        """They are not there twice."""

    @property
    def done(self) -> bool:
        return not len(self._models) and not any(map(len, self._others))

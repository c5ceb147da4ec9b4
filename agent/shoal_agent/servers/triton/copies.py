"""Which copy the server has under each name, remembered, so that a look at all models is one call and not one each."""

from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager


class Copies:
    """True as long as the server's process lives and nobody but the agent loads: what was read of a model before, or
    during, a change of it is forgotten."""

    def __init__(self) -> None:
        self._boot = ""
        self._known: dict[str, str] = {}
        self._changing: Counter[str] = Counter()
        self._changes = 0
        self._changed: dict[str, int] = {}

    @contextmanager
    def changing(self, name: str) -> Iterator[None]:
        """While a load or unload of it is under way."""
        self._changing[name] += 1
        self._known.pop(name, None)
        try:
            yield
        finally:
            self._changing[name] -= 1
            self._changing += Counter()  # without what is 0
            self._changes += 1
            self._changed[name] = self._changes
            self._known.pop(name, None)

    def of_process(self, boot: str, names: Set[str]) -> None:
        """These are the models that the process has: others need not be remembered."""
        if boot != self._boot:
            self._boot, self._known = boot, {}
        for name in self._known.keys() - names:
            del self._known[name]
        for name in self._changed.keys() - names:
            if name not in self._changing:
                del self._changed[name]

    def of(self, name: str) -> str | None:
        return self._known.get(name)

    def mark(self) -> int:
        """To be taken before the server is asked about a model."""
        return self._changes

    def note(self, name: str, identity: str, mark: int) -> None:
        """What the server said, unless the model was changed since, or is being."""
        if name not in self._changing and self._changed.get(name, 0) <= mark:
            self._known[name] = identity

"""What one pod should hold, versioned, so that its agent is sent only what changed.

Versions come from one ``Versions`` for all pods, above ``epoch << 32``: a version that an earlier operator,
or an earlier list of the same pod, handed out can therefore never be mistaken for one of this list.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from shoal_api.messages import CopyIntent

EPOCH_BITS = 32
MAX_TOMBSTONES = 4096


class Versions:
    """Numbers that only grow, across pods and, through the epoch, across operators."""

    __slots__ = ("_last",)

    def __init__(self, epoch: int = 0) -> None:
        self._last = epoch << EPOCH_BITS

    def begin(self, epoch: int) -> None:
        """From now on hand out numbers of this epoch; an older epoch changes nothing.

        Call it before the first list is made: lists of two operators that both had none may share numbers.
        """
        self._last = max(self._last, epoch << EPOCH_BITS)

    def take(self) -> int:
        self._last += 1
        return self._last


@dataclass(frozen=True, slots=True)
class DesiredChange:
    """The way from version ``base`` to ``version``; ``base`` None: ``intents`` is the whole list.

    The fields are ``SyncResponse``'s ``desired_version``, ``desired_base``, ``desired`` and ``desired_gone``.
    """

    version: int
    base: int | None
    intents: tuple[CopyIntent, ...]
    gone: tuple[str, ...] = ()


class DesiredList:
    """Intents by slot (model name). ``set``, ``remove``, ``get`` are O(1), ``since`` is O(what changed)."""

    __slots__ = ("_floor", "_intents", "_max_tombstones", "_tombstones", "_version", "_versions")

    def __init__(self, versions: Versions, max_tombstones: int = MAX_TOMBSTONES) -> None:
        self._versions = versions
        self._max_tombstones = max_tombstones
        self._version = self._floor = versions.take()
        # Both are ordered by version, oldest first: a change moves its name to the end.
        self._intents: OrderedDict[str, tuple[int, CopyIntent]] = OrderedDict()
        self._tombstones: OrderedDict[str, int] = OrderedDict()

    @property
    def version(self) -> int:
        """Never 0, which is how an agent says that it holds no list."""
        return self._version

    def __len__(self) -> int:
        return len(self._intents)

    def __contains__(self, name: object) -> bool:
        return name in self._intents

    def __iter__(self) -> Iterator[CopyIntent]:
        return (intent for _, intent in self._intents.values())

    def get(self, name: str) -> CopyIntent | None:
        entry = self._intents.get(name)
        return entry[1] if entry else None

    def set(self, name: str, intent: CopyIntent) -> bool:
        """Want ``intent`` in the slot; False when that is wanted already, which costs the agent nothing."""
        if name != intent.name:
            raise ValueError(f"intent for {intent.name!r} put into slot {name!r}")
        entry = self._intents.get(name)
        if entry is not None and entry[1] == intent:
            return False
        self._version = self._versions.take()
        self._tombstones.pop(name, None)
        self._intents[name] = (self._version, intent)
        self._intents.move_to_end(name)
        return True

    def remove(self, name: str) -> bool:
        """Want nothing in the slot; False when nothing was wanted."""
        if self._intents.pop(name, None) is None:
            return False
        self._version = self._versions.take()
        self._tombstones[name] = self._version
        if len(self._tombstones) > self._max_tombstones:
            # An agent older than a forgotten removal cannot be told of it by a delta: it gets the whole list.
            _, self._floor = self._tombstones.popitem(last=False)
        return True

    def since(self, version: int) -> DesiredChange | None:
        """What an agent that holds ``version`` lacks; None when it has everything.

        A version that this list never had, or has forgotten the removals of, gets the whole list.
        """
        if version == self._version:
            return None
        if not self._floor <= version < self._version:
            return DesiredChange(self._version, None, tuple(self))
        intents: list[CopyIntent] = []
        for changed, intent in reversed(self._intents.values()):
            if changed <= version:
                break
            intents.append(intent)
        gone: list[str] = []
        for name, removed in reversed(self._tombstones.items()):
            if removed <= version:
                break
            gone.append(name)
        return DesiredChange(self._version, version, tuple(reversed(intents)), tuple(reversed(gone)))

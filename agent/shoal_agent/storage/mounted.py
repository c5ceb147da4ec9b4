"""A Secret as the kubelet mounted it: all of its files from one moment."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

Read = TypeVar("Read")

_MAX_FILE: Final = 64 * 1024
_CURRENT: Final = "..data"
"""The kubelet's link to the folder with the present files, which it exchanges at once."""
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Mounted:
    """A folder that does not change any more; it may vanish once the Secret has changed."""

    folder: Path

    @classmethod
    def now(cls, mount: Path) -> "Mounted":
        """As it is at this moment."""
        current = mount / _CURRENT
        return cls(current.resolve() if current.exists() else mount)

    def text(self, names: Iterable[str]) -> str | None:
        """The first of the files that is there and not empty, without white space around it."""
        for name in names:
            try:
                with (self.folder / name).open() as file:
                    value = file.read(_MAX_FILE).strip()
            except (OSError, ValueError):
                continue
            if value:
                return value
        return None

    def names(self) -> list[str]:
        """The Secret's keys."""
        try:
            return sorted(each.name for each in self.folder.iterdir() if not each.name.startswith("."))
        except OSError:
            return []

    def file(self, name: str) -> Path | None:
        """A file by its key."""
        found = self.folder / name
        return found if name and found.is_file() else None


def read_mount(mount: Path, read: Callable[[Mounted], Read]) -> Read:
    """What ``read`` makes of the Secret, all of it from one moment: again where it was exchanged meanwhile."""
    for _ in range(_TRIES):
        seen = Mounted.now(mount)
        try:
            made = read(seen)
        except Exception:
            if Mounted.now(mount) == seen:
                raise
            continue
        if Mounted.now(mount) == seen:
            return made
    return read(Mounted.now(mount))

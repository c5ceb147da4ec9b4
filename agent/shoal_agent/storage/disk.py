"""The pod's disk for artifacts: one account of bytes and inodes. Pure but for the look at the file system.

What is reserved is what a pull still has to write: as bytes land the file system counts them, and the reservation
shrinks. Others live on the same disk (it is the node's), so a part of it stays free: kubelets evict pods when less than
15 % of the bytes or 5 % of the inodes are free, and artifacts must not be what brings that about.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KEEP_FREE: Final = 0.16
KEEP_FREE_INODES: Final = 0.06
"""Shares of the file system that stay free of artifacts."""
KEPT_MORE: Final = 0.04
"""So much more stays free of artifacts that nobody holds."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes and inodes: free, needed, or let go."""

    bytes: int
    inodes: int

    def __add__(self, other: "Room") -> "Room":
        return Room(self.bytes + other.bytes, self.inodes + other.inodes)

    def __sub__(self, other: "Room") -> "Room":
        return Room(self.bytes - other.bytes, self.inodes - other.inodes)

    def holds(self, need: "Room") -> bool:
        return need.bytes <= self.bytes and need.inodes <= self.inodes


NOTHING: Final = Room(0, 0)


@dataclass(frozen=True, slots=True)
class FileSystem:
    """As statvfs says it. ``inodes`` 0: it does not count them."""

    bytes: int
    free_bytes: int
    inodes: int
    free_inodes: int


def look(folder: Path) -> FileSystem:
    """The file system of a folder, as an ordinary user may fill it."""
    found = os.statvfs(folder)
    return FileSystem(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, found.f_files, found.f_favail)


class Reservation:
    """Of one pull. What has landed is no longer reserved."""

    def __init__(self, disk: "Disk") -> None:
        self._disk = disk
        self.left = NOTHING

    def add(self, need: Room) -> None:
        self.left += need
        self._disk.reserved += need

    def landed(self, room: Room) -> None:
        room = Room(min(room.bytes, self.left.bytes), min(room.inodes, self.left.inodes))
        self.left -= room
        self._disk.reserved -= room

    def end(self) -> None:
        self.landed(self.left)


class Disk:
    """``max_bytes`` bounds all artifacts together; 0: what the file system has, but for the share ``keep_free``.
    ``used`` says the bytes of all that is on disk for artifacts, half-done ones too."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        used: Callable[[], int],
        *,
        keep_free: float = KEEP_FREE,
        file_system: Callable[[Path], FileSystem] = look,
    ) -> None:
        self._folder, self._max_bytes, self._used, self._file_system = folder, max_bytes, used, file_system
        self._keep_free = keep_free
        self.reserved = NOTHING

    def free(self) -> Room:
        """What may be reserved yet."""
        return self._beyond(self._keep_free, KEEP_FREE_INODES) - self.reserved

    def surplus(self) -> Room:
        """How much of what nobody holds should go: the disk is filling up."""
        short = self._beyond(self._keep_free + KEPT_MORE, KEEP_FREE_INODES + KEPT_MORE)
        return Room(max(0, -short.bytes), max(0, -short.inodes))

    def _beyond(self, share: float, share_inodes: float) -> Room:
        """Free room beyond such shares of the whole."""
        found = self._file_system(self._folder)
        inodes = found.free_inodes - int(found.inodes * share_inodes) if found.inodes else 1 << 62
        of_disk = found.free_bytes - int(found.bytes * share)
        return Room(self._max_bytes - self._used() if self._max_bytes else of_disk, inodes)

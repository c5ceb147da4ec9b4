"""Resident memory of the server's processes, measured every few seconds on its event loop, off every request's path.

Read from /proc (proc(5): ``statm``, ``task/<tid>/children``), as the agent in the other container cannot.
"""

import asyncio
import os
from collections.abc import Callable

SECONDS = 5.0
MAX_PROCESSES = 64
_PAGE = os.sysconf("SC_PAGE_SIZE")

Note = Callable[[int, int], None]
"""Takes resident bytes, and the same before any model was loaded."""


def resident_bytes(pid: int | None = None, proc: str = "/proc") -> int:
    """Of a process (this one) and all its descendants; pages that they share count once for each."""
    total, waiting, seen = 0, [os.getpid() if pid is None else pid], 0
    while waiting and seen < MAX_PROCESSES:
        process = waiting.pop()
        seen += 1
        try:
            with open(f"{proc}/{process}/statm") as file:
                total += int(file.read().split()[1]) * _PAGE
            for thread in os.listdir(f"{proc}/{process}/task"):
                with open(f"{proc}/{process}/task/{thread}/children") as file:
                    waiting.extend(int(child) for child in file.read().split())
        except (OSError, ValueError, IndexError):
            continue  # it has ended, or this kernel lists no children
    return total


class MemoryWatch:
    """``begin`` before the first load; from then on every few seconds, until the loop ends."""

    def __init__(self, note: Note, seconds: float = SECONDS) -> None:
        self._note = note
        self._seconds = seconds
        self._base = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Called on the event loop; only the first call does anything."""
        if self._timer is None:
            self._base = resident_bytes()
            self._measure()

    def _measure(self) -> None:
        self._note(resident_bytes(), self._base)
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._measure)

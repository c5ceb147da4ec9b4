"""Per-model request counters in a memory-mapped file: a few memory writes a request, nothing for a reader to ask.

Layout, little-endian, three parts:

- A header of 128 bytes: 8 magic, u64 size of a record (64), u64 capacity, u64 records ever used, 32 boot id, u64
  resident bytes of the server's processes, u64 the same before any model was loaded (both 0: not measured), 48
  reserved.
- ``capacity`` records of 64 bytes: u64 generation (0: not in use; else another number each time the record is given to
  a model), requests started, succeeded, failed, last start (nanoseconds since the epoch), nanoseconds spent, two
  reserved. Together, so that a reader compares them with what it read before at the speed of memory.
- ``capacity`` names of 256 bytes, UTF-8, padded with zeros. A name belongs to a generation: it is written before it.

``shoal_agent.servers.mlserver.counters`` reads it; tests/unit/mlserver_plugin holds both to this page.

The file is made anew under another name and renamed at each start, so a reader never meets half a header, and keeps a
consistent old file when the server restarts under it.
"""

import mmap
import os
import struct
import time
from typing import NamedTuple

MAGIC = b"SHOALCT2"
HEADER_SIZE = 128
RECORD_SIZE = 64
NAME_SIZE = 256
CAPACITY = 16_384  # models at once; the file is sparse, 5 MB if all are used

_WORDS_HEADER = HEADER_SIZE // 8
_WORDS_RECORD = RECORD_SIZE // 8
_USED_WORD = 3
_RESIDENT_WORD, _BASE_WORD = 8, 9
_GENERATION, _STARTED, _SUCCEEDED, _FAILED, _LAST, _SPENT = range(6)


class Started(NamedTuple):
    """A request that has begun: its record (-1: none), the record's generation, nanoseconds on the monotonic clock."""

    word: int
    generation: int
    at: int


class CounterTable:
    """Writer of the file. One process, one thread (the server's event loop)."""

    def __init__(self, path: str, boot: str, capacity: int = CAPACITY) -> None:
        size = HEADER_SIZE + capacity * (RECORD_SIZE + NAME_SIZE)
        temporary = f"{path}.{boot}"
        with open(temporary, "w+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        struct.pack_into(
            "<8sQQQ32s", self._map, 0, MAGIC, RECORD_SIZE, capacity, 0, boot.encode("ascii", "replace")[:32]
        )
        os.chmod(temporary, 0o644)  # the agent runs as another user
        os.replace(temporary, path)
        self._words = memoryview(self._map).cast("Q")
        self._capacity = capacity
        self._generation = 0
        self._free: list[int] = []
        self._rows: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Start counting a model, from zero. One that is counted already goes on; beyond the limit none is added."""
        raw = name.encode()
        if name in self._rows or len(raw) > NAME_SIZE:
            return
        used = self._words[_USED_WORD]
        if self._free:
            row = self._free.pop()
        elif used < self._capacity:
            row = used
        else:
            return
        word = _WORDS_HEADER + row * _WORDS_RECORD
        for number in range(_WORDS_RECORD):
            self._words[word + number] = 0
        start = HEADER_SIZE + self._capacity * RECORD_SIZE + row * NAME_SIZE
        self._map[start : start + NAME_SIZE] = raw.ljust(NAME_SIZE, b"\0")
        self._generation += 1
        self._words[word + _GENERATION] = self._generation
        self._words[_USED_WORD] = max(used, row + 1)
        self._rows[name] = word

    def remove(self, name: str) -> None:
        """Stop counting a model that was unloaded; its record is used again."""
        word = self._rows.pop(name, None)
        if word is not None:
            self._words[word + _GENERATION] = 0
            self._free.append((word - _WORDS_HEADER) // _WORDS_RECORD)

    def started(self, name: str) -> Started:
        """Count a request; hand what is returned to ``finished``."""
        word = self._rows.get(name, -1)
        if word < 0:
            return Started(-1, 0, 0)
        self._words[word + _STARTED] += 1
        self._words[word + _LAST] = time.time_ns()
        return Started(word, self._words[word + _GENERATION], time.monotonic_ns())

    def finished(self, request: Started, succeeded: bool) -> None:
        """Count a request's end; nothing if its model was unloaded meanwhile."""
        word, generation, at = request
        if word >= 0 and self._words[word + _GENERATION] == generation:
            self._words[word + (_SUCCEEDED if succeeded else _FAILED)] += 1
            self._words[word + _SPENT] += time.monotonic_ns() - at

    def memory(self, resident: int, base: int) -> None:
        """Note resident bytes, now and before any model was loaded."""
        self._words[_RESIDENT_WORD] = resident
        self._words[_BASE_WORD] = base


class NoCounters:
    """Where there is nowhere to count."""

    def add(self, name: str) -> None:
        pass

    def remove(self, name: str) -> None:
        pass

    def started(self, name: str) -> Started:
        return Started(-1, 0, 0)

    def finished(self, request: Started, succeeded: bool) -> None:
        pass

    def memory(self, resident: int, base: int) -> None:
        pass

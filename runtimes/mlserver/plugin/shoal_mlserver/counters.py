"""Per-model request counters in a memory-mapped file: a few memory writes a request, nothing for a reader to ask.

Layout, little-endian: a header of 64 bytes (8 magic, u64 record size, u64 capacity, u64 records ever used, 32 boot
id), then records of 320 bytes: u64 in use (1 or 0), requests started, succeeded, failed, last start (nanoseconds since
the epoch), nanoseconds spent, two reserved, then the model's name in UTF-8, padded with zeros to 256 bytes.
``shoal_agent.counters`` reads it; tests/unit/mlserver_plugin holds both to this page.

The file is made anew under another name and renamed at each start, so a reader never meets half a header, and keeps a
consistent old file when the server restarts under it.
"""

import mmap
import os
import struct
import time

MAGIC = b"SHOALCT1"
HEADER_SIZE = 64
RECORD_SIZE = 320
NAME_SIZE = 256
CAPACITY = 16_384  # models at once; the file is sparse, 5 MB if all are used

_WORDS_HEADER = HEADER_SIZE // 8
_WORDS_RECORD = RECORD_SIZE // 8
_USED_WORD = 3
_IN_USE, _STARTED, _SUCCEEDED, _FAILED, _LAST, _SPENT = range(6)
_COUNTERS = 8


class CounterTable:
    """Writer of the file. One process, one thread (the server's event loop)."""

    def __init__(self, path: str, boot: str, capacity: int = CAPACITY) -> None:
        size = HEADER_SIZE + capacity * RECORD_SIZE
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
        start = HEADER_SIZE + row * RECORD_SIZE
        word = _WORDS_HEADER + row * _WORDS_RECORD
        self._map[start : start + RECORD_SIZE] = b"\0" * RECORD_SIZE
        name_start = start + _COUNTERS * 8
        self._map[name_start : name_start + len(raw)] = raw
        self._words[word + _IN_USE] = 1
        self._words[_USED_WORD] = max(used, row + 1)
        self._rows[name] = word

    def remove(self, name: str) -> None:
        """Stop counting a model that was unloaded; its row is used again."""
        word = self._rows.pop(name, None)
        if word is not None:
            self._words[word + _IN_USE] = 0
            self._free.append((word - _WORDS_HEADER) // _WORDS_RECORD)

    def started(self, name: str) -> int:
        """Count a request; returns its start on the monotonic clock (nanoseconds), to be handed to ``finished``."""
        word = self._rows.get(name)
        if word is not None:
            self._words[word + _STARTED] += 1
            self._words[word + _LAST] = time.time_ns()
        return time.monotonic_ns()

    def finished(self, name: str, start: int, succeeded: bool) -> None:
        """Count a request's end. A model unloaded meanwhile has no row, and counts nothing."""
        word = self._rows.get(name)
        if word is not None:
            self._words[word + (_SUCCEEDED if succeeded else _FAILED)] += 1
            self._words[word + _SPENT] += time.monotonic_ns() - start


class NoCounters:
    """Where there is nowhere to count."""

    def add(self, name: str) -> None:
        pass

    def remove(self, name: str) -> None:
        pass

    def started(self, name: str) -> int:
        return 0

    def finished(self, name: str, start: int, succeeded: bool) -> None:
        pass

"""Reads the per-model request counters that the plug-in keeps in a mapped file; the server does nothing for it.

The layout is described in runtimes/mlserver/plugin/shoal_mlserver/counters.py. The file is written while it is read,
and by a container that runs models: nothing in it is believed to be whole, and it is read, never mapped (a file that
is cut short under a map ends the process).
"""

import asyncio
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_api.grammar import MODEL_NAME
from shoal_api.messages import MAX_COUNT, MAX_SECONDS, ModelUse

from shoal_agent.model_server import Reading, Totals

_HEADER: Final = struct.Struct("<8sQQQ32sQQ48x")
_RECORD: Final = struct.Struct("<6Q16x")
_NAME_SIZE: Final = 256
_MAGIC: Final = b"SHOALCT2"
_CHUNK: Final = 64 * _RECORD.size
COUNTERS_FILE: Final = "counters/mlserver"
MAX_RECORDS: Final = 20_000
"""More are not read: it also bounds what one request to the operator tells."""
_NANO: Final = 1e9


@dataclass(frozen=True, slots=True)
class FileReading:
    """The file at one moment. ``boot``: the server process that counts; a new one starts at zero. ``records``: the
    bytes of all records ever used. Memory in bytes, None when not measured."""

    boot: str
    capacity: int
    records: bytes
    resident_bytes: int | None
    base_bytes: int | None
    counters: "Counters"

    def changes(self, before: Reading | None, clock: float) -> list[ModelUse]:
        return self.counters.changes(self, before if isinstance(before, FileReading) else None, clock)

    def totals(self) -> Totals:
        begun = succeeded = failed = 0
        for generation, started, well, badly, _, _ in _RECORD.iter_unpack(self.records):
            if generation:
                begun, succeeded, failed = begun + started, succeeded + well, failed + badly
        return Totals(succeeded, failed, max(0, begun - succeeded - failed))


class Counters:
    """One file, as a ``Usage``. Names are read once for each model that is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot = ""
        self._names: dict[int, tuple[int, str]] = {}  # by record: generation and name

    async def read(self) -> FileReading | None:
        """All counters as they are; None when there are none: the server has not started, or has no plug-in."""
        return await asyncio.to_thread(self.read_now)

    async def in_flight(self, name: str) -> int:
        """Requests of one model under way now; 0 when nothing is known of it."""
        return await asyncio.to_thread(self.in_flight_now, name)

    def read_now(self) -> FileReading | None:
        """The same as ``read``; blocks."""
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self._read(file)
        except OSError:
            return None
        finally:
            os.close(file)

    def changes(self, now: FileReading, before: FileReading | None, clock: float) -> list[ModelUse]:
        """The models whose numbers are other than ``before``, and that were ever used. ``clock``: seconds since 1970.

        What did not change costs a comparison of memory, no work in Python.
        """
        old = before.records if before is not None and before.boot == now.boot else b""
        if now.records == old:
            return []
        rows = _changed_rows(now.records, old)
        names = self._names_of(now, rows)
        found = []
        for row in rows:
            name = names.get(row)
            if name is None or not MODEL_NAME.matches(name):
                continue
            _, started, succeeded, failed, last, spent = _RECORD.unpack_from(now.records, row * _RECORD.size)
            found.append(
                ModelUse(
                    name=name,
                    requests=min(started, MAX_COUNT),
                    in_flight=min(max(0, started - succeeded - failed), MAX_COUNT),
                    busy_seconds=min(spent / _NANO, MAX_SECONDS),
                    idle_seconds=max(0.0, clock - last / _NANO),
                )
            )
        return found

    def in_flight_now(self, name: str) -> int:
        """The same as ``in_flight``; blocks."""
        wanted = name.encode().ljust(_NAME_SIZE, b"\0")
        with suppress(OSError):
            file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                reading = self._read(file)
                if reading is not None:
                    names = os.pread(file, _used(reading) * _NAME_SIZE, _names_start(reading.capacity))
                    return _in_flight(reading.records, names, wanted)
            finally:
                os.close(file)
        return 0

    def _names_of(self, reading: FileReading, rows: list[int]) -> dict[int, str]:
        """Names of those records that belong to a model which was used."""
        if reading.boot != self._boot:
            self._boot, self._names = reading.boot, {}
        names: dict[int, str] = {}
        unknown: list[tuple[int, int]] = []
        for row in rows:
            generation, started = _RECORD.unpack_from(reading.records, row * _RECORD.size)[:2]
            if not generation or not started:
                continue
            known = self._names.get(row)
            if known is not None and known[0] == generation:
                names[row] = known[1]
            else:
                unknown.append((row, generation))
        if unknown:
            for row, generation, name in self._read_names(reading, unknown):
                self._names[row] = (generation, name)
                names[row] = name
        return names

    def _read_names(self, reading: FileReading, unknown: list[tuple[int, int]]) -> list[tuple[int, int, str]]:
        first, last = unknown[0][0], unknown[-1][0]
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            start = _names_start(reading.capacity) + first * _NAME_SIZE
            raw = os.pread(file, (last - first + 1) * _NAME_SIZE, start)
            again = self._read(file)
        except OSError:
            return []
        finally:
            os.close(file)
        if again is None or again.boot != reading.boot:
            return []
        found = []
        for row, generation in unknown:
            # A record given to another model meanwhile is seen changed, with its right name, the next time.
            start = row * _RECORD.size
            after = int.from_bytes(again.records[start : start + 8], "little")
            start = (row - first) * _NAME_SIZE
            name = raw[start : start + _NAME_SIZE].rstrip(b"\0").decode("utf-8", "replace")
            if after == generation and name:
                found.append((row, generation, name))
        return found

    def _read(self, file: int) -> FileReading | None:
        header = os.pread(file, _HEADER.size, 0)
        if len(header) < _HEADER.size:
            return None
        magic, size, capacity, used, boot, resident, base = _HEADER.unpack(header)
        if magic != _MAGIC or size != _RECORD.size or capacity > 2**32:
            return None
        records = os.pread(file, min(used, capacity, MAX_RECORDS) * size, _HEADER.size)
        return FileReading(
            boot=boot.rstrip(b"\0").decode("ascii", "replace"),
            capacity=capacity,
            records=records[: len(records) - len(records) % size],
            resident_bytes=min(resident, MAX_COUNT) or None,
            base_bytes=min(base, MAX_COUNT) or None,
            counters=self,
        )


def _used(reading: FileReading) -> int:
    return len(reading.records) // _RECORD.size


def _names_start(capacity: int) -> int:
    return _HEADER.size + capacity * _RECORD.size


def _changed_rows(new: bytes, old: bytes) -> list[int]:
    size, rows = _RECORD.size, []
    for chunk in range(0, len(new), _CHUNK):
        if new[chunk : chunk + _CHUNK] != old[chunk : chunk + _CHUNK]:
            for start in range(chunk, min(chunk + _CHUNK, len(new)), size):
                if new[start : start + size] != old[start : start + size]:
                    rows.append(start // size)
    return rows


def _in_flight(records: bytes, names: bytes, wanted: bytes) -> int:
    at = names.find(wanted)
    while at >= 0:
        row, between = divmod(at, _NAME_SIZE)
        if not between and (row + 1) * _RECORD.size <= len(records):
            generation, started, succeeded, failed, _, _ = _RECORD.unpack_from(records, row * _RECORD.size)
            if generation:
                return max(0, int(started - succeeded - failed))
        at = names.find(wanted, at + 1)
    return 0

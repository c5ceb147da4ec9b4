"""Fetches the files of an artifact: several at once, large ones in parts, each part again by itself when it breaks off.

What has landed is noted beside it, so that a pull that failed or was cancelled is gone on with, also by
another process. Connections are the pod's (``budget.py``).
"""

import asyncio
import contextlib
import io
import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_agent.retries import Backoff
from shoal_agent.threads import in_thread

from . import ARTIFACT_CHANGED, STORAGE_UNAVAILABLE, STORAGE_UNREACHABLE, ArtifactFile, Listing, Source, StorageError
from .budget import Budget

PART_BYTES: Final = 32 * 1024 * 1024
"""Larger files are fetched in parts of this size, side by side."""
AT_ONCE: Final = 32
"""Connections that one artifact has or waits for."""
ATTEMPTS: Final = 5
"""How often a part is tried without a byte of progress in between."""
AGAIN: Final = Backoff(initial=0.25, maximum=5.0, jitter=0.5)
PASSING: Final = frozenset({STORAGE_UNAVAILABLE, STORAGE_UNREACHABLE})
"""Failures that another try may not meet."""
LONGEST_WAIT: Final = 60.0
"""Seconds. A storage that wants to be left alone for longer ends the pull, which is tried again later."""
NOTED: Final = 1024 * 1024
"""Bytes of an artifact from which on it is noted what has come; a smaller one is fetched as a whole again."""
_IN_LOOP: Final = 256 * 1024
"""Bytes that are written at once; more is a thread's work, since a disk may be slow."""

Landed = Callable[[int], None]
"""Told of bytes that are on disk now."""
Urgent = Callable[[], bool]
"""Whether a request waits for it, by now."""


@dataclass(slots=True)
class _Part:
    """Bytes ``at`` to before ``end`` of a file are still to come."""

    number: int
    file: ArtifactFile
    at: int
    end: int


@dataclass(frozen=True, slots=True)
class Order:
    """One artifact, and who is told how it goes."""

    source: Source
    listing: Listing
    landed: Landed
    urgent: Urgent


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be fetched into ``folder``; ``missing`` in bytes. ``journal`` notes what has come, if that is worth
    it."""

    folder: str
    journal: Path | None
    parts: tuple[_Part, ...]
    missing: int


class Fetching:
    """Of all artifacts of the pod."""

    def __init__(
        self,
        budget: Budget,
        *,
        part_bytes: int = PART_BYTES,
        noted_bytes: int = NOTED,
        again: Backoff = AGAIN,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._budget = budget
        self._part_bytes, self._noted_bytes = part_bytes, noted_bytes
        self._again, self._chance = again, chance

    def plan(self, listing: Listing, folder: Path, journal: Path) -> Plan:
        """Make the folders; what an earlier try left to be fetched. Blocks."""
        noted = listing.size >= self._noted_bytes
        had: frozenset[str] = frozenset()
        if noted:
            with contextlib.suppress(FileNotFoundError):
                # A line that a crash cut off equals none of ours.
                had = frozenset(journal.read_text(errors="replace").split("\n")[:-1])
        _lay_out(str(folder), listing.files)
        parts = tuple(part for part in _parts(listing.files, self._part_bytes) if not had or _note(part) not in had)
        return Plan(str(folder), journal if noted else None, parts, sum(part.end - part.at for part in parts))

    async def fetch(self, order: Order, plan: Plan) -> None:
        """Carry a plan out. Raises StorageError."""
        parts = deque(plan.parts)
        with plan.journal.open("a") if plan.journal is not None else io.StringIO() as notes:

            async def work() -> None:
                while parts:
                    part = parts.popleft()
                    note = _note(part)
                    await self._part(order, part, f"{plan.folder}/{part.file.path}")
                    notes.write(f"{note}\n")
                    notes.flush()

            if len(parts) == 1:
                await work()
                return
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(AT_ONCE, len(parts))):
                        group.create_task(work())
            except BaseExceptionGroup as errors:
                raise _worst(errors) from errors

    async def _part(self, order: Order, part: _Part, target: str) -> None:
        failures = 0
        while True:
            before = part.at
            try:
                async with self._budget.connection(order.listing.place, urgent=order.urgent()):
                    await _read(order, part, target)
                return
            except StorageError as error:
                failures = 1 if part.at > before else failures + 1
                if error.reason not in PASSING or failures >= ATTEMPTS or error.after > LONGEST_WAIT:
                    raise
                wait = max(error.after, self._again.delay(failures, self._chance()))
            await asyncio.sleep(wait)


async def _read(order: Order, part: _Part, target: str) -> None:
    out = os.open(target, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        async for chunk in order.source.read(order.listing, part.file, part.at, part.end):
            if part.at + len(chunk) > part.end:
                raise changed(part.file, f"more than the {part.file.size} bytes listed came")
            if len(chunk) <= _IN_LOOP:
                _write(out, chunk, part.at)
            else:
                await in_thread(_write, out, chunk, part.at)
            part.at += len(chunk)
            order.landed(len(chunk))
    finally:
        os.close(out)
    if part.at < part.end:
        raise StorageError(
            STORAGE_UNAVAILABLE,
            f"{part.file.key} broke off after {part.at} of {part.file.size} bytes. It is tried again.",
        )


def changed(file: ArtifactFile, how: str) -> StorageError:
    """The content is not what was listed."""
    return StorageError(
        ARTIFACT_CHANGED, f"{file.key} changed while it was being fetched ({how}). It is fetched again."
    )


def _parts(files: Iterable[ArtifactFile], size: int) -> Iterator[_Part]:
    for number, file in enumerate(files):
        for start in range(0, file.size, size):
            yield _Part(number, file, start, min(start + size, file.size))


def _note(part: _Part) -> str:
    """One line of the journal."""
    return f"{part.number} {part.at} {part.end}"


def _lay_out(folder: str, files: Iterable[ArtifactFile]) -> None:
    """The folders, and the files of which nothing will come. Blocks."""
    os.makedirs(folder, exist_ok=True)
    made = {""}
    for file in files:
        parent = file.path.rpartition("/")[0]
        if parent not in made:
            os.makedirs(f"{folder}/{parent}", exist_ok=True)
            made.add(parent)
        if not file.size:
            os.close(os.open(f"{folder}/{file.path}", os.O_WRONLY | os.O_CREAT, 0o644))


def _write(out: int, chunk: bytes | memoryview, at: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(out, view, at)
        view, at = view[written:], at + written


def _worst(errors: BaseExceptionGroup) -> BaseException:
    """One of the errors of side-by-side parts: the one that another try will not mend, if there is one."""
    flat = [error for error in errors.exceptions if not isinstance(error, asyncio.CancelledError)]
    lasting = (error for error in flat if not (isinstance(error, StorageError) and error.reason in PASSING))
    return next(lasting, flat[0] if flat else errors)

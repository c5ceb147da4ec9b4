"""What the workers tell of themselves, each in a file of its own that is locked as long as its worker lives.

The layout is described in runtimes/torchserve/plugin/shoal_torchserve/counters.py. The files are written by a container
that runs models: nothing in there is believed to be whole. Everything blocks.
"""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_api.messages import MAX_COUNT, MAX_SECONDS

from shoal_agent.model_server.usage import Tally

FOLDER: Final = "torchserve"
_LAYOUT: Final = struct.Struct("<8sQQQddQQ")
_MAGIC: Final = b"SHOALTS1"
_FAILED: Final = ".failed"
_MAX_FILES: Final = 20_000
_MAX_CAUSE: Final = 1000


@dataclass(frozen=True, slots=True)
class Worker:
    """``alive``: its process is there. Memory in bytes, of this process and of the server's own; 0: not known."""

    path: Path
    model: str
    copy: str
    alive: bool
    running: int
    succeeded: int
    failed: int
    busy_seconds: float
    last_used: float
    resident: int
    server: int


def read(folder: Path) -> list[Worker]:
    """All that there are, the dead of copies that are loaded among them: their counts are the copy's too."""
    found = []
    for entry in _entries(folder):
        parts = entry.name.split("~")
        if len(parts) != 3 or entry.name.startswith("."):
            continue
        worker = _read(entry, parts[0], parts[1])
        if worker is not None:
            found.append(worker)
    return found


def tallies(workers: list[Worker], loaded: Mapping[str, str]) -> dict[str, Tally]:
    """By model, of the copies that are ``loaded``. Pure."""
    found: dict[str, Tally] = {}
    for worker in workers:
        if loaded.get(worker.model) != worker.copy:
            continue
        so_far = found.get(worker.model, Tally())
        used = worker.last_used if worker.succeeded + worker.failed + worker.running else 0.0
        found[worker.model] = Tally(
            succeeded=so_far.succeeded + worker.succeeded,
            failed=so_far.failed + worker.failed,
            in_flight=so_far.in_flight + (worker.running if worker.alive else 0),
            busy_seconds=so_far.busy_seconds + worker.busy_seconds,
            last_used=max(used, so_far.last_used or 0.0) or None,
        )
    return found


def memory(workers: list[Worker]) -> tuple[int | None, int | None]:
    """Resident bytes of the server with all its workers, and without any; None where no worker tells. Pure."""
    alive = [worker for worker in workers if worker.alive]
    server = max((worker.server for worker in alive), default=0)
    if not server:
        return None, None
    return min(server + sum(worker.resident for worker in alive), MAX_COUNT), server


def running(folder: Path, model: str, copy: str) -> int:
    """Requests that a copy's workers compute now."""
    return sum(
        worker.running for worker in read(folder) if (worker.model, worker.copy) == (model, copy) and worker.alive
    )


def cause(folder: Path, model: str, copy: str) -> str:
    """Why the last worker of the copy could not load it; empty when none has said so."""
    with contextlib.suppress(OSError):
        file = os.open(folder / f"{model}~{copy}{_FAILED}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return " ".join(os.read(file, _MAX_CAUSE).decode("utf-8", "replace").split())
        finally:
            os.close(file)
    return ""


def forget(folder: Path, loaded: Mapping[str, str]) -> None:
    """Delete what dead workers of copies left that are not ``loaded``."""
    for worker in read(folder):
        if not worker.alive and loaded.get(worker.model) != worker.copy:
            worker.path.unlink(missing_ok=True)


def forget_cause(folder: Path, model: str, copy: str) -> None:
    (folder / f"{model}~{copy}{_FAILED}").unlink(missing_ok=True)


def _entries(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number >= _MAX_FILES:
                return
            yield Path(entry.path)


def _read(path: Path, model: str, copy: str) -> Worker | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        alive = not _lockable(file)
        content = os.read(file, _LAYOUT.size)
    except OSError:
        return None
    finally:
        os.close(file)
    if len(content) != _LAYOUT.size:
        return None
    magic, now, succeeded, failed, busy, used, resident, server = _LAYOUT.unpack(content)
    if magic != _MAGIC:
        return None
    return Worker(
        path,
        model,
        copy,
        alive,
        min(now, MAX_COUNT),
        min(succeeded, MAX_COUNT),
        min(failed, MAX_COUNT),
        busy if 0 <= busy <= MAX_SECONDS else 0.0,
        used if 0 <= used < 1e12 else 0.0,
        min(resident, MAX_COUNT),
        min(server, MAX_COUNT),
    )


def _lockable(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

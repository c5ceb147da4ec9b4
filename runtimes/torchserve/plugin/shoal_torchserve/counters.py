"""What one worker does, in a small file of its own that the agent reads: no request waits for a reader.

``<folder>/<model>~<copy>~<random>``, little-endian: 8 bytes magic, then u64 requests running, succeeded, failed, f64
seconds spent on finished ones, f64 last use (seconds since 1970), u64 resident bytes of this process (its share of what
it shares), u64 the same of the server's own process; 0 where it cannot be read. The file is locked (flock) as long as
the worker lives, whatever its end.

``<folder>/<model>~<copy>.failed`` says why the last worker of that copy could not load it: the server does not.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LAYOUT = struct.Struct("<8sQQQddQQ")
MAGIC = b"SHOALTS1"
FOLDER = "torchserve"
MEASURED_SECONDS = 5.0
MAX_CAUSE = 1000


class Counters:
    """Of one worker, which runs one batch at a time."""

    def __init__(self, folder: Path, model: str, copy: str) -> None:
        name = f"{model}~{copy}~{uuid.uuid4().hex}"
        # Seen under its name only once it is locked: an unlocked one is taken for a dead worker's.
        hidden = folder / f".{name}"
        self._file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.ftruncate(self._file, LAYOUT.size)
        self._map = mmap.mmap(self._file, LAYOUT.size)
        self._running = self._succeeded = self._failed = 0
        self._busy = self._used = self._measured = 0.0
        self._resident = self._server = 0
        self.measure()
        os.rename(hidden, folder / name)

    @contextmanager
    def running(self, requests: int) -> Iterator[None]:
        """While so many are computed; all failed if that raises. ``failed`` tells of single ones."""
        began = time.time()
        self._running, self._used = requests, began
        self._write()
        failed_before = self._failed
        try:
            yield
        except BaseException:
            self._failed = failed_before + requests
            raise
        finally:
            self._succeeded += requests - (self._failed - failed_before)
            self._running, self._used = 0, time.time()
            self._busy += requests * max(0.0, self._used - began)
            self.measure()

    def failed(self, requests: int) -> None:
        """Of those that are computed, so many got an error."""
        self._failed += requests

    def measure(self) -> None:
        """Write all; memory anew every few seconds."""
        if time.monotonic() - self._measured > MEASURED_SECONDS:
            self._resident, self._server = share(os.getpid()), share(os.getppid())
            self._measured = time.monotonic()
        self._write()

    def _write(self) -> None:
        LAYOUT.pack_into(
            self._map,
            0,
            MAGIC,
            self._running,
            self._succeeded,
            self._failed,
            self._busy,
            self._used,
            self._resident,
            self._server,
        )


def share(pid: int) -> int:
    """Bytes of a process in memory, pages that it shares by its part; 0 where the kernel does not tell."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def tell_failure(folder: Path, model: str, copy: str, error: BaseException) -> None:
    """For the agent: the server's own answer is that a worker ended."""
    text = " ".join(str(error).split())[:MAX_CAUSE]
    temporary = folder / f".{uuid.uuid4().hex}"
    temporary.write_text(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    os.replace(temporary, folder / f"{model}~{copy}.failed")

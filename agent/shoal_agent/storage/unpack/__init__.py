"""Unpacks archives in a child process, with limits on memory, bytes, entries, depth and time.

What an archive claims about itself may be a lie that costs a gigabyte to read: it costs the child its life, and the
artifact an error that says so. ``child.py`` reads and writes; here it is started, given room as it asks, and ended.
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import shoal_api

import shoal_agent
from shoal_agent.storage import ARTIFACT_INVALID, Limits, StorageError
from shoal_agent.storage.disk import NOTHING, Room

from . import formats

MEMORY: Final = 192 * 1024 * 1024
"""Address space of the child: xz at its strongest needs 65 MiB, and zstd 128 MiB at most."""
SECONDS: Final = 900.0
_OURS: Final = tuple(str(Path(str(package.__file__)).parents[1]) for package in (shoal_agent, shoal_api))
"""Where our packages are, which the path does not say where they are installed to be edited."""
_MAX_LINE: Final = 1024 * 1024
_START: Final = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from shoal_agent.storage.unpack.child import main; main()"
)

Grant = Callable[[Room], None]
"""Told how much more room the child needs before it writes on. Raises StorageError (DiskFull) if there is none."""


def _any_room(_: Room) -> None:
    """Whoever does not count."""


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """``size`` in bytes."""

    path: str
    size: int


class Unpacking:
    """One archive, or several into one folder. ``run`` blocks; ``stop`` ends it from another thread, with an error that
    nobody reads."""

    def __init__(self, archive: Path, name: str, target: Path, limits: Limits, *, flatten: bool = False) -> None:
        self._prepare([archive], formats.of(name), f"Archive {name!r}", target, limits, flatten=flatten)

    @classmethod
    def of_layers(cls, layers: Sequence[Path], what: str, target: Path, limits: Limits) -> "Unpacking":
        """Of an image, the lowest first: what they make together below ``/models``."""
        made = cls.__new__(cls)
        made._prepare(layers, formats.BY_CONTENT, what, target, limits, below=formats.MODELS)
        return made

    @classmethod
    def of_folders(
        cls, archives: Sequence[Path], what: str, target: Path, limits: Limits, *, flatten: bool
    ) -> "Unpacking":
        """Of an artifact: each holds a folder of it."""
        made = cls.__new__(cls)
        made._prepare(archives, formats.BY_CONTENT, what, target, limits, flatten=flatten)
        return made

    def _prepare(
        self,
        archives: Sequence[Path],
        kind: str,
        what: str,
        target: Path,
        limits: Limits,
        *,
        flatten: bool = False,
        below: str = "",
    ) -> None:
        self._what = what
        self._order = {
            "archives": [str(archive) for archive in archives],
            "format": kind,
            "below": below,
            "what": self._what,
            "target": str(target),
            "max_bytes": limits.max_bytes,
            "max_files": limits.max_files,
            "raise_bytes": limits.raise_bytes,
            "raise_files": limits.raise_files,
            "memory": MEMORY,
            "seconds": int(SECONDS),
            "flatten": flatten,
        }
        self._lock = threading.Lock()
        self._stopped = False
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, granted: Room = NOTHING, grant: Grant = _any_room) -> tuple[UnpackedFile, ...]:
        """The files that are in ``target`` afterwards. ``granted``: what it may write before it asks.

        Raises StorageError (ArtifactInvalid, ArtifactTooLarge, DiskFull).
        """
        order = json.dumps({**self._order, "granted": [granted.bytes, granted.inodes]})
        paths = ":".join(dict.fromkeys([*_OURS, *filter(None, sys.path)]))
        with self._lock:
            if self._stopped:
                raise self._failed("it was stopped")
            # Isolated, without site: a fifth of the time that an interpreter takes to start otherwise.
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _START, paths, order],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
            )
        timer = threading.Timer(SECONDS, self.stop)
        timer.daemon = True
        timer.start()
        try:
            return self._listen(self._child, grant)
        finally:
            timer.cancel()
            self.stop()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            child = self._child
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()

    def _listen(self, child: "subprocess.Popen[bytes]", grant: Grant) -> tuple[UnpackedFile, ...]:
        files: list[UnpackedFile] = []
        with child:
            out, into = child.stdout, child.stdin
            if out is None or into is None:
                raise RuntimeError("a child without pipes")
            while line := out.readline(_MAX_LINE):
                try:
                    said = json.loads(line)
                except ValueError:
                    break
                if "need" in said:
                    grant(Room(*said["need"]))
                    with contextlib.suppress(BrokenPipeError):
                        into.write(b"ok\n")
                        into.flush()
                elif "reason" in said:
                    raise StorageError(str(said["reason"]), str(said["message"]))
                elif "file" in said:
                    files.append(UnpackedFile(str(said["file"][0]), int(said["file"][1])))
                elif "done" in said:
                    return tuple(files)
        raise self._failed("its process ended")

    def _failed(self, how: str) -> StorageError:
        return StorageError(
            ARTIFACT_INVALID,
            f"{self._what} cannot be unpacked within {MEMORY >> 20} MiB of memory and {SECONDS:.0f} s ({how}). Pack it "
            "again.",
        )

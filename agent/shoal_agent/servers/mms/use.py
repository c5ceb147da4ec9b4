"""Reads what the workers of each model count (runtimes/mms/plugin/shoal_mms.py says how). Blocks."""

import fcntl
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_agent.model_server.usage import Tally

FOLDER: Final = "mms-use"
LAYOUT: Final = struct.Struct("<8sQQQdd")
MAGIC: Final = b"SHOALMM1"


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one worker, or of all of a model. ``running``: of living workers only."""

    succeeded: int = 0
    failed: int = 0
    running: int = 0
    seconds: float = 0.0
    last_used: float = 0.0

    def plus(self, other: "Counted") -> "Counted":
        return Counted(
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.running + other.running,
            self.seconds + other.seconds,
            max(self.last_used, other.last_used),
        )

    def tally(self) -> Tally:
        return Tally(self.succeeded, self.failed, self.running, self.seconds, self.last_used or None)


def of_model(folder: Path) -> Counted:
    """Sums of all workers that the model had since it was loaded."""
    counted = Counted()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    counted = counted.plus(_worker(entry.path))
    except OSError:  # not used yet, or unloaded meanwhile
        pass
    return counted


def tallies(folder: Path) -> dict[str, Tally]:
    """By model."""
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    return {name: of_model(folder / name).tally() for name in names}


def forget(folder: Path) -> None:
    """It is loaded anew."""
    shutil.rmtree(folder, ignore_errors=True)


def _worker(path: str) -> Counted:
    file = os.open(path, os.O_RDONLY)
    try:
        raw = os.read(file, LAYOUT.size)
        if len(raw) < LAYOUT.size or not raw.startswith(MAGIC):
            return Counted()
        _, begun, succeeded, failed, seconds, used = LAYOUT.unpack(raw)
        running = max(0, begun - succeeded - failed)
        if running and _dead(file):
            return Counted(succeeded, failed + running, 0, seconds, used)
        return Counted(succeeded, failed, running, seconds, used)
    finally:
        os.close(file)


def _dead(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

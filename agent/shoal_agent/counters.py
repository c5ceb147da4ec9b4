"""Reads the per-model request counters that the plug-in keeps in a mapped file; the server does nothing for it.

The layout is described in runtimes/mlserver/plugin/shoal_mlserver/counters.py.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct("<8sQQQ32s")
_HEADER_SIZE: Final = 64
_RECORD: Final = struct.Struct("<8Q256s")
_MAGIC: Final = b"SHOALCT1"
COUNTERS_FILE: Final = "counters/mlserver"
MAX_RECORDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ModelCounters:
    """Since the model was loaded. ``last_used``: seconds since the epoch, 0 when never; ``spent_seconds`` summed."""

    started: int
    succeeded: int
    failed: int
    last_used: float
    spent_seconds: float

    @property
    def in_flight(self) -> int:
        return max(0, self.started - self.succeeded - self.failed)


@dataclass(frozen=True, slots=True)
class Counters:
    """``boot``: the server process that counts; a new one starts at zero."""

    boot: str
    models: dict[str, ModelCounters]


def read_counters(path: Path) -> Counters | None:
    """All counters of the file; None when there is none (the server has not started, or has no plug-in).

    Costs one read of 320 bytes per model that is or was loaded; call it in a thread when there are thousands.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_SIZE)
            if len(header) < _HEADER_SIZE:
                return None
            magic, size, capacity, used, boot = _HEADER.unpack(header)
            if magic != _MAGIC or size != _RECORD.size or capacity > MAX_RECORDS:
                return None
            records = file.read(min(used, capacity) * size)
    except OSError:
        return None
    models: dict[str, ModelCounters] = {}
    whole = len(records) - len(records) % _RECORD.size
    for in_use, started, succeeded, failed, last, spent, _, _, name in _RECORD.iter_unpack(records[:whole]):
        if in_use == 1:
            models[name.rstrip(b"\0").decode("utf-8", "replace")] = ModelCounters(
                started, succeeded, failed, last / 1e9, spent / 1e9
            )
    return Counters(boot.rstrip(b"\0").decode("ascii", "replace"), models)

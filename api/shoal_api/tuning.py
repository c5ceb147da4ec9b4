"""How a model server is to run one model: typed, bounded, the same words from the CRD to the server's adapter.

A user writes them as fields of ``spec.serving``; the operator carries them as part of a model's content without looking
into them; what each becomes, and which a server cannot honour, is its adapter's and its profile's to say.
"""

from collections.abc import Collection
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_TUNING_SECONDS = 3600.0

_Seconds = Annotated[float, Field(ge=0, le=MAX_TUNING_SECONDS, allow_inf_nan=False)]
_Few = Annotated[int, Field(ge=1, le=1024)]


class Knob(StrEnum):
    """A field of ``spec.serving`` that tunes the server, as users write it."""

    WORKERS = "workers"
    BATCH_SIZE = "batch.size"
    BATCH_DELAY = "batch.delay"
    QUEUE_SIZE = "queueSize"
    TIMEOUT = "timeout"
    THREADS = "threads"


class Tuning(BaseModel):
    """What is left out is the server's to choose. ``batch_delay`` and ``timeout`` in seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    workers_min: _Few | None = None
    workers_max: _Few | None = None
    batch_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    batch_delay: _Seconds | None = None
    queue_size: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    timeout: _Seconds | None = None
    threads: _Few | None = None

    @property
    def workers(self) -> int:
        """How many workers the model's memory is counted for: as many as there may be."""
        return self.workers_max or self.workers_min or 1

    def asked(self) -> frozenset[Knob]:
        """The fields that are set."""
        return frozenset(
            knob for knob, names in _FIELDS.items() if any(getattr(self, name) is not None for name in names)
        )

    def only(self, knobs: Collection[Knob]) -> "Tuning":
        """Without what is not among ``knobs``."""
        kept = [name for knob in knobs for name in _FIELDS[knob]]
        return Tuning(**{name: getattr(self, name) for name in kept})


_FIELDS = {
    Knob.WORKERS: ("workers_min", "workers_max"),
    Knob.BATCH_SIZE: ("batch_size",),
    Knob.BATCH_DELAY: ("batch_delay",),
    Knob.QUEUE_SIZE: ("queue_size",),
    Knob.TIMEOUT: ("timeout",),
    Knob.THREADS: ("threads",),
}

UNTUNED = Tuning()
"""Everything is the server's to choose."""

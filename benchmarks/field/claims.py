"""What the documents claim of tuning, as settings that are compared: which figure of the second does what, beside the
first. Values only."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from shoal_api.tuning import Tuning

from .kinds import Setting, workers
from .network import Load
from .verdicts import Expects

CORES: Final = os.cpu_count() or 1
RATE: Final = "requests/s"
LONE: Final = "p50 ms of lone requests"
P99: Final = "p99 ms"
_HEAVY: Final = Load(rows=32)
_SLOW: Final = Load(pause=0.02)


@dataclass(frozen=True, slots=True)
class Compared:
    """``first`` and ``second``: places in the family's settings."""

    claim: str
    figure: str
    first: int
    second: int
    expects: Expects


@dataclass(frozen=True, slots=True)
class Family:
    """Settings that are measured together, in each round. ``connections``: that ask as fast as they are answered."""

    settings: tuple[Setting, ...]
    compared: tuple[Compared, ...]
    connections: int = 16


@dataclass(frozen=True, slots=True)
class Flood:
    """A short queue and one that takes all, of a model that answers fewer requests than are sent."""

    short: Setting
    long: Setting


_BATCHES: Final = "a larger batch and delay raise throughput"
_DELAYS: Final = "a larger batch and delay raise latency"
_BEYOND: Final = "workers beyond the cores hurt"
_NIREQ: Final = "nireq beyond the workers gains nothing"
_THREADS: Final = "one thread with several workers beats many threads"


def _batching(first: Tuning, small: Tuning, large: Tuning) -> Family:
    settings = (
        Setting("no batch", first),
        Setting("batch 8 in 10 ms", small),
        Setting("batch 32 in 50 ms", large),
    )
    steps = ((0, 1), (1, 2))
    return Family(
        settings,
        tuple(Compared(_BATCHES, RATE, one, other, Expects.UP) for one, other in steps)
        + tuple(Compared(_DELAYS, LONE, one, other, Expects.UP) for one, other in steps),
        connections=64,
    )


_BATCHING: Final = _batching(workers(1), workers(1, batch=8, delay=0.01), workers(1, batch=32, delay=0.05))
_WORKERS: Final = Family(
    tuple(Setting(f"{count} workers", workers(count)) for count in (1, CORES, 4 * CORES)),
    (
        Compared("workers up to the cores raise throughput", RATE, 0, 1, Expects.UP),
        Compared(_BEYOND, RATE, 1, 2, Expects.DOWN),
        Compared(_BEYOND, P99, 1, 2, Expects.UP),
    ),
)
_THREADED: Final = Family(
    (
        Setting(f"1 worker, {CORES} threads", workers(1, threads=CORES), load=_HEAVY),
        Setting(f"{CORES} workers, 1 thread", workers(CORES), load=_HEAVY),
        Setting(f"{CORES} workers, {CORES} threads each", workers(CORES, threads=CORES), load=_HEAVY),
    ),
    (
        Compared(_THREADS, RATE, 0, 1, Expects.UP),
        Compared(_THREADS, RATE, 2, 1, Expects.UP),
    ),
)


def _streams(count: int, threads: int, nireq: int) -> Setting:
    return Setting(
        f"{count} streams of {threads} threads, nireq {nireq}",
        Tuning(workers_max=count, threads=threads),
        nireq=nireq,
        load=_HEAVY,
    )


_STREAMS: Final = Family(
    (_streams(1, CORES, 1), _streams(CORES, 1, CORES)),
    (Compared(_THREADS, RATE, 0, 1, Expects.UP),),
)
_NIREQS: Final = Family(
    tuple(_streams(CORES, 1, count) for count in (1, CORES, 2 * CORES, 4 * CORES)),
    (
        Compared("nireq up to the workers raises throughput", RATE, 0, 1, Expects.UP),
        Compared(_NIREQ, RATE, 1, 2, Expects.NOT_UP),
        Compared(_NIREQ, RATE, 1, 3, Expects.NOT_UP),
    ),
)

FAMILIES: Final[Mapping[str, tuple[Family, ...]]] = {
    "mlserver": (_batching(Tuning(), Tuning(batch_size=8, batch_delay=0.01), Tuning(batch_size=32, batch_delay=0.05)),),
    "openvino": (_STREAMS, _NIREQS),
    "triton": (_BATCHING, _WORKERS),
    "mms": (_BATCHING, _WORKERS),
    "djl": (_BATCHING, _WORKERS, _THREADED),
    "torchserve": (_BATCHING, _WORKERS, _THREADED),
}
_SHORT, _LONG = 16, 10_000
_PER_MODEL: Final = Flood(
    Setting(f"queue {_SHORT}", workers(1, queue_size=_SHORT), load=_SLOW),
    Setting(f"queue {_LONG}", workers(1, queue_size=_LONG), load=_SLOW),
)
FLOODS: Final[Mapping[str, Flood]] = {
    "triton": _PER_MODEL,
    "djl": _PER_MODEL,
    "torchserve": _PER_MODEL,
    "mms": Flood(
        *(
            replace(setting, tuning=workers(1), server=(("job_queue_size", size),))
            for setting, size in ((_PER_MODEL.short, _SHORT), (_PER_MODEL.long, _LONG))
        )
    ),
}
BATCH: Final = 4
SCALED: Final = Setting(f"1 to 4 workers, batch {BATCH}", workers(1, 4, batch=BATCH, delay=0.005), load=Load(pause=0.5))
"""DJL's: it adds workers by its queue."""

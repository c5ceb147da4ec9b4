"""Use of models, out of the server's own counters.

It counts requests as they leave the queue (QueueTime) and as they are answered (RequestLatency), but not those that
end in an error of the server: the difference is what runs, and for ever what failed. What has not moved for as long as
a request of that model can run is taken for failed.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from shoal_agent.model_server.usage import Tally

from .properties import PYTHON_SECONDS

METRICS: Final = "/server/metrics?name%5B%5D=QueueTime&name%5B%5D=RequestLatency"
_SAMPLE: Final = re.compile(
    r'^(?P<name>(?:QueueTime|RequestLatency)_(?:count|sum))\{[^}]*Model="(?P<model>[^"]*)"[^}]*\} (?P<value>\S+)$', re.M
)
_MICROSECONDS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one model: requests that left the queue, that were answered, and seconds from arrival to answer."""

    begun: int = 0
    answered: int = 0
    seconds: float = 0.0


def counted(metrics: str) -> dict[str, Counted]:
    """By model, from Prometheus' text. Pure."""
    values: dict[str, dict[str, float]] = {}
    for sample in _SAMPLE.finditer(metrics):
        values.setdefault(sample["model"], {})[sample["name"]] = float(sample["value"])
    return {
        model: Counted(
            int(found.get("QueueTime_count", 0)),
            int(found.get("RequestLatency_count", 0)),
            found.get("RequestLatency_sum", 0.0) / _MICROSECONDS,
        )
        for model, found in values.items()
    }


@dataclass(slots=True)
class _Seen:
    counted: Counted
    since: float
    failed: int = 0


class Running:
    """What of the counters' difference runs, and what failed. ``clock``: seconds, only ever compared."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._limits: dict[str, float] = {}

    def limit(self, name: str, seconds: float) -> None:
        """So long a request of the model can run."""
        self._limits[name] = seconds

    def tallies(self, found: Mapping[str, Counted]) -> dict[str, Tally]:
        now = self._clock()
        self._seen = {name: self._look(name, counts, now) for name, counts in found.items()}
        return {
            name: Tally(
                succeeded=seen.counted.answered,
                failed=seen.failed,
                in_flight=max(0, seen.counted.begun - seen.counted.answered - seen.failed),
                busy_seconds=seen.counted.seconds,
            )
            for name, seen in self._seen.items()
        }

    def _look(self, name: str, counts: Counted, now: float) -> _Seen:
        before = self._seen.get(name)
        if before is None or counts.begun < before.counted.begun:
            return _Seen(counts, now)
        if before.counted != counts:
            return _Seen(counts, now, min(before.failed, counts.begun - counts.answered, _still_failed(before, counts)))
        if now - before.since > self._limits.get(name, PYTHON_SECONDS):
            return _Seen(counts, before.since, counts.begun - counts.answered)
        return before


def _still_failed(before: _Seen, counts: Counted) -> int:
    """Those that were taken for failed and may have been: more answers than requests that ran are answers to some of
    them, which only took long."""
    running = counts.begun - before.counted.answered - before.failed
    return before.failed - max(0, counts.answered - before.counted.answered - running)

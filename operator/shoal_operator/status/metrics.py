"""What the status writer counts about itself, for /metrics."""

from collections.abc import Callable
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from .budget import Rank


class StatusMetrics:
    """One registry can hold one of these; label ``kind`` is TrainedModel or InferenceService."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.writes = Counter(
            "shoal_status_writes_total",
            "Statuses that the API server took. One for each new TrainedModel is normal; a rate that stays up while"
            " nothing is applied means models that flap: see their events.",
            ["kind"],
            registry=registry,
        )
        self.refusals = Counter(
            "shoal_status_refusals_total",
            "Statuses that the API server did not take, by its reason; each is tried again. When it grows, see the"
            " operator's log for event StatusRefused.",
            ["reason"],
            registry=registry,
        )
        self.waiting = Gauge(
            "shoal_status_waiting",
            "Statuses that wait to be written, by rank: changed, first, rest, newcomer (most urgent first). If it"
            " keeps growing the API server is too slow for the changes that come.",
            ["rank"],
            registry=registry,
        )
        self.delay_seconds = Histogram(
            "shoal_status_delay_seconds",
            "Seconds from a change until its status was stored, by rank; rank rest waits on purpose (up to 30 s)."
            " A long delay of rank changed means that users see old statuses.",
            ["rank"],
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
            registry=registry,
        )

    def show_waiting(self, lengths: Callable[[], dict[Rank, int]]) -> None:
        """Have the lengths of the queues read at each scrape."""
        for rank in Rank:
            self.waiting.labels(rank.name.lower()).set_function(partial(_length, lengths, rank))


def _length(lengths: Callable[[], dict[Rank, int]], rank: Rank) -> float:
    return lengths()[rank]

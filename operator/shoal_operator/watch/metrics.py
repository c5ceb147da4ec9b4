"""What the informers count about themselves, for /metrics."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge


class WatchMetrics:
    """One registry can hold one of these; label ``kind`` is the kind that is watched."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.lists = Counter(
            "shoal_watch_lists_total",
            "Whole lists that were read from the API server: one for each kind at a start, and one more whenever a"
            " watch has lost its place. A few an hour are normal; many mean an API server that is overloaded.",
            ["kind"],
            registry=registry,
        )
        self.missed = Counter(
            "shoal_watch_missed_deletions_total",
            "Deletions that no watch had told of and that a list showed. Nothing is to be done: they were passed on.",
            ["kind"],
            registry=registry,
        )
        self.failures = Counter(
            "shoal_watch_failures_total",
            "Lists and watches that failed or broke off, by the API server's reason. When it grows, see the operator's"
            " log for event WatchFailed.",
            ["kind", "reason"],
            registry=registry,
        )
        self.behind = Gauge(
            "shoal_watch_behind",
            "1 for a kind that is not being watched now: what happens to its objects is seen only once it is again.",
            ["kind"],
            registry=registry,
        )

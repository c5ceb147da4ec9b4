"""What the store counts."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram


class StoreMetrics:
    """One registry can hold one of these."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.waiting = Gauge(
            "shoal_store_waiting_rows",
            "Placements that wait to be written. If it keeps growing the database or its disk is too slow.",
            registry=registry,
        )
        self.written = Counter(
            "shoal_store_rows_total",
            "Placements written or removed: one when a copy gets its pod, one when it leaves.",
            registry=registry,
        )
        self.dropped = Counter(
            "shoal_store_dropped_rows_total",
            "Placements given up, by reason; they are rebuilt from the agents at the next start, so nothing is lost"
            " unless an agent is late then.",
            ["reason"],
            registry=registry,
        )
        self.errors = Counter(
            "shoal_store_errors_total",
            "Failed reads and writes, by reason. Serving goes on without the store; see the operator's log and the"
            " volume or the database.",
            ["reason"],
            registry=registry,
        )
        self.seconds = Histogram(
            "shoal_store_write_seconds",
            "Seconds for one transaction. Nothing waits for it, but above a second shoal_store_waiting_rows will grow.",
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
            registry=registry,
        )

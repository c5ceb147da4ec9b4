"""What the store counts."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram


class StoreMetrics:
    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.waiting = Gauge("shoal_store_waiting_rows", "Placements that wait to be written.", registry=registry)
        self.written = Counter("shoal_store_rows_total", "Placements written or removed.", registry=registry)
        self.dropped = Counter(
            "shoal_store_dropped_rows_total",
            "Placements given up, by reason; they are rebuilt from the agents at the next start.",
            ["reason"],
            registry=registry,
        )
        self.errors = Counter(
            "shoal_store_errors_total", "Failed reads and writes, by reason.", ["reason"], registry=registry
        )
        self.seconds = Histogram(
            "shoal_store_write_seconds",
            "Seconds for one transaction.",
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
            registry=registry,
        )

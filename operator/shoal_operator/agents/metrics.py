"""What the agents API counts."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram


class AgentsMetrics:
    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.connected = Gauge(
            "shoal_agents_connected", "Agents that poll, or have polled moments ago.", registry=registry
        )
        self.waiting = Gauge("shoal_agents_waiting_polls", "Long-polls that wait now.", registry=registry)
        self.syncs = Counter(
            "shoal_agent_syncs_total",
            "Syncs by outcome: delta, full, unchanged, superseded, or the reason of a refusal.",
            ["outcome"],
            registry=registry,
        )
        self.lost = Counter(
            "shoal_agents_lost_total", "Agents that hung up and did not come back in time.", registry=registry
        )
        self.reviews = Counter(
            "shoal_token_reviews_total", "TokenReviews asked for, by outcome.", ["outcome"], registry=registry
        )
        self.seconds = Histogram(
            "shoal_agent_sync_seconds",
            "Seconds from a sync's arrival until its report was taken in; the long wait is not counted.",
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
            registry=registry,
        )

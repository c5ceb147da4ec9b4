"""What the port for readers counts."""

from prometheus_client import CollectorRegistry, Counter


class ReadersMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.turned_away = Counter(
            "shoal_readers_connections_refused_total",
            "Connections to the port for readers (/explain and /models over TLS) that were closed because their address"
            " had too many or opened them too fast, or that showed no token that may read in time.",
            registry=registry,
        )

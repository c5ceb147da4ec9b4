"""What the ports of the operator's own HTTP count."""

from prometheus_client import CollectorRegistry, Counter


class PortMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.readers_turned_away = Counter(
            "shoal_readers_connections_refused_total",
            "Connections to the port for readers (/explain and /models over TLS) that were closed because their address"
            " had too many or opened them too fast, or that showed no token that may read in time.",
            registry=registry,
        )
        self.plain_turned_away = Counter(
            "shoal_http_connections_refused_total",
            "Connections to the port for probes and scrapes that were closed because their address had too many or"
            " opened them too fast, or that had not sent a request and read its answer in time.",
            registry=registry,
        )

"""What the gateway counts about itself, for /metrics."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram


class GatewayMetrics:
    """Counters of the discovery service; the label ``type`` is Cluster, RouteConfiguration or
    ScopedRouteConfiguration."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.pushes = Counter("shoal_gateway_pushes", "Deltas sent to Envoys", ["type"], registry=registry)
        self.resources = Counter(
            "shoal_gateway_push_resources", "Resources in deltas sent to Envoys", ["type"], registry=registry
        )
        self.bytes = Counter("shoal_gateway_push_bytes", "Bytes of deltas sent to Envoys", ["type"], registry=registry)
        self.acknowledge_seconds = Histogram(
            "shoal_gateway_acknowledge_seconds",
            "Time from a delta to Envoy's acknowledgement",
            ["type"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=registry,
        )
        self.rejections = Counter(
            "shoal_gateway_rejections", "Deltas that an Envoy refused", ["type"], registry=registry
        )
        self.connected = Gauge("shoal_gateway_connected_envoys", "Envoys connected now", registry=registry)
        self.scopes = Gauge("shoal_gateway_scopes", "Scopes in the tables", registry=registry)

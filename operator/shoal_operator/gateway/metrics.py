"""What the gateway counts about itself, for /metrics."""

import contextlib

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from shoal_operator.state.world.values import ServiceKey


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


class ActivationMetrics:
    """What the activator counts, by InferenceService and never by model."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        labels = ["namespace", "inference_service"]
        self.requests = Counter(
            "shoal_cold_requests",
            "Requests that asked the activator where to go: their model was cold, or the pod they were sent to did not"
            " have it",
            labels,
            registry=registry,
        )
        self.held = Gauge(
            "shoal_cold_requests_held", "Requests that wait now until their model is loaded", labels, registry=registry
        )
        self.wait_seconds = Histogram(
            "shoal_cold_wait_seconds",
            "Time that requests waited at the activator before they were sent to a pod; refused ones are not counted",
            labels,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120),
            registry=registry,
        )
        self.refusals = Counter(
            "shoal_cold_refusals",
            "Requests that the activator answered with 503, by reason: the model cannot be loaded, its load took longer"
            " than the activation timeout, or too many requests wait",
            [*labels, "reason"],
            registry=registry,
        )
        self._reasons: dict[ServiceKey, set[str]] = {}

    def refused(self, service: ServiceKey, reason: str) -> None:
        """Count a refusal; reasons are few and fixed."""
        self.refusals.labels(*service, reason).inc()
        self._reasons.setdefault(service, set()).add(reason)

    def forget(self, service: ServiceKey) -> None:
        """The InferenceService is gone; so are its series."""
        for metric in (self.requests, self.held, self.wait_seconds):
            with contextlib.suppress(KeyError):
                metric.remove(*service)
        for reason in self._reasons.pop(service, ()):
            with contextlib.suppress(KeyError):
                self.refusals.remove(*service, reason)

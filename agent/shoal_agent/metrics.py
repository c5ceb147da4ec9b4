"""What the agent counts about itself, for Prometheus. Aggregated: a series per model would be thousands."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .counters import Counters
from .slots import Slot, report

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One registry per agent, so that tests can have many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.failures = Counter(
            "shoal_agent_failures", "Pulls and loads that failed.", ["stage", "reason"], registry=self.registry
        )
        self.pulled_bytes = Counter("shoal_agent_pulled_bytes", "Bytes fetched from storage.", registry=self.registry)
        self.pull_seconds = Histogram(
            "shoal_agent_pull_seconds", "Time to pull and stage a copy.", buckets=_SECONDS, registry=self.registry
        )
        self.load_seconds = Histogram(
            "shoal_agent_load_seconds", "Time the server took to load.", buckets=_SECONDS, registry=self.registry
        )
        self.server_crashes = Counter(
            "shoal_agent_server_ends", "Times the model server's process ended.", registry=self.registry
        )
        self.syncs = Counter("shoal_agent_syncs", "Exchanges with the operator.", ["result"], registry=self.registry)
        self.epoch = Gauge("shoal_agent_epoch", "Highest epoch obeyed.", registry=self.registry)

    def collect_slots(self, slots: Callable[[], Iterable[Slot]]) -> None:
        """Have slots by phase, and copies that serve, in the output."""
        self.registry.register(_SlotCollector(slots))

    def text(self, counters: Counters | None) -> bytes:
        """The exposition format, with the server's request counters summed over its models."""
        registry = CollectorRegistry()
        registry.register(_RequestCollector(counters))
        return generate_latest(self.registry) + generate_latest(registry)


class _SlotCollector(Collector):
    def __init__(self, slots: Callable[[], Iterable[Slot]]) -> None:
        self._slots = slots

    def collect(self) -> Iterator[Metric]:
        phases: dict[str, int] = {}
        serving = 0
        for slot in self._slots():
            told = report(slot)
            phases[told.phase] = phases.get(told.phase, 0) + 1
            serving += told.serving is not None
        family = GaugeMetricFamily("shoal_agent_slots", "Models by phase.", labels=["phase"])
        for phase, count in phases.items():
            family.add_metric([phase], count)
        yield family
        yield GaugeMetricFamily("shoal_agent_serving", "Models the server answers with.", value=serving)


class _RequestCollector(Collector):
    def __init__(self, counters: Counters | None) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        models = list(self._counters.models.values()) if self._counters is not None else []
        family = CounterMetricFamily(
            "shoal_agent_model_requests",
            "Requests of the models loaded now, since each was loaded.",
            labels=["result"],
        )
        family.add_metric(["succeeded"], sum(model.succeeded for model in models))
        family.add_metric(["failed"], sum(model.failed for model in models))
        yield family
        yield GaugeMetricFamily(
            "shoal_agent_model_requests_in_flight",
            "Requests under way in the model server.",
            value=sum(model.in_flight for model in models),
        )

"""What the agent counts about itself, for Prometheus. Aggregated: a series per model would be thousands."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .cached import CacheCounts
from .model_server import Totals
from .slots import Slot, report

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One registry per agent, so that tests can have many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.failures = Counter(
            "shoal_agent_failures",
            "Attempts that failed, by stage (Storage: looked up or pulled; Load: loaded or unloaded) and reason.",
            ["stage", "reason"],
            registry=self.registry,
        )
        self.stats = Counter(
            "shoal_agent_stats",
            "Artifacts looked up in their storage without fetching them, by result (found, failed).",
            ["result"],
            registry=self.registry,
        )
        self.pulled_bytes = Counter(
            "shoal_agent_pulled_bytes",
            "Bytes fetched from storage; what was on disk already counts nothing.",
            registry=self.registry,
        )
        self.pull_seconds = self._seconds(
            "shoal_agent_pull_seconds", "Seconds from a pull's turn until its copy was staged for the model server."
        )
        self.load_seconds = self._seconds(
            "shoal_agent_load_seconds", "Seconds from a load's turn until the model server listed the model as ready."
        )
        self.unload_seconds = self._seconds(
            "shoal_agent_unload_seconds",
            "Seconds from an unload's turn until the model server had let go of the model, with the wait for the last "
            "requests in flight.",
        )
        self.server_crashes = Counter(
            "shoal_agent_server_ends", "Times the model server's process ended.", registry=self.registry
        )
        self.syncs = Counter(
            "shoal_agent_syncs",
            "Exchanges with the operator that ended with an answer or an error, by result (ok, failed).",
            ["result"],
            registry=self.registry,
        )
        self.epoch = Gauge(
            "shoal_agent_epoch", "Highest epoch of an operator that this agent has obeyed.", registry=self.registry
        )

    def _seconds(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=_SECONDS, registry=self.registry)

    def collect_slots(self, slots: Callable[[], Iterable[Slot]]) -> None:
        """Have slots by phase, and copies that serve, in the output."""
        self.registry.register(_SlotCollector(slots))

    def collect_cache(self, counts: Callable[[], CacheCounts]) -> None:
        """Have the disk cache in the output."""
        self.registry.register(_CacheCollector(counts))

    def text(self, requests: Totals) -> bytes:
        """The exposition format, with the server's request counters summed over its models."""
        registry = CollectorRegistry()
        registry.register(_RequestCollector(requests))
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
        family = GaugeMetricFamily("shoal_agent_slots", "Models of this pod, by phase.", labels=["phase"])
        for phase, count in phases.items():
            family.add_metric([phase], count)
        yield family
        yield GaugeMetricFamily(
            "shoal_agent_serving", "Models that the model server of this pod answers with now.", value=serving
        )


class _CacheCollector(Collector):
    def __init__(self, counts: Callable[[], CacheCounts]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        counts = self._counts()
        yield GaugeMetricFamily("shoal_agent_cache_bytes", "Bytes of all artifacts on disk.", value=counts.bytes)
        family = GaugeMetricFamily(
            "shoal_agent_cache_artifacts",
            "Artifacts on disk: held by a staged copy, or kept in case their model comes back.",
            labels=["state"],
        )
        family.add_metric(["held"], counts.artifacts - counts.kept)
        family.add_metric(["kept"], counts.kept)
        yield family
        yield CounterMetricFamily(
            "shoal_agent_cache_hits", "Pulls that found their artifact on disk and fetched nothing.", value=counts.hits
        )
        yield CounterMetricFamily("shoal_agent_cache_misses", "Pulls that had to fetch.", value=counts.misses)
        yield CounterMetricFamily(
            "shoal_agent_cache_evictions", "Kept artifacts that were deleted to make room.", value=counts.evictions
        )


class _RequestCollector(Collector):
    def __init__(self, requests: Totals) -> None:
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "shoal_agent_model_requests",
            "Requests of the models loaded now, since each was loaded, by result (succeeded, failed).",
            labels=["result"],
        )
        family.add_metric(["succeeded"], self._requests.succeeded)
        family.add_metric(["failed"], self._requests.failed)
        yield family
        yield GaugeMetricFamily(
            "shoal_agent_model_requests_in_flight",
            "Requests under way in the model server.",
            value=self._requests.in_flight,
        )

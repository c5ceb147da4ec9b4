"""What the world looks like and what happened in it, for Prometheus: labelled by InferenceService, never by model.

Gauges and counters are read from the state at each scrape, so nothing is counted twice and a deleted InferenceService
leaves no series behind.
"""

import time
from collections.abc import Callable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shoal_operator.state.owners.project import service_view
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.stats import Stats
from shoal_operator.state.world.values import ServiceKey

_LABELS = ("namespace", "inference_service")
_Family = GaugeMetricFamily | CounterMetricFamily


class WorldCollector(Collector):
    """O(InferenceServices + pods) a scrape: the state keeps the counts. ``clock``: the one that the state is given."""

    def __init__(self, world: World, clock: Callable[[], float] = time.monotonic) -> None:
        self._world = world
        self._clock = clock

    def describe(self) -> list[Metric]:
        """Names without values, so that registering does not need a world that is ready."""
        return list(_families().values())

    def collect(self) -> Iterator[Metric]:
        """One sample per InferenceService and state."""
        world, families, now = self._world, _families(), self._clock()
        for key, service in world.services.items():
            view = service_view(world, key, now, url="", gateways=0)
            if view is None:
                continue
            pending = view.models_total - view.models_ready - view.models_failed
            for state, count in (("ready", view.models_ready), ("failed", view.models_failed), ("pending", pending)):
                families["models"].add_metric((*key, state), count)
            families["loaded"].add_metric(key, view.models_loaded)
            families["cold"].add_metric(key, max(0, view.models_ready - view.models_loaded))
            families["waiting"].add_metric(key, len(service.refused))
            pods = [world.pods[uid] for uid in world.pods_of.get(key, ())]
            families["capacity"].add_metric(key, sum(pod.spec.capacity_bytes for pod in pods if pod.placeable))
            families["committed"].add_metric(key, sum(pod.committed for pod in pods))
            families["pods"].add_metric(key, sum(pod.placeable for pod in pods))
            families["pods wanted"].add_metric(key, view.pods_wanted)
            families["pressure"].add_metric(key, view.pressure)
            for name, ratio in view.memory_ratios:
                families["ratio"].add_metric((*key, name), ratio)
            _count(families, key, service.stats)
        families["recovering"].add_metric((), world.recovering)
        families["epoch"].add_metric((), world.epoch)
        yield from families.values()


class PlanMetrics:
    """What planning costs; placement itself reads no clock, so whoever calls it says."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._seconds = Histogram(
            "shoal_plan_seconds",
            "Seconds of one plan of one InferenceService. Everything else of the operator waits meanwhile: when the"
            " slowest take more than a second, models spread over more InferenceServices are planned in smaller steps.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self._models = Counter(
            "shoal_plan_models_total",
            "Models that plans looked at. Only changed ones are, so a rate far above that of changes and cold requests"
            " means that pods come and go.",
            registry=registry,
        )

    def observe(self, seconds: float, models: int) -> None:
        """One plan took so long and looked at so many models."""
        self._seconds.observe(seconds)
        self._models.inc(models)


class FailureMetrics:
    """Errors of the operator's own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._errors = Counter(
            "shoal_internal_errors_total",
            "Errors of the operator's own, by the InferenceService that was worked on. Each has a line in the log with"
            " event InternalError: report it. The InferenceService is rebuilt; others are not concerned.",
            (*_LABELS, "doing"),
            registry=registry,
        )
        self.aside = Gauge(
            "shoal_services_set_aside",
            "InferenceServices that are being rebuilt after an error of the operator's own. What their pods serve"
            " goes on being served, and nothing new is loaded. Above 0 for minutes: see condition InternalError.",
            registry=registry,
        )

    def failed(self, service: ServiceKey | None, doing: str) -> None:
        """One more; ``service`` None: nobody could be named."""
        self._errors.labels(*(service or ("", "")), doing).inc()

    def forget(self, service: ServiceKey) -> None:
        """The InferenceService is gone."""
        self._errors.remove_by_labels(dict(zip(_LABELS, service, strict=True)))


def _count(families: dict[str, _Family], key: tuple[str, str], stats: Stats) -> None:
    for name, value in (
        ("loads", stats.loads),
        ("unloads", stats.unloads),
        ("activations", stats.activations),
        ("idle unloads", stats.idle_unloads),
        ("to zero", stats.rests),
        ("wakes", stats.wakes),
        ("copies added", stats.copies_added),
        ("copies removed", stats.copies_removed),
        ("moves", stats.moves),
        ("lookups", stats.probes),
    ):
        families[name].add_metric(key, value)
    early = min(stats.early_evictions, stats.evictions)
    families["evictions"].add_metric((*key, "true"), early)
    families["evictions"].add_metric((*key, "false"), stats.evictions - early)
    for reason, failed in stats.failures.items():
        families["failures"].add_metric((*key, reason), failed)


def _families() -> dict[str, _Family]:
    return {
        "models": GaugeMetricFamily(
            "shoal_models",
            "TrainedModels by state: ready (requests are answered, by a loaded copy or on demand), failed (a cause is"
            " known: kubectl get tm shows it), pending (on the way).",
            labels=(*_LABELS, "state"),
        ),
        "loaded": GaugeMetricFamily(
            "shoal_models_loaded", "TrainedModels that at least one pod answers for now.", labels=_LABELS
        ),
        "cold": GaugeMetricFamily(
            "shoal_models_cold",
            "TrainedModels that are ready and loaded nowhere: their next request waits for a load.",
            labels=_LABELS,
        ),
        "waiting": GaugeMetricFamily(
            "shoal_models_waiting",
            "TrainedModels that should have a copy and that no pod has room for, or may take now. When it stays above"
            " 0, /explain/<namespace>/<model> says why for each pod; usually pods or memory are missing.",
            labels=_LABELS,
        ),
        "capacity": GaugeMetricFamily(
            "shoal_memory_capacity_bytes",
            "Model memory of the pods that take models now. Compare shoal_memory_committed_bytes with it.",
            labels=_LABELS,
        ),
        "committed": GaugeMetricFamily(
            "shoal_memory_committed_bytes",
            "Memory of copies that are loaded, loading, or not confirmed gone, as placement counts it. Close to the"
            " capacity is normal under overcommit.",
            labels=_LABELS,
        ),
        "ratio": GaugeMetricFamily(
            "shoal_memory_measured_ratio",
            "What loaded models of a framework take as measured on the pods, over what they declare. Far from 1:"
            " correct spec.model.memory, or leave it out.",
            labels=(*_LABELS, "framework"),
        ),
        "pressure": GaugeMetricFamily(
            "shoal_memory_pressure",
            "1 while the models in use together are larger than the pods' memory, so that models are unloaded which"
            " are asked for again soon. Add pods or memory, or expect cold requests.",
            labels=_LABELS,
        ),
        "pods": GaugeMetricFamily(
            "shoal_pods_usable",
            "Model-server pods that take models now. Below shoal_pods_wanted for minutes: kubectl describe isvc.",
            labels=_LABELS,
        ),
        "pods wanted": GaugeMetricFamily(
            "shoal_pods_wanted",
            "Model-server pods that there should be, by minReplicas or the scaling between it and maxReplicas; 0 where"
            " minReplicas is 0 and nobody asks.",
            labels=_LABELS,
        ),
        "loads": CounterMetricFamily(
            "shoal_model_loads_total",
            "Copies that a model server finished loading. Beside shoal_model_activations_total it shows how many of"
            " them requests had to wait for.",
            labels=_LABELS,
        ),
        "unloads": CounterMetricFamily(
            "shoal_model_unloads_total",
            "Copies whose unloading was confirmed, for whatever reason: deleted, moved, evicted or idle.",
            labels=_LABELS,
        ),
        "activations": CounterMetricFamily(
            "shoal_model_activations_total",
            "Loads that a request had asked for. Its rate over that of requests is the share of cold requests; more"
            " memory lowers it, and minCopies: 1 keeps a model warm.",
            labels=_LABELS,
        ),
        "evictions": CounterMetricFamily(
            "shoal_model_evictions_total",
            "Copies unloaded to make room for others. early=true: they had hardly been loaded, and no older ones were"
            " left; a steady rate of those means that the working set is larger than memory.",
            labels=(*_LABELS, "early"),
        ),
        "idle unloads": CounterMetricFamily(
            "shoal_model_idle_unloads_total",
            "Copies unloaded because their model was not used for its idleUnload.",
            labels=_LABELS,
        ),
        "to zero": CounterMetricFamily(
            "shoal_services_to_zero_total",
            "Times that all pods of an InferenceService with minReplicas 0 went, since none of its models was used.",
            labels=_LABELS,
        ),
        "wakes": CounterMetricFamily(
            "shoal_services_woken_total",
            "Times that a pod was asked for after that, by a request or to look artifacts up. Each is a request that"
            " waits for a pod's start; a steady rate: raise shoal.dev/scale-to-zero-after.",
            labels=_LABELS,
        ),
        "copies added": CounterMetricFamily(
            "shoal_model_copies_added_total",
            "Further copies of hot models. If a model should not have any, set maxCopies.",
            labels=_LABELS,
        ),
        "copies removed": CounterMetricFamily(
            "shoal_model_copies_removed_total",
            "Further copies taken away once their models had cooled. As fast as they are added: the load swings around"
            " a pod's fair share; minCopies keeps them.",
            labels=_LABELS,
        ),
        "moves": CounterMetricFamily(
            "shoal_model_moves_total",
            "Copies placed on another pod to even out, or because theirs was leaving. Growing without rollouts or"
            " scaling: look for pods that are evicted or restart.",
            labels=_LABELS,
        ),
        "lookups": CounterMetricFamily(
            "shoal_artifact_lookups_total",
            "Artifacts that an agent looked up in their storage without loading them, so that a cold model can be"
            " called ready.",
            labels=_LABELS,
        ),
        "failures": CounterMetricFamily(
            "shoal_model_failures_total",
            "Failed attempts to look up, pull or load a model, by the reason that its conditions show. Each is tried"
            " again with growing pauses: kubectl get tm lists the models with that reason.",
            labels=(*_LABELS, "reason"),
        ),
        "recovering": GaugeMetricFamily(
            "shoal_recovering",
            "1 while nothing leaves the operator because it does not know the world yet; at most half a minute after a"
            " start, else see its log.",
        ),
        "epoch": GaugeMetricFamily(
            "shoal_epoch", "The epoch that this operator has claimed: one more at every start. 0: none yet."
        ),
    }

"""What the world looks like, for Prometheus: read at each scrape, labelled by InferenceService, never by model."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shoal_operator.state.world import World

_LABELS = ("namespace", "inference_service")


class WorldCollector(Collector):
    """O(InferenceServices + pods) a scrape: the state keeps the counts."""

    def __init__(self, world: World) -> None:
        self._world = world

    def describe(self) -> list[Metric]:
        """Names without values, so that registering does not need a world that is ready."""
        return list(_families().values())

    def collect(self) -> Iterator[Metric]:
        """One sample per InferenceService and state."""
        world, families = self._world, _families()
        for key, service in world.services.items():
            total, ready, failed = len(world.models_of.get(key, ())), service.ready_count, service.failed_count
            for state, count in (("ready", ready), ("failed", failed), ("pending", total - ready - failed)):
                families["models"].add_metric((*key, state), count)
            families["waiting"].add_metric(key, len(service.waiting))
            pods = [world.pods[uid] for uid in world.pods_of.get(key, ())]
            families["capacity"].add_metric(key, sum(pod.spec.capacity_bytes for pod in pods if pod.placeable))
            families["committed"].add_metric(key, sum(pod.committed for pod in pods))
            families["pods"].add_metric(key, sum(pod.placeable for pod in pods))
        families["recovering"].add_metric((), world.recovering)
        families["epoch"].add_metric((), world.epoch)
        yield from families.values()


def _families() -> dict[str, GaugeMetricFamily]:
    return {
        "models": GaugeMetricFamily(
            "shoal_models",
            "TrainedModels by state: ready (requests are answered), failed (a cause is known), pending.",
            labels=(*_LABELS, "state"),
        ),
        "waiting": GaugeMetricFamily(
            "shoal_models_waiting", "TrainedModels that no pod has room for, or may take now.", labels=_LABELS
        ),
        "capacity": GaugeMetricFamily(
            "shoal_memory_capacity_bytes", "Model memory of the pods that take models now.", labels=_LABELS
        ),
        "committed": GaugeMetricFamily(
            "shoal_memory_committed_bytes",
            "Declared memory of copies that are loaded, loading, or not confirmed gone.",
            labels=_LABELS,
        ),
        "pods": GaugeMetricFamily("shoal_pods_usable", "Model-server pods that take models now.", labels=_LABELS),
        "recovering": GaugeMetricFamily(
            "shoal_recovering", "1 while nothing leaves the operator because it does not know the world yet."
        ),
        "epoch": GaugeMetricFamily("shoal_epoch", "The epoch that this operator has claimed."),
    }

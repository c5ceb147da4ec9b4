"""Where a model's copies are so far, as the sorters need it."""

from dataclasses import dataclass

from shoal_operator.state.world.values import PodOffer


@dataclass(frozen=True, slots=True)
class Spread:
    """How many copies of the model each zone and each node has. ``used``: it has several because it is in use."""

    zones: dict[str, int]
    nodes: dict[str, int]
    used: bool = False

    def count(self, pod: PodOffer) -> None:
        """One more copy is there."""
        self.zones[pod.zone] = self.zones.get(pod.zone, 0) + 1
        self.nodes[pod.node] = self.nodes.get(pod.node, 0) + 1

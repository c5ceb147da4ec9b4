"""Where a model's copies are so far, as the sorters need it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Held:
    """How many copies of the model each zone and each node has. ``used``: requests for it come now."""

    zones: dict[str, int]
    nodes: dict[str, int]
    used: bool = False

"""Sorters: each gives a pod a key, smaller is better; ties go to the next. One file each, in the order of weight."""

from collections.abc import Callable

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.placement.spread import Spread

from . import fewest_copies, least_busy, least_full, spread_nodes

Sorter = Callable[[PodLedger, Spread], float]

_MODULES = (spread_nodes, least_busy, least_full, fewest_copies)
SORTERS: dict[str, Sorter] = {module.NAME: module.key for module in _MODULES}
DESCRIPTIONS: dict[str, str] = {module.NAME: module.DESCRIPTION for module in _MODULES}

"""Filters: each says yes (None) or why a pod cannot take a copy. One file each; listed here in the order of asking."""

from collections.abc import Callable

from shoal_operator.placement.ledger import PodLedger
from shoal_operator.state.world.values import ModelNeed

from . import fits_memory, name_free, not_here, not_leaving, pod_ready

Filter = Callable[[ModelNeed, PodLedger], str | None]

_MODULES = (pod_ready, not_leaving, not_here, name_free, fits_memory)
FILTERS: dict[str, Filter] = {module.NAME: module.refuse for module in _MODULES}
DESCRIPTIONS: dict[str, str] = {module.NAME: module.DESCRIPTION for module in _MODULES}
MEMORY = fits_memory.NAME

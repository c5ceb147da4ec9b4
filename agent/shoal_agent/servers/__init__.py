"""The types of model servers that an agent can drive: a package here for each, named as the type, which has
``connect(place) -> ModelServer``. They never import each other; the agent imports none by name.

A package from elsewhere brings a type by an entry point of the group below, named as the type: its ``connect``.
"""

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Final

from shoal_agent.model_server import ModelServer, Place

GROUP: Final = "shoal.agent_servers"

Connect = Callable[[Place], ModelServer]


class UnknownServer(Exception):
    """There is no adapter for this type."""


def types() -> tuple[str, ...]:
    """All that there are, in order."""
    here = {module.name for module in pkgutil.iter_modules(__path__)}
    return tuple(sorted(here | {entry.name for entry in entry_points(group=GROUP)}))


def adapter(server_type: str) -> Connect:
    """Makes the type's adapter, of which only its own code is imported. Raises UnknownServer."""
    if server_type in {module.name for module in pkgutil.iter_modules(__path__)}:
        found: Connect = importlib.import_module(f"{__name__}.{server_type}").connect
        return found
    for entry in entry_points(group=GROUP, name=server_type):
        found = entry.load()
        return found
    raise UnknownServer(f"no adapter for server type {server_type!r}; there are: {', '.join(types())}")

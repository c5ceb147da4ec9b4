"""The types of model servers whose pods can be rendered and routed to: a module here for each, named as the type, which
has ``PROFILE``. They never import each other; the operator imports none by name.

A package from elsewhere brings a type by an entry point of the group below, named as the type: its ``PROFILE``.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Final

from shoal_operator.server_profile import ServerProfile

GROUP: Final = "shoal.operator_servers"


@cache
def profiles() -> Mapping[str, ServerProfile]:
    """All that there are, by type."""
    found: dict[str, ServerProfile] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found[module.name] = importlib.import_module(f"{__name__}.{module.name}").PROFILE
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, entry.load())
    wrong = [name for name, profile in found.items() if profile.server_type != name]
    if wrong:
        raise ValueError(f"server profiles are named as their types: {wrong}")
    return found


def of_image(image: str) -> str:
    """The type whose images are named so; empty when there is none."""
    name = image.rsplit("/", 1)[-1]
    for server_type, profile in profiles().items():
        if name.startswith(profile.images):
            return server_type
    return ""

"""Models of groups by the host that each has: its own name, in whichever group it is. Pure.

A model that moves from one group to another is in both for a while: its one scope leads to whoever answers for it.
"""

from typing import NamedTuple

from shoal_operator.state.world.effects import ServiceRouteChanged
from shoal_operator.state.world.values import ServiceKey


class _Way(NamedTuple):
    routes: str
    answers: bool


class Hosts:
    """Which route configurations lead to a model of a group, and which namespaces have groups."""

    def __init__(self) -> None:
        self._ways: dict[tuple[str, str], dict[str, _Way]] = {}
        self._groups: dict[str, set[str]] = {}

    def put(self, group: ServiceKey, model: str, routes: str | None, *, answers: bool) -> str | None:
        """The model's routes in that group, None: it is not there any more; where its host leads now."""
        key = group.namespace, model
        ways = self._ways.setdefault(key, {})
        ways.pop(group.name, None)
        if routes is not None:
            ways[group.name] = _Way(routes, answers)
        if not ways:
            del self._ways[key]
            return None
        answering = [way.routes for way in ways.values() if way.answers]
        return (answering or [way.routes for way in ways.values()])[-1]

    def group(self, effect: ServiceRouteChanged) -> bool:
        """A group came or went; whether its namespace has any now."""
        groups = self._groups.setdefault(effect.service.namespace, set())
        if effect.known:
            groups.add(effect.service.name)
        else:
            groups.discard(effect.service.name)
        if not groups:
            del self._groups[effect.service.namespace]
        return bool(groups)

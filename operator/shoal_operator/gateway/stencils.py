"""Route configurations and clusters as bytes, rendered once for all that differ in their names alone. Pure.

Envoy's JSON form is easy to read and slow to parse: some milliseconds for a route configuration. A large
InferenceService has one for each set of its pods, and two clusters. They are the same but for their own names and their
target's, so one is rendered with other names of the same length, and those are written over: the bytes come out as if
each had been rendered by itself, which a test compares.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf.message import Message

from shoal_operator.state.world.values import RoutePolicy

RENDERED = 256
"""Of each, that are remembered: kinds of route configurations times policies that are in use."""


class Form(NamedTuple):
    """A kind of route configuration: rendered by name, policy, ``more``, and a target where it leads to one."""

    render: Callable[..., Message]
    more: tuple[tuple[str, Any], ...] = ()

    def filled(self, name: str, policy: RoutePolicy, target: str | None) -> bytes:
        """One of them, serialised."""
        own, there = stand_in("name", len(name)), stand_in("target", len(target)) if target is not None else None
        content = _rendered(self, policy, own, there).replace(own.encode(), name.encode())
        return content.replace(there.encode(), target.encode()) if there is not None and target is not None else content


def stand_in(word: str, length: int) -> str:
    """A name of that length which nothing else has."""
    if length < len(word) + 2:
        raise ValueError(f"a name of {length} characters may be found in other words")
    return f"<{word}>".ljust(length, "~")


@lru_cache(RENDERED)
def _rendered(form: Form, policy: RoutePolicy, name: str, target: str | None) -> bytes:
    to = {"target": target} if target is not None else {}
    return serialised(form.render(name, policy, **dict(form.more), **to))


def serialised(message: Message) -> bytes:
    """The same for the same message, in every process."""
    content: bytes = message.SerializeToString(deterministic=True)
    return content

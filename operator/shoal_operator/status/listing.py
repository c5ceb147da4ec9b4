"""Models for GET /models: what is loaded now, and where. Pure.

A status says what does not change by loading, since each change of it is a write; this is read instead.
"""

from collections.abc import Sequence
from typing import Any

from shoal_operator.state.world.views import ModelView


def listing(views: Sequence[ModelView], *, more: bool) -> dict[str, Any]:
    """A page for people and programs; fields are added, not renamed. ``continue`` is there while there are more."""
    items = [_item(view) for view in views]
    return {"items": items, **({"continue": items[-1]["name"]} if more and items else {})}


def _item(view: ModelView) -> dict[str, Any]:
    return {
        "name": view.spec.name,
        "inferenceService": view.spec.service,
        "loaded": view.answers,
        "onDemand": view.on_demand,
        "failure": view.failure.reason if view.failure is not None else None,
        "memoryBytes": view.memory_bytes,
        "requestsPerSecond": round(view.requests_per_second, 3),
        "idleSeconds": None if view.idle_seconds is None else round(view.idle_seconds, 1),
        "copies": [
            {"pod": copy.pod, "state": copy.state.value, "serving": copy.serving}
            for copy in sorted(view.copies, key=lambda copy: copy.pod)
        ],
    }

"""How many pods an autoscaled InferenceService has, and what that is decided by."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class InUse:
    """Of all of a service's pods: bytes of models that were used lately or must be kept, of those that must be kept
    alone, and the most copies that one of these must have."""

    used: int = 0
    kept: int = 0
    most_copies: int = 0


@dataclass(slots=True)
class Scale:
    """``replicas`` None until looked at; since when another number is wanted. ``in_use``: when all pods were looked at
    last; ``adding_up``: so far, while they are looked at again."""

    replicas: int | None = None
    reason: str = ""
    up_since: float | None = None
    down_since: float | None = None
    in_use: InUse | None = None
    adding_up: InUse = field(default_factory=InUse)

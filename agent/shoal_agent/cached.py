"""What the cache of artifacts says of them: values, which others need as well."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Artifact:
    """A whole artifact on disk. ``size`` in bytes, unpacked."""

    key: str
    folder: Path
    size: int


@dataclass(frozen=True, slots=True)
class Seen:
    """An artifact in its storage. ``size`` in bytes as listed."""

    size: int
    revision: str | None


@dataclass(frozen=True, slots=True)
class Pulled:
    """``fetched_bytes`` 0: it was on disk already, or another pull brought it."""

    artifact: Artifact
    fetched_bytes: int


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """``bytes`` and ``artifacts`` on disk now, ``kept`` of them held by no copy; the rest since the agent started.

    ``hits``: pulls that found their content on disk; ``evictions``: kept artifacts deleted to make room.
    """

    bytes: int
    artifacts: int
    kept: int
    hits: int
    misses: int
    evictions: int

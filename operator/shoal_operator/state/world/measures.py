"""What is known of the memory that models take: sums of what is loaded, what a server was measured with, and ratios."""

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Bytes that loaded models declare (or were estimated at), and bytes of their artifacts."""

    memory: int = 0
    artifacts: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a server took beyond an empty one, in bytes, and what its loaded models declared then."""

    boot: str
    taken: int
    declared: int
    artifacts: int


@dataclass(slots=True)
class Ratio:
    """What loaded models of one format take over what they declare. ``per_artifact_byte``: for those that do not."""

    declared: float = 1.0
    per_artifact_byte: float = 0.0
    samples: int = 0

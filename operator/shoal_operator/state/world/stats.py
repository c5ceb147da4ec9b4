"""Counts of what happened to one InferenceService's models since this operator started; metrics show them."""

from dataclasses import dataclass, field

MAX_REASONS = 64


@dataclass(slots=True)
class Stats:
    """Totals that only grow. ``early_evictions``: of models that had hardly been loaded, for want of older ones: the
    working set is larger than memory. ``failures``: failed attempts by reason (at most MAX_REASONS)."""

    loads: int = 0
    unloads: int = 0
    activations: int = 0  # loads that a request had asked for
    evictions: int = 0
    early_evictions: int = 0
    idle_unloads: int = 0
    copies_added: int = 0  # for hot models
    copies_removed: int = 0
    moves: int = 0  # copies placed elsewhere to even out, or because their pod was leaving
    probes: int = 0  # artifacts looked up without loading
    rests: int = 0  # times that all pods went, unused
    wakes: int = 0  # times that one was asked for after that
    failures: dict[str, int] = field(default_factory=dict)

    def failed(self, reason: str) -> None:
        """Count one failed attempt."""
        if reason not in self.failures and len(self.failures) >= MAX_REASONS:
            reason = "Other"
        self.failures[reason] = self.failures.get(reason, 0) + 1

"""How long to wait before the next attempt: exponential, bounded, with jitter. Pure: chance is handed in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds: ``initial`` doubled per attempt, at most ``maximum``; up to ``jitter`` of it is taken off."""

    initial: float = 5.0
    maximum: float = 300.0
    jitter: float = 0.25

    def delay(self, attempts: int, chance: float) -> float:
        """Seconds to wait after ``attempts`` failures (1 or more). ``chance``: uniform in [0, 1)."""
        # The exponent is bounded before the power is taken: thousands of attempts must not overflow.
        full = min(self.maximum, self.initial * 2.0 ** min(max(attempts, 1) - 1, 32))
        return full * (1.0 - self.jitter * chance)

"""How long to wait: before another attempt (exponential, bounded, with jitter), and to keep within a rate.

Pure: chance and clock are handed in.
"""

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


class Pace:
    """At most ``rate`` a second in the long run, and up to ``burst`` at once. ``now`` in seconds, never going back."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = 0.0

    def delay(self, now: float) -> float:
        """Count one more, and say how long it must wait."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._left / self._rate)

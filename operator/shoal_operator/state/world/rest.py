"""Whether an InferenceService with minReplicas 0 has pods, and what decides that. Pure.

Without pods its models are cold like any other, so nothing is said anew of them. What is known of a model is kept as
ever: here while the operator runs, else in its status; what neither knows is looked up again.
"""

import heapq
from dataclasses import dataclass, field
from enum import StrEnum

from shoal_operator.state.world.values import ServiceKey

NEVER = float("-inf")


class Phase(StrEnum):
    """How far an InferenceService is on its way to no pod, or back. One that has pods at any time is always Up."""

    UP = "Up"  # there are pods that took models; also where their server is down
    EMPTYING = "Emptying"  # unused for long enough: nothing is loaded any more, and its pods go once they hold nothing
    ZERO = "Zero"  # no pod is wanted
    WAKING = "Waking"  # a pod is wanted, and none takes models yet


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds for one InferenceService, in seconds. ``idle``: without use until its pods go; ``told``: how late
    agents may tell of use; ``wake``: how long a request may wait for a pod and its model; ``look``: between two pods
    that are asked for by nothing but what nobody has looked up."""

    idle: float
    told: float
    wake: float
    look: float


@dataclass(slots=True)
class Rest:
    """Of one InferenceService. ``since``: of the phase. ``used_at``: of the last use that is known. ``looks``:
    something waits for a pod that looks it up; ``looked_at``: when one was asked for last by that alone."""

    phase: Phase = Phase.UP
    since: float = NEVER
    used_at: float = NEVER
    looks: bool = False
    looked_at: float = NEVER

    def turn(self, phase: Phase, now: float) -> None:
        """It is in another phase from now on."""
        self.phase, self.since = phase, now
        if phase in (Phase.UP, Phase.WAKING):
            self.looks = False  # what waits finds a pod

    def use(self, now: float) -> None:
        """One of its models is used."""
        self.used_at = max(self.used_at, now)

    def want_look(self) -> None:
        """An artifact is to be looked up, and there is no pod whose agent could."""
        self.looks = True

    def look(self, now: float) -> None:
        """A pod is asked for, for that alone."""
        self.looked_at = now

    @property
    def resting(self) -> bool:
        """Nothing is to be loaded."""
        return self.phase in (Phase.EMPTYING, Phase.ZERO)

    def idle_at(self, bounds: Bounds) -> float:
        """When it has been without use for long enough, if none is told of until then. A pod that was asked for stays
        as long as one that was used."""
        return max(self.since, self.used_at) + bounds.idle + bounds.told

    def look_at(self, bounds: Bounds) -> float | None:
        """When a pod may be asked for, for what waits to be looked up; None: nothing does."""
        return self.looked_at + bounds.look if self.looks and self.phase is Phase.ZERO else None

    def expects(self, bounds: Bounds, now: float) -> bool:
        """A request that comes now has a pod in time, by all that is known: until one that was asked for is late."""
        return self.resting or (self.phase is Phase.WAKING and now < self.since + bounds.wake)

    def alarm(self, bounds: Bounds, now: float, again: float) -> float | None:
        """When it is to be looked at next; None: something else brings that about. ``again``: seconds between two looks
        at what ends by itself."""
        match self.phase:
            case Phase.UP:
                return max(self.idle_at(bounds), now + again)
            case Phase.EMPTYING:
                return now + again
            case Phase.WAKING:
                late = self.since + bounds.wake
                return late if late > now else None
            case Phase.ZERO:
                at = self.look_at(bounds)
                return None if at is None else max(at, now)


@dataclass(slots=True)
class Alarms:
    """When which InferenceService is looked at: of each the earliest counts. O(log n) to put."""

    _heap: list[tuple[float, ServiceKey]] = field(default_factory=list)
    _entered: dict[ServiceKey, float] = field(default_factory=dict)

    def put(self, at: float, key: ServiceKey) -> None:
        """Look at it then, unless that happens earlier anyway."""
        entered = self._entered.get(key)
        if entered is None or at < entered:
            self._entered[key] = at
            heapq.heappush(self._heap, (at, key))

    def due(self, now: float) -> ServiceKey | None:
        """Take out the next that is due; None when none is."""
        self._tidy()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, key = heapq.heappop(self._heap)
        del self._entered[key]
        return key

    def forget(self, key: ServiceKey) -> None:
        """It is not looked at any more."""
        self._entered.pop(key, None)

    def take_over(self, other: "Alarms") -> None:
        """What is in another one is in this one as well."""
        for key, at in other._entered.items():
            self.put(at, key)

    @property
    def next(self) -> float | None:
        """When something is due."""
        self._tidy()
        return self._heap[0][0] if self._heap else None

    def _tidy(self) -> None:
        while self._heap and self._entered.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)

"""``plan(input) -> Plan``: fewest moves, copies over nodes, least loaded first, and a word for every refusal.

Adding a model moves none; a leaving or lost pod moves only its own; make before break throughout: a copy retires
only when enough others answer with the wanted content. Where no pod has room, a need that may evict takes the pod
whose victims were used longest ago (see eviction.py).
"""

import heapq
import math
from collections.abc import Set
from dataclasses import replace

from shoal_operator.state.world.values import (
    CopyAt,
    Eviction,
    ModelKey,
    ModelNeed,
    Placement,
    Plan,
    PlanInput,
    Refusal,
    Verdict,
    Victim,
)

from .balance import even_out
from .eviction import cheapest
from .filters import FILTERS, MEMORY
from .ledger import PodLedger
from .sorters import SORTERS
from .spread import Spread

MAX_VERDICTS = 64
MAX_TRIED = 8

Key = tuple[float, ...]

_SORTERS = tuple(SORTERS.values())
_NOWHERE = Spread({}, {})
_NO_PODS: frozenset[str] = frozenset()
_FOUND = Refusal()
_PROBE = ModelNeed(ModelKey("", ""), 0, 1, ())


class Planner:
    """One plan in the making. Not reused."""

    def __init__(self, given: PlanInput) -> None:
        self.given = given
        self.pods = {offer.uid: PodLedger.of(offer) for offer in given.pods}
        self.add: list[Placement] = []
        self.evict: list[Eviction] = []
        self.replace: list[Placement] = []
        self.retire: list[Placement] = []
        self.refused: dict[ModelKey, Refusal] = {}
        self._queue = self._usable()
        # Of bare needs, by memory and right to evict, while no ledger changes.
        self._refusals: dict[tuple[int, float | None], Refusal] = {}

    def run(self) -> Plan:
        for need in sorted(self.given.needs, key=_urgency):
            if not need.copies:
                self._fill(need, _NO_PODS)
                continue
            replaced = self._renew(need)
            self._fill(need, replaced)
            if need.key in self.refused:
                self._make_room_beside(need, replaced)
            self._trim(need)
        moves, unbalanced = even_out(self.given, self.pods, self.add) if self.given.balance else ([], False)
        return Plan(
            service=self.given.service,
            models=tuple(need.key for need in self.given.needs),
            batch=self.given.batch,
            evict=tuple(self.evict),
            add=(*self.add, *moves),
            replace=tuple(self.replace),
            retire=tuple(self.retire),
            refused=self.refused,
            moves=len(moves),
            unbalanced=unbalanced,
        )

    def _renew(self, need: ModelNeed) -> set[str]:
        """Copies of an older content load the new one beside it where there is room, else elsewhere.

        One that answers nothing makes way where there is no room for both: its agent may be about to load it.
        Returns the pods where there is room.
        """
        replaced = self._take_back(need)
        if _enough(need):
            return replaced  # it is about to be trimmed
        for copy in need.copies:
            if copy.current or copy.leaving or copy.pod_uid in replaced:
                continue
            pod = self.pods.get(copy.pod_uid)
            if pod is None:
                continue
            room = max(0, copy.growth) or need.memory_bytes
            if room <= pod.free:
                pod.grow(room)
                self._refusals.clear()
                self.replace.append(Placement(need.key, copy.pod_uid))
                replaced.add(copy.pod_uid)
            elif not copy.answers:
                self.retire.append(Placement(need.key, copy.pod_uid))
        return replaced

    def _make_room_beside(self, need: ModelNeed, replaced: Set[str]) -> None:
        """No other pod takes an update: have unpinned copies leave its own, so that it finds room there when it is
        planned again. What is missing there is said, as that of other pods is."""
        for copy in need.copies:
            pod = self.pods.get(copy.pod_uid)
            if pod is None or copy.current or copy.leaving or not copy.answers or copy.pod_uid in replaced:
                continue
            room = max(0, copy.growth) or need.memory_bytes
            refusal = self.refused[need.key]
            missing = [lacking for lacking in (refusal.missing_bytes, room - pod.free) if lacking > 0]
            self.refused[need.key] = replace(refusal, missing_bytes=min(missing, default=0))
            victims = pod.making_room(need, room, young=False)
            if victims:
                self._evict(need, pod, victims)

    def _take_back(self, need: ModelNeed) -> set[str]:
        """An update that was taken back: copies that still serve what is wanted again stop trying the other content."""
        kept: set[str] = set()
        for copy in need.copies:
            pod = self.pods.get(copy.pod_uid)
            if pod is not None and copy.loaded and not (copy.current or copy.leaving) and copy.growth <= pod.free:
                pod.grow(max(0, copy.growth))
                self._refusals.clear()
                self.replace.append(Placement(need.key, copy.pod_uid))
                kept.add(copy.pod_uid)
        return kept

    def _fill(self, need: ModelNeed, replaced: Set[str]) -> None:
        staying = sum(not c.leaving and (c.current or c.pod_uid in replaced) for c in need.copies)
        lacking = need.wanted - staying
        if lacking <= 0:
            return
        spread = self._spread(need)
        while lacking:
            lacking -= 1
            pod, refusal = self._choose(need, spread)
            if pod is None:
                self.refused[need.key] = refusal
                return
            pod.add(need.memory_bytes)
            pod.rate += need.rate / need.wanted
            self._refusals.clear()
            self.add.append(Placement(need.key, pod.offer.uid))
            if lacking:
                spread.count(pod.offer)
                need = _with_copy(need, pod.offer.uid)

    def _choose(self, need: ModelNeed, spread: Spread) -> tuple[PodLedger | None, Refusal]:
        """The pod that no filter refuses and that sorts first.

        A bare need, one without copies and slots being unloaded, differs from another in nothing but its memory. Most
        are: for them the pods are kept in order, and a refusal counts for all of that size. A need whose copies all
        leave has no preference either; it only asks the first pods itself.
        """
        if spread.nodes or spread.used:
            return self._search(need, spread)
        if need.copies or need.occupied:
            return self._try_first(need) or self._search(need, spread)
        pod = self._first()
        if pod is not None and need.memory_bytes <= pod.free:
            return pod, _FOUND
        kind = (need.memory_bytes, need.evict_idle)
        if kind in self._refusals:
            return None, self._refusals[kind]
        pod, refusal = self._search(need, spread)
        if pod is None:
            self._refusals[kind] = refusal
        return pod, refusal

    def _usable(self) -> list[tuple[Key, int, PodLedger]]:
        """A heap of the pods that could take a bare need of no size, first the one that sorts first."""
        usable = [
            (_key(pod, _NOWHERE), index, pod)
            for index, pod in enumerate(self.pods.values())
            if _refuse(_PROBE, pod) is None
        ]
        heapq.heapify(usable)
        return usable

    def _first(self) -> PodLedger | None:
        """The heap's first. Pods only get fuller in a plan, so a key in the heap is never too large."""
        while self._queue:
            _, index, pod = self._queue[0]
            if not pod.changed:
                return pod
            pod.changed = False
            heapq.heapreplace(self._queue, (_key(pod, _NOWHERE), index, pod))
        return None

    def _try_first(self, need: ModelNeed) -> tuple[PodLedger, Refusal] | None:
        """One of the pods that sort first, if any of them takes it."""
        passed: list[tuple[Key, int, PodLedger]] = []
        found: PodLedger | None = None
        while found is None and len(passed) < MAX_TRIED and (pod := self._first()) is not None:
            if _refuse(need, pod) is None:
                found = pod
            else:
                passed.append(heapq.heappop(self._queue))
        for entry in passed:
            heapq.heappush(self._queue, entry)
        return (found, _FOUND) if found is not None else None

    def _search(self, need: ModelNeed, spread: Spread) -> tuple[PodLedger | None, Refusal]:
        verdicts: list[Verdict] = []
        best: PodLedger | None = None
        best_key: Key = ()
        missing = 0
        full: list[PodLedger] = []
        for pod in self.pods.values():
            verdict = _refuse(need, pod)
            if verdict is None:
                key = _key(pod, spread)
                if best is None or key < best_key:
                    best, best_key = pod, key
            elif best is None and len(verdicts) < MAX_VERDICTS:
                verdicts.append(verdict)
            if verdict is not None and verdict.filter == MEMORY:
                full.append(pod)
                lacking = need.memory_bytes - pod.free
                missing = lacking if not missing else min(missing, lacking)
        if best is None and need.evict_idle is not None:
            found = cheapest(need, full)
            if found is not None:
                best, victims = found
                self._evict(need, best, victims)
        return best, Refusal(tuple(verdicts), missing)

    def _evict(self, need: ModelNeed, pod: PodLedger, victims: list[Victim]) -> None:
        pod.evict(victims)
        self._refusals.clear()
        self.evict += [Eviction(victim.model, pod.offer.uid, need.key, victim.young) for victim in victims]

    def _trim(self, need: ModelNeed) -> None:
        """Retire what is not needed any more: leaving and outdated copies once enough others answer, then surplus.

        A copy that is on its way while enough others answer is kept: balance put it there, and once it has loaded
        another one is surplus.
        """
        if not _enough(need):
            return
        good = [c for c in need.copies if c.loaded and not c.leaving]
        spare = [c for c in need.copies if c not in good and (c.leaving or not c.current or c.failed)]
        surplus = sorted(good, key=self._fullness, reverse=True)[: len(good) - need.wanted]
        self.retire += [Placement(need.key, c.pod_uid) for c in (*spare, *surplus)]

    def _fullness(self, copy: CopyAt) -> float:
        pod = self.pods.get(copy.pod_uid)
        return pod.fullness if pod is not None else 1.0

    def _spread(self, need: ModelNeed) -> Spread:
        spread = Spread({}, {}, used=need.rate > 0 and need.wanted > 1)
        for copy in need.copies:
            pod = self.pods.get(copy.pod_uid)
            if pod is not None and not copy.leaving:
                spread.count(pod.offer)
        return spread


def plan(given: PlanInput) -> Plan:
    """Decide where the given models go. Pure; O(models to plan x log pods), x pods for those that have copies."""
    return Planner(given).run()


def _enough(need: ModelNeed) -> bool:
    """As many copies as wanted answer with the wanted content, and stay."""
    return sum(c.loaded and not c.leaving for c in need.copies) >= need.wanted


def _key(pod: PodLedger, spread: Spread) -> Key:
    return tuple([sorter(pod, spread) for sorter in _SORTERS])


def _refuse(need: ModelNeed, pod: PodLedger) -> Verdict | None:
    for name, refuse in FILTERS.items():
        message = refuse(need, pod)
        if message is not None:
            return Verdict(pod.offer.name, name, message)
    return None


def _with_copy(need: ModelNeed, pod_uid: str) -> ModelNeed:
    copy = CopyAt(pod_uid, answers=False, current=True, loaded=False, leaving=False)
    return replace(need, copies=(*need.copies, copy))


def _urgency(need: ModelNeed) -> tuple[float, float, int, ModelKey]:
    """First who may evict most, of these who was asked for first; then large models: what is left fits small ones.

    The name decides ties, so that a plan is reproducible.
    """
    evict_idle = need.evict_idle if need.evict_idle is not None else math.inf
    return evict_idle, need.asked_at, -need.memory_bytes, need.key

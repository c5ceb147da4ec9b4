"""Evening out: when pods joined, move models from the fullest pods to the emptiest, the most used ones first.

A move is a second copy; once it answers, the planner retires the one on the fuller pod. Moves in flight are bounded,
so that a service never loads more than a fraction of its models at once for balance's sake.
"""

from shoal_operator.state.world.values import ModelNeed, Placement, PlanInput

from .ledger import PodLedger

MAX_IN_FLIGHT = 64
MAX_PAIRS = 12
"""Pairs of pods that one round moves between: while both copies of a model answer, each pair is routes of its own."""
TOLERANCE = 0.1  # of the mean fullness: smaller differences are left alone


def even_out(given: PlanInput, pods: dict[str, PodLedger], added: list[Placement]) -> tuple[list[Placement], bool]:
    """Moves to make now, and whether more should follow. ``pods`` is updated."""
    usable = [
        pod
        for pod in pods.values()
        if pod.offer.server_ready and pod.offer.agent_connected and not pod.offer.leaving and pod.offer.capacity
    ]
    if len(usable) < 2:
        return [], False
    placed = {placement.model for placement in added}
    movable: dict[str, list[ModelNeed]] = {}
    in_flight = given.in_flight
    for need in given.needs:
        # What failed, or waits for room, may stay so for ever: nothing is planned again because of it.
        if any(copy.current and not (copy.loaded or copy.leaving or copy.failed) for copy in need.copies):
            continue
        if need.key not in placed and len(need.copies) <= need.wanted and all(copy.loaded for copy in need.copies):
            for copy in need.copies:
                movable.setdefault(copy.pod_uid, []).append(need)
    for needs in movable.values():
        needs.sort(key=lambda need: need.rate)  # stable: by name where none is used
    moves: list[Placement] = []
    pairs: set[tuple[str, str]] = set()
    # What a pod will hold once moves in flight are done: a move frees its source only later.
    expected = {pod.offer.uid: pod.committed for pod in usable}
    for need in given.needs:
        if len(need.copies) > need.wanted and need.copies:
            source = max(
                (c.pod_uid for c in need.copies if c.pod_uid in expected), key=expected.__getitem__, default=None
            )
            if source is not None:
                expected[source] -= need.memory_bytes
    share = {pod.offer.uid: expected[pod.offer.uid] / pod.offer.capacity for pod in usable}
    while True:
        fullest, emptiest = pods[max(share, key=share.__getitem__)], pods[min(share, key=share.__getitem__)]
        mean = sum(share.values()) / len(usable)
        high, low = share[fullest.offer.uid], share[emptiest.offer.uid]
        # No more than half the difference: a move must not make the emptiest pod the fuller one.
        half = (high - low) / 2 * min(fullest.offer.capacity, emptiest.offer.capacity)
        candidate = _candidate(movable.get(fullest.offer.uid, []), emptiest, half)
        if candidate is None or high - low <= TOLERANCE * mean:
            return moves, in_flight > 0 and high - low > TOLERANCE * mean
        pairs.add((fullest.offer.uid, emptiest.offer.uid))
        if in_flight + len(moves) >= MAX_IN_FLIGHT or len(pairs) > MAX_PAIRS:
            return moves, True
        movable[fullest.offer.uid].remove(candidate)
        moves.append(Placement(candidate.key, emptiest.offer.uid))
        emptiest.add(candidate.memory_bytes)
        for pod, change in ((emptiest, candidate.memory_bytes), (fullest, -candidate.memory_bytes)):
            expected[pod.offer.uid] += change
            share[pod.offer.uid] = expected[pod.offer.uid] / pod.offer.capacity


def _candidate(movable: list[ModelNeed], target: PodLedger, at_most: float) -> ModelNeed | None:
    """The last of the list that the target can take: the most used. Large plans only ever look at the list's end."""
    for need in reversed(movable):
        if (
            need.memory_bytes <= min(target.free, at_most)
            and target.offer.uid not in need.occupied
            and all(copy.pod_uid != target.offer.uid for copy in need.copies)
        ):
            return need
    return None

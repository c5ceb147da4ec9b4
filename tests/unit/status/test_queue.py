"""Whose status goes first when there are more than may be written."""

from shoal_operator.status.budget import Rank
from shoal_operator.status.queue import (
    NEWCOMERS_AT_ONCE,
    STUCK_SECONDS,
    FairQueue,
    Queues,
)


def drain(queues: Queues[str]) -> list[str]:
    found = []
    while True:
        try:
            found.append(queues.get()[1])
        except IndexError:
            return found


def nothing(item: str) -> bool:
    return False


def passing(queues: Queues[str], now: float) -> int:
    count = 0
    while queues.newcomer(now, nothing) is not None:
        count += 1
    return count


def test_a_namespace_with_thousands_does_not_keep_another_waiting() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(5000):
        queue.put("many", f"many-{number}")
    queue.put("one", "one-0")
    queue.put("one", "one-1")
    assert len(queue) == 5002
    assert queue.next() == "many-0"
    assert [queue.get() for _ in range(6)] == ["many-0", "one-0", "many-1", "one-1", "many-2", "many-3"]
    assert len(queue) == 4996


def test_what_changed_for_users_goes_before_first_readys_and_those_before_the_rest() -> None:
    queues: Queues[str] = Queues()
    queues.put(Rank.REST, "a", "count")
    queues.put(Rank.FIRST, "a", "new")
    queues.put(Rank.NEWCOMER, "a", "waits")
    queues.put(Rank.CHANGED, "a", "broke")
    assert queues.lengths() == {Rank.CHANGED: 1, Rank.FIRST: 1, Rank.REST: 1, Rank.NEWCOMER: 1}
    assert drain(queues) == ["broke", "new", "count"]  # the newcomer passes its gate only


def test_newcomers_pass_a_few_at_a_time_while_others_become_ready() -> None:
    queues: Queues[str] = Queues()
    for number in range(10_000):
        queues.put(Rank.NEWCOMER, "a", str(number))
    told = passing(queues, 0.0)
    assert told == NEWCOMERS_AT_ONCE
    for second in range(1, 301):
        queues.gate.progressed(float(second))
        told += passing(queues, float(second))
    assert told == NEWCOMERS_AT_ONCE + 300


def test_newcomers_that_are_stuck_are_told_faster() -> None:
    queues: Queues[str] = Queues()
    for number in range(10_000):
        queues.put(Rank.NEWCOMER, "a", str(number))
    slow = sum(passing(queues, tick / 5) for tick in range(int(STUCK_SECONDS * 5)))
    assert slow <= NEWCOMERS_AT_ONCE + STUCK_SECONDS + 1
    fast = sum(passing(queues, STUCK_SECONDS + tick / 5) for tick in range(300))
    assert 600 <= fast <= 700


def test_newcomers_that_became_something_else_count_for_nothing() -> None:
    queues: Queues[str] = Queues()
    for number in range(1000):
        queues.put(Rank.NEWCOMER, "a", str(number))
    assert queues.newcomer(0.0, lambda item: int(item) < 900) == "900"
    assert queues.lengths()[Rank.NEWCOMER] == 99
    assert passing(queues, 0.0) == 99  # exactly the hundred that may be told at once


def test_a_quiet_time_is_no_time_of_being_stuck() -> None:
    queues: Queues[str] = Queues()
    assert queues.newcomer(0.0, nothing) is None
    assert queues.newcomer(10_000.0, nothing) is None
    for number in range(1000):
        queues.put(Rank.NEWCOMER, "a", str(number))
    assert passing(queues, 10_001.0) == NEWCOMERS_AT_ONCE

"""Work by key: joined, one at a time, tried again, and never more than the workers at once."""

import asyncio
from collections import Counter
from contextlib import suppress
from itertools import pairwise

import pytest
from shoal_operator import work_queue
from shoal_operator.work_queue import Retry, WorkQueue


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "RETRY_SECONDS", 0.01)


async def run_for(queue: WorkQueue[str], seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await queue.run()


async def test_requests_for_one_key_are_joined() -> None:
    done: Counter[str] = Counter()

    async def work(key: str) -> None:
        done[key] += 1

    queue = WorkQueue(work)
    for _ in range(100):
        queue.add("a")
    queue.add("b")
    await run_for(queue, 0.1)
    assert done == {"a": 1, "b": 1}
    assert len(queue) == 0


async def test_a_key_is_worked_on_once_at_a_time_and_again_if_it_changed_meanwhile() -> None:
    running: Counter[str] = Counter()
    done: Counter[str] = Counter()

    async def work(key: str) -> None:
        running[key] += 1
        assert running[key] == 1
        queue.add(key) if done[key] == 0 else None
        await asyncio.sleep(0.02)
        running[key] -= 1
        done[key] += 1

    queue = WorkQueue(work)
    queue.add("a")
    await run_for(queue, 0.2)
    assert done == {"a": 2}


@pytest.mark.parametrize("error", [Retry("later"), ValueError("a fault in our code")])
async def test_failures_are_tried_again_with_growing_pauses(error: Exception) -> None:
    times: list[float] = []

    async def work(key: str) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) < 5:
            raise error

    queue = WorkQueue(work)
    queue.add("a")
    await run_for(queue, 0.5)
    assert len(times) == 5
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[-1] > pauses[0] * 2


async def test_news_ends_a_pause() -> None:
    done = 0

    async def work(key: str) -> None:
        nonlocal done
        done += 1
        if done == 1:
            raise Retry("much later", 60)

    queue = WorkQueue(work)
    queue.add("a")
    await run_for(queue, 0.05)
    queue.add("a")
    await run_for(queue, 0.05)
    assert done == 2


async def test_bounded_concurrency() -> None:
    running = most = 0

    async def work(key: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    queue = WorkQueue(work, workers=3)
    for number in range(20):
        queue.add(str(number))
    await run_for(queue, 0.3)
    assert most == 3
    assert len(queue) == 0

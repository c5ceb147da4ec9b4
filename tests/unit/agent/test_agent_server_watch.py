"""When a model server counts as frozen: it answers no health check for long enough, though its process is there."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from shoal_agent import server_watch
from shoal_agent.model_server import ServerState
from shoal_agent.server_watch import ServerWatch

FROZEN = 0.5


class Held:
    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def ended(self) -> None:
        await self.over.wait()

    def close(self) -> None:
        self.over.set()


class Server:
    """``answers``: True or False at once, None: it says nothing for ``takes`` seconds, then that it does not."""

    def __init__(self) -> None:
        self.answers: bool | None = True
        self.takes = 0.2
        self.held: Held | None = None
        self.asked = 0

    async def hold(self) -> Held:
        self.held = Held()
        return self.held

    async def state(self) -> ServerState:
        return ServerState("boot", [])

    async def alive(self) -> bool:
        self.asked += 1
        if self.answers is None:
            await asyncio.sleep(self.takes)
        return bool(self.answers)


class Agent:
    busy = False

    def loading(self) -> bool:
        return self.busy

    def mark(self) -> int:
        return 0

    def server_up(self, state: ServerState, mark: int) -> None: ...
    def server_down(self) -> None: ...
    def server_state(self, state: ServerState, mark: int) -> None: ...


class Watched:
    def __init__(self) -> None:
        self.server, self.agent = Server(), Agent()
        self.seen: list[tuple[bool, bool]] = []
        self.watch = ServerWatch(self.server, self.agent, self._changed)  # type: ignore[arg-type]  # what it uses

    def _changed(self) -> None:
        self.seen.append((self.watch.ready, self.watch.frozen))

    async def until(self, true: Callable[[], bool], seconds: float = 5.0) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(seconds):
            while not true():  # noqa: ASYNC110  # the watch tells of changes, and some are none
                await asyncio.sleep(0.005)
        return loop.time() - began


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    names = ("HEALTH_SECONDS", "MISSED_SECONDS", "FROZEN_SECONDS", "LEAST_SECONDS", "LATE_SECONDS", "LOADING_SECONDS")
    for name, seconds in zip(names, (0.05, 0.01, FROZEN, 0.1, 0.02, 1.5), strict=True):
        monkeypatch.setattr(server_watch, name, seconds)
    made = Watched()
    task = asyncio.create_task(made.watch.run())
    await made.until(lambda: made.watch.ready)
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("takes", [0.02, 0.2, 60.0])
async def test_one_that_says_nothing_is_frozen_after_its_time_and_no_earlier(watched: Watched, takes: float) -> None:
    watched.server.answers, watched.server.takes = None, takes
    took = await watched.until(lambda: watched.watch.frozen)
    assert FROZEN - 0.1 < took < 2 * FROZEN
    assert watched.seen == [(True, False), (False, True)]
    assert "does not answer" in watched.watch.message


async def test_one_that_refuses_a_check_now_and_then_is_not(watched: Watched) -> None:
    for _ in range(3):
        watched.server.answers = False
        await asyncio.sleep(FROZEN / 2)
        watched.server.answers = True
        asked = watched.server.asked
        await watched.until(lambda asked=asked: watched.server.asked > asked + 1)
    assert watched.seen == [(True, False)]


async def test_it_is_not_frozen_any_more_as_soon_as_it_answers(watched: Watched) -> None:
    watched.server.answers = None
    await watched.until(lambda: watched.watch.frozen)
    watched.server.answers = True
    assert await watched.until(lambda: watched.watch.ready) < 0.5
    assert watched.watch.message == ""


async def test_a_load_may_stop_it_for_longer(watched: Watched) -> None:
    watched.agent.busy = True
    watched.server.answers = None
    await asyncio.sleep(2 * FROZEN)
    assert watched.watch.ready
    await watched.until(lambda: watched.watch.frozen)


async def test_an_end_is_seen_at_once_whatever_is_being_asked(watched: Watched) -> None:
    """It is down, not frozen: nothing about it is doubtful."""
    watched.server.answers, watched.server.takes = None, 60.0
    asked = watched.server.asked
    await watched.until(lambda: watched.server.asked > asked)

    async def gone() -> ServerState:
        raise server_watch.ServerGone("refused")

    watched.server.state = gone  # type: ignore[method-assign]
    assert watched.server.held is not None
    watched.server.held.close()
    assert await watched.until(lambda: not watched.watch.up) < FROZEN
    assert not watched.watch.frozen


@pytest.mark.parametrize("asking", [True, False])
async def test_an_observer_that_stood_still_reads_what_came_before_it_judges(watched: Watched, asking: bool) -> None:
    """It was stopped, while a check was under way or between two, for longer than a server may be silent."""
    under_way = asyncio.Event()

    async def alive() -> bool:
        under_way.set()
        await asyncio.sleep(0.05)
        for _ in range(9):  # as an answer that is read and parsed takes its turns
            await asyncio.sleep(0)
        under_way.clear()
        return True

    watched.server.alive = alive  # type: ignore[method-assign]
    await watched.until(under_way.is_set)
    if not asking:
        await watched.until(lambda: not under_way.is_set())
    time.sleep(2 * FROZEN)  # noqa: ASYNC251  # that is what stands still
    await asyncio.sleep(0.3)
    assert watched.seen == [(True, False)]

"""The agent's talk with the operator's own agents API, over real connections: at once, in order, and not too often."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from prometheus_client import CollectorRegistry
from shoal_agent.control_plane import ControlPlane
from shoal_agent.exchange import Accepted, Exchange, Identity, News
from shoal_agent.metrics import Metrics
from shoal_agent.servers.mlserver.counters import Counters
from shoal_agent.use import Use
from shoal_api.messages import CopyPhase, ServerReport, SlotReport
from shoal_operator.agents import AgentsServer
from shoal_operator.state.world.report import AgentReport

from tests.patience import BUSY
from tests.unit.agents.agents_parts import DictionaryBackend, ScriptedReviews, intent, token

HOST = "127.0.51.2"


class Backend(DictionaryBackend):
    """As strict as the operator's state: a delta starts from exactly the version that is held."""

    def __init__(self) -> None:
        super().__init__(use_seconds=0.2)
        self.held = 0
        self.latest = 0
        self.slots: dict[str, SlotReport] = {}
        self.misfits = 0
        self.told = asyncio.Event()

    def report(self, request: AgentReport) -> int:
        self.reports.append(request)
        if request.observed_version < self.latest:
            return self.held  # late
        self.latest = request.observed_version
        if request.observed_base is None:
            self.slots = {}
        elif request.observed_base != self.held:
            self.misfits += 1
            self.held = 0
            return 0
        self.slots.update({slot.name: slot for slot in request.observed})
        for name in request.observed_gone:
            self.slots.pop(name, None)
        self.held = request.observed_version
        self.told.set()
        return self.held


class Talk:
    """An agent's exchange and control plane on one side, the operator's server on the other."""

    def __init__(self, folder: Path) -> None:
        self.backend = Backend()
        self.registry = CollectorRegistry()
        self.server = AgentsServer(self.backend, ScriptedReviews(), self.registry)
        self.exchange = Exchange(Identity("team", "pod-1", "uid-pod-1", "session"))
        self.accepted: list[Accepted] = []
        self.counters = folder / "counters"
        self.use = Use(Counters(self.counters))
        self.metrics = Metrics()
        (folder / "token").write_text(token())
        self.folder = folder

    async def start(self) -> "Talk":
        port = await self.server.start(HOST, 0, None)
        self.control_plane = ControlPlane(
            url=f"http://{HOST}:{port}",
            credentials=self.folder,
            exchange=self.exchange,
            metrics=self.metrics,
            accept=self.accepted.append,
            server=lambda: ServerReport(type="mlserver", ready=True),
            draining=lambda: False,
            use=self.use,
        )
        self.use.changed = self.control_plane.changed
        self._tasks = [asyncio.create_task(self.control_plane.run()), asyncio.create_task(self.use.run())]
        await self.until_held()
        return self

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.server.close()

    def report(self, name: str, phase: CopyPhase) -> None:
        self.control_plane.changed(self.exchange.observed.put(SlotReport(name=name, phase=phase)))

    async def heard(self, name: str, phase: CopyPhase, seconds: float = 5) -> float:
        """Seconds until the operator has it."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with asyncio.timeout(seconds):
            while name not in self.backend.slots or self.backend.slots[name].phase is not phase:
                self.backend.told.clear()
                await self.backend.told.wait()
        return loop.time() - started

    async def until_held(self) -> None:
        """Until all is told and a poll waits."""
        end = asyncio.get_running_loop().time() + 5
        while self.exchange.pending or not self.waiting:
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.005)

    @property
    def waiting(self) -> float:
        return self.registry.get_sample_value("shoal_agents_waiting_polls") or 0.0

    def outcomes(self, outcome: str) -> float:
        return self.registry.get_sample_value("shoal_agents_syncs_total", {"outcome": outcome}) or 0.0


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    made = await Talk(tmp_path).start()
    yield made
    await made.stop()


async def test_news_come_at_once_while_a_poll_is_held_and_nothing_is_said_when_there_are_none(talk: Talk) -> None:
    quiet = len(talk.backend.reports)
    await asyncio.sleep(0.5)
    assert len(talk.backend.reports) == quiet
    took = []
    for number in range(10):
        talk.report(f"m{number}", CopyPhase.LOADED)
        took.append(await talk.heard(f"m{number}", CopyPhase.LOADED))
        await talk.until_held()
    assert sorted(took)[2] < 0.1, took  # the quickest: what nobody waits for is told after 0.1 s at the earliest
    assert talk.backend.misfits == 0, "a delta fitted every time"
    assert talk.outcomes("superseded") == 10, "the held poll was ended by the operator, on its connection"
    assert talk.metrics.registry.get_sample_value("shoal_agent_syncs_total", {"result": "failed"}) is None
    assert talk.waiting == 1


async def test_what_nobody_waits_for_goes_with_the_next_news_or_a_little_later(talk: Talk) -> None:
    requests = len(talk.backend.reports)
    talk.report("m", CopyPhase.PULLING)
    talk.report("m", CopyPhase.LOADING)
    await asyncio.sleep(0.05)
    assert len(talk.backend.reports) == requests
    talk.report("m", CopyPhase.LOADED)
    await talk.heard("m", CopyPhase.LOADED)
    await talk.until_held()
    assert len(talk.backend.reports) == requests + 2
    talk.report("n", CopyPhase.PULLING)
    assert 0.1 < await talk.heard("n", CopyPhase.PULLING) < BUSY


async def test_a_desired_change_is_not_lost_when_news_cross_it(talk: Talk) -> None:
    for number in range(40):
        talk.report(f"m{number}", CopyPhase.LOADED)
        if number % 2:
            await asyncio.sleep(0.003)
        talk.backend.pod().set(f"w{number}", intent(f"w{number}"))
        talk.server.wake("uid-pod-1")
        if number % 3:
            await asyncio.sleep(0.003)
    await talk.until_held()
    wanted = {change.name for accepted in talk.accepted for change in accepted.wanted}
    assert wanted == {f"w{number}" for number in range(40)}
    assert sum(accepted.whole for accepted in talk.accepted) == 1, "the first list, and deltas since"
    assert talk.backend.misfits == 0


async def test_a_flood_of_news_keeps_to_the_pace(talk: Talk) -> None:
    requests = len(talk.backend.reports)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number in range(1500):
        talk.report(f"m{number}", CopyPhase.LOADED)
        await asyncio.sleep(0.001)
    await talk.heard("m1499", CopyPhase.LOADED)
    assert len(talk.backend.slots) == 1500
    made, seconds = len(talk.backend.reports) - requests, loop.time() - started
    assert made <= 52 + 26 * seconds, f"{made} requests in {seconds:.1f} s"
    assert talk.outcomes("TooManySyncs") == 0


async def test_use_is_told_when_there_is_some_and_again_only_when_it_changed(talk: Talk) -> None:
    await asyncio.sleep(0.5)
    assert not any(request.use for request in talk.backend.reports), "no file, no use"
    _counters(talk.counters, {"iris": 3, "wine": 1})
    await asyncio.sleep(0.7)
    told = [use for request in talk.backend.reports for use in request.use]
    assert sorted((use.name, use.requests) for use in told) == [("iris", 3), ("wine", 1)]
    before = len(talk.backend.reports)
    await asyncio.sleep(0.5)
    assert len(talk.backend.reports) == before
    _counters(talk.counters, {"iris": 4, "wine": 1})
    await asyncio.sleep(0.5)
    assert [(use.name, use.requests) for request in talk.backend.reports[before:] for use in request.use] == [
        ("iris", 4)
    ]
    # Another operator has to be told all.
    talk.backend.claimed = 9
    talk.control_plane.changed(News.NOW)
    talk.report("m", CopyPhase.LOADED)
    await asyncio.sleep(0.7)
    last = [use.name for request in talk.backend.reports[-4:] for use in request.use]
    assert sorted(last) == ["iris", "wine"]


def _counters(path: Path, requests: dict[str, int]) -> None:
    """A counters' file as the plug-in writes it (its layout is held by tests/unit/mlserver_plugin)."""
    records = b"".join(
        struct.pack("<8Q", generation, count, count, 0, 10**18, 10**6, 0, 0)
        for generation, count in enumerate(requests.values(), start=1)
    )
    names = b"".join(name.encode().ljust(256, b"\0") for name in requests)
    header = struct.pack("<8sQQQ32sQQ48x", b"SHOALCT2", 64, len(requests), len(requests), b"boot", 0, 0)
    path.with_suffix(".new").write_bytes(header + records + names)
    path.with_suffix(".new").replace(path)


async def test_use_that_is_wanted_now_is_told_now_also_when_there_is_none(talk: Talk) -> None:
    talk.backend.asked_for_use.add("uid-pod-1")
    talk.server.wake("uid-pod-1")
    async with asyncio.timeout(5):
        while not talk.backend.reports[-1].use_now:
            talk.backend.told.clear()
            await talk.backend.told.wait()
    talk.backend.asked_for_use.clear()
    await talk.until_held()
    assert not talk.backend.reports[-1].use_now  # asked once, told once

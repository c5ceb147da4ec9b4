"""The writer over an API that only counts: how many writes, which first, and that nothing else stalls meanwhile."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.kube import KubeError
from shoal_operator.state.world.values import ModelKey
from shoal_operator.state.world.views import CopyState, CopyView, ModelView
from shoal_operator.status import budget
from shoal_operator.status.metrics import StatusMetrics
from shoal_operator.status.writer import COALESCE_MANY_SECONDS, StatusWriter

from tests.unit.containment.plant import in_virtual_time

from .model_views import LOAD, SPEC, copy, view, with_copies

Object = dict[str, Any]
COLD = {"min_copies": 0, "wanted_copies": 0, "artifact_seen": True, "on_demand": True}
LOADING = (copy(CopyState.LOADING),)
LOADED = (copy(CopyState.LOADED),)
_NAME = re.compile(r"/namespaces/([^/]+)/trainedmodels/([^/]+)/status")


class Api:
    """Stores whatever it is given, in ``seconds`` each."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.writes: list[tuple[str, str, Object]] = []
        self.refuse: KubeError | None = None
        self.answering = asyncio.Event()
        self.answering.set()
        self._version = 100

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Object | list[Object] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        await asyncio.sleep(self.seconds)
        await self.answering.wait()
        if self.refuse is not None:
            error, self.refuse = self.refuse, None
            raise error
        match = _NAME.search(path)
        assert match is not None
        assert isinstance(body, list)
        status = body[1]["value"]
        self.writes.append((match[1], match[2], status))
        self._version += 1
        return {"metadata": {"resourceVersion": str(self._version)}, "status": status}

    def names(self) -> list[str]:
        return [name for _, name, _ in self.writes]


class Bench:
    def __init__(self, api: Api, writes_per_second: float, clock: Callable[[], float]) -> None:
        self.api = api
        self.views: dict[ModelKey, ModelView] = {}
        self.looked = 0
        self.registry = CollectorRegistry()
        self.writer = StatusWriter(
            api,
            model_view=self._view,
            service_view=lambda key: None,
            writes_per_second=writes_per_second,
            clock=clock,
            metrics=StatusMetrics(self.registry),
        )

    def _view(self, key: ModelKey) -> ModelView | None:
        self.looked += 1
        return self.views.get(key)

    def create(self, name: str, namespace: str = "demo", copies: tuple[CopyView, ...] = (), **changes: Any) -> None:
        spec = replace(SPEC, namespace=namespace, name=name, uid=f"uid-{name}")
        self.views[spec.key] = view(*copies, spec=spec, **changes)
        self.writer.observed_model_status(spec.key, spec.uid, "1", None)
        self.writer.model_changed(spec.key)

    def show(self, name: str, namespace: str = "demo", copies: tuple[CopyView, ...] = (), **changes: Any) -> None:
        key = ModelKey(namespace, name)
        self.views[key] = with_copies(self.views[key], copies or self.views[key].copies, **changes)
        self.writer.model_changed(key)

    def ready(self) -> int:
        return len({name for _, name, status in self.api.writes if status["conditions"][0]["status"] == "True"})

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def bench(*, seconds: float = 0.0, writes_per_second: float = 1e6, opened: bool = True) -> AsyncIterator[Bench]:
    running = Bench(Api(seconds), writes_per_second, asyncio.get_running_loop().time)
    if opened:
        running.writer.open()
    task = asyncio.create_task(running.writer.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(done: Any, seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.005)):
        if done():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to be in time")


@in_virtual_time
async def test_loading_and_unloading_cold_models_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_SECONDS", "HOLD_SECONDS"):
        monkeypatch.setattr(budget, name, 0.0)
    monkeypatch.setattr(budget, "MODEL_QUIET_SECONDS", 0.0)
    async with bench() as b:
        for number in range(20):
            b.create(f"m{number}", **COLD)
        await until(lambda: len(b.api.writes) == 20)
        for _ in range(3):
            for copies in (LOADING, LOADED, (copy(CopyState.DRAINING),), ()):
                for number in range(20):
                    b.show(f"m{number}", copies=copies, on_demand=True)
                await asyncio.sleep(0.08)
        assert len(b.api.writes) == 20


async def test_thousands_at_once_cost_one_write_each_and_stall_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_SECONDS", "HOLD_SECONDS"):
        monkeypatch.setattr(budget, name, 0.1)
    count = 3000
    async with bench() as b:
        for number in range(count):
            b.create(f"m{number}")
        most = 0
        now = asyncio.get_running_loop().time
        started = now()
        while b.metric("shoal_status_waiting", rank="newcomer") < count - 120 and now() < started + 30:
            before = b.looked
            await asyncio.sleep(0)
            most = max(most, b.looked - before)
        await asyncio.sleep(0.3)  # longer than their gate is left alone
        told = len(b.api.writes)
        # A few say that they wait, one more a second, and not all.
        assert told <= 100 + now() - started + 1
        for number in range(count):
            b.show(f"m{number}", copies=LOADED)
        await until(lambda: b.ready() == count, seconds=30)
        assert len(b.api.writes) <= count + told
        assert most <= 100  # objects in one turn of the event loop: some milliseconds
        assert b.metric("shoal_status_writes_total", kind="TrainedModel") == len(b.api.writes)


@in_virtual_time
async def test_what_changes_again_and_again_among_a_thousand_is_looked_at_less_often() -> None:
    count, changes = 1000, 6
    async with bench() as b:
        for number in range(count):
            b.create(f"m{number}", copies=LOADING)
        for _ in range(changes):
            await asyncio.sleep(0.06)
            for number in range(count):
                b.show(f"m{number}", copies=LOADING)
        await asyncio.sleep(0.3)
        assert count <= b.looked <= count * (changes + 1) / 2
        assert not b.api.writes


@in_virtual_time
async def test_what_breaks_is_told_before_the_first_ready_of_thousands() -> None:
    async with bench(seconds=0.002, writes_per_second=500) as b:
        b.create("served", copies=LOADED)
        await until(lambda: b.api.names() == ["served"])
        for number in range(2000):
            b.create(f"new-{number}", copies=LOADED)
        await until(lambda: len(b.api.writes) > 50)
        b.show("served", copies=(copy(CopyState.FAILED, LOAD),))
        b.create("other", "elsewhere", copies=LOADED)
        at = len(b.api.writes)
        await until(lambda: "other" in b.api.names() and b.api.names().count("served") == 2)
        # After the burst and what one coalescing moment lets through, not after the two thousand.
        assert len(b.api.writes) - at < 250 + 500 * COALESCE_MANY_SECONDS


@in_virtual_time
async def test_a_refused_write_is_counted_and_tried_again() -> None:
    async with bench() as b:
        b.api.refuse = KubeError(500, "InternalError", "etcd is full")
        b.create("m", copies=LOADED)
        await until(lambda: b.api.names() == ["m"])
        assert b.metric("shoal_status_refusals_total", reason="InternalError") == 1
        assert b.metric("shoal_status_delay_seconds_count", rank="first") == 1


@in_virtual_time
async def test_a_model_that_goes_while_it_waits_is_not_written() -> None:
    async with bench(opened=False) as b:
        for number in range(10):
            b.create(f"m{number}", copies=LOADED)
        await asyncio.sleep(0.1)
        for number in range(5):
            b.views.pop(ModelKey("demo", f"m{number}"))
            b.writer.model_gone(ModelKey("demo", f"m{number}"))
        b.writer.open()
        await until(lambda: len(b.api.writes) >= 5)
        await asyncio.sleep(0.1)
        assert sorted(b.api.names()) == ["m5", "m6", "m7", "m8", "m9"]


@in_virtual_time
async def test_a_status_that_became_true_by_itself_is_not_written() -> None:
    async with bench(writes_per_second=20) as b:
        for number in range(30):  # ten of them exhaust the burst, the rest waits in the queue
            b.create(f"m{number}", copies=LOADED)
        b.create("late", copies=LOADED)
        await until(lambda: len(b.api.writes) >= 11)
        # Somebody else has stored just that meanwhile.
        stored = b.api.writes[0][2]
        same = json.loads(json.dumps(stored).replace("/m0:", "/late:"))
        b.writer.observed_model_status(ModelKey("demo", "late"), "uid-late", "7", same)
        await until(lambda: len(b.api.writes) >= 30)
        await asyncio.sleep(0.2)
        assert "late" not in b.api.names()


@in_virtual_time
async def test_an_object_that_moved_up_in_the_queue_is_written_once() -> None:
    async with bench() as b:
        b.api.answering.clear()
        for number in range(8):  # one for each writer
            b.create(f"before-{number}", copies=LOADED)
        await asyncio.sleep(0.1)
        await until(lambda: b.metric("shoal_status_waiting", rank="first") == 0)
        b.create("m", copies=LOADED)
        await until(lambda: b.metric("shoal_status_waiting", rank="first") == 1)
        b.show("m", copies=(copy(CopyState.FAILED, LOAD),))
        await until(lambda: b.metric("shoal_status_waiting", rank="changed") == 1)
        b.api.seconds = 0.1  # long enough for another writer to come to the place that is void
        b.api.answering.set()
        await until(lambda: len(b.api.writes) >= 9)
        await asyncio.sleep(0.2)
        assert b.api.names().count("m") == 1


@in_virtual_time
async def test_a_name_used_again_while_its_status_waits_for_its_turn_is_written_once() -> None:
    async with bench(writes_per_second=4) as b:
        for number in range(2):  # the burst
            b.create(f"first-{number}", copies=LOADED)
        await until(lambda: len(b.api.writes) == 2)
        for number in range(4):
            b.create(f"m{number}", copies=LOADED)
        await asyncio.sleep(0.08)  # their writers wait for their turn by now
        for number in range(4):
            b.writer.model_gone(ModelKey("demo", f"m{number}"))
            b.create(f"m{number}", copies=LOADED)
        before = len(b.api.writes)
        await until(lambda: len(b.api.writes) >= before + 4)
        await asyncio.sleep(0.6)  # two turns more
        assert sorted(b.api.names()[before:]) == ["m0", "m1", "m2", "m3"]

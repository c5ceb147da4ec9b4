"""Deletion costs of pods: the latest counts, written only when changed, and not too often."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from shoal_operator.kube import KubeError
from shoal_operator.replicas import deletion_cost
from shoal_operator.replicas.deletion_cost import DeletionCosts

BETWEEN = 0.6
COST = "controller.kubernetes.io/pod-deletion-cost"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion_cost, "BETWEEN_SECONDS", BETWEEN)


class Api:
    """Takes every patch, or refuses with what ``refusals`` holds first."""

    def __init__(self) -> None:
        self.patches: list[tuple[str, dict[str, Any]]] = []
        self.refusals: list[KubeError] = []
        self.gate: asyncio.Event | None = None

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        assert method == "PATCH"
        if self.gate is not None:
            await self.gate.wait()
        if self.refusals:
            raise self.refusals.pop(0)
        self.patches.append((path, body["metadata"]))
        return {}

    @property
    def costs(self) -> list[str]:
        return [meta["annotations"][COST] for _, meta in self.patches]


@asynccontextmanager
async def running(api: Api) -> AsyncIterator[DeletionCosts]:
    costs = DeletionCosts(api)
    task = asyncio.create_task(costs.run())
    try:
        yield costs
    finally:
        task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 5 s")


async def test_a_cost_is_written_once_to_the_very_pod() -> None:
    api = Api()
    async with running(api) as costs:
        for _ in range(3):
            costs.set("ns", "p", "uid", -100)
        await until(lambda: not costs.pending("ns", "p"))
        costs.set("ns", "p", "uid", -100)
        await asyncio.sleep(0.05)
    assert api.patches == [("/api/v1/namespaces/ns/pods/p", {"uid": "uid", "annotations": {COST: "-100"}})]


async def test_changes_are_joined_and_spread_over_time() -> None:
    api = Api()
    async with running(api) as costs:
        costs.set("ns", "p", "uid", 1)
        await until(lambda: api.costs == ["1"])
        for cost in range(2, 51):
            costs.set("ns", "p", "uid", cost)
        await asyncio.sleep(BETWEEN / 3)
        assert api.costs == ["1"]
        assert costs.pending("ns", "p")
        await until(lambda: api.costs == ["1", "50"])
        assert not costs.pending("ns", "p")


async def test_what_is_taken_back_in_time_is_not_written() -> None:
    api = Api()
    async with running(api) as costs:
        costs.set("ns", "p", "uid", 1)
        await until(lambda: api.costs == ["1"])
        costs.set("ns", "p", "uid", 2)
        costs.set("ns", "p", "uid", 1)
        await until(lambda: not costs.pending("ns", "p"))
    assert api.costs == ["1"]


async def test_what_is_taken_back_while_it_is_written_is_written_back() -> None:
    api = Api()
    async with running(api) as costs:
        costs.set("ns", "p", "uid", 1)
        await until(lambda: api.costs == ["1"])
        await asyncio.sleep(BETWEEN)
        api.gate = asyncio.Event()
        costs.set("ns", "p", "uid", 2)
        await asyncio.sleep(0.05)
        costs.set("ns", "p", "uid", 1)
        api.gate.set()
        await until(lambda: api.costs == ["1", "2", "1"])


async def test_another_pod_by_that_name_does_not_wait() -> None:
    api = Api()
    async with running(api) as costs:
        costs.set("ns", "p", "one", 5)
        await until(lambda: len(api.patches) == 1)
        costs.set("ns", "p", "two", 5)
        await until(lambda: len(api.patches) == 2)


@pytest.mark.parametrize("status", [404, 409, 403])
async def test_a_pod_that_is_gone_or_not_ours_to_change_holds_nothing_up(status: int) -> None:
    api = Api()
    api.refusals = [KubeError(status, "No", "no")]
    async with running(api) as costs:
        costs.set("ns", "p", "uid", 5)
        await until(lambda: not costs.pending("ns", ""))
    assert api.patches == []


async def test_an_api_server_that_is_away_is_tried_again() -> None:
    api = Api()
    api.refusals = [KubeError(503, "No", "no")]
    async with running(api) as costs:
        costs.set("ns", "p", "uid", 5)
        await until(lambda: api.costs == ["5"])


async def test_pending_by_namespace_and_prefix() -> None:
    costs = DeletionCosts(Api())
    costs.set("ns", "iris-predictor-abc", "uid", 5)
    assert costs.pending("ns", "iris-predictor-")
    assert not costs.pending("ns", "other-predictor-")
    assert not costs.pending("other", "iris-predictor-")

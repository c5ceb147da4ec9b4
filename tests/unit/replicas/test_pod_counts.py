"""The number of pods on its way to the API server: what is waited for, and what is told of it."""

import asyncio
from typing import Any

import pytest
from shoal_operator.manifests.scaling import Scaling
from shoal_operator.replicas.deletion_cost import DeletionCosts
from shoal_operator.replicas.pod_counts import Count, PodCounts, Scaled
from shoal_operator.state.world.values import ServiceSpec
from shoal_operator.work_queue import Retry

from .test_live_replicas import IRIS, Api, autoscaler, deployment

GROWS = Scaling(least=1, most=6)


class Bench:
    def __init__(self, replicas: int | None) -> None:
        self.api = Api()
        self.api.replicas = replicas
        self.costs = DeletionCosts(self.api)
        self.scaled: list[Scaled] = []
        self.counts = PodCounts(self.api, self.costs, self.scaled.append)
        self.counts.autoscalers_listed()
        self.count = Count()

    async def work(self, asked: Scaling = GROWS) -> int | None:
        """As the controller does it, with an API server that takes everything; what was written."""
        decision = await self.counts.next(IRIS, asked, self.count)
        self.counts.applied(IRIS, "uid", decision, self.count)
        if decision.replicas is not None:
            self.counts.deployment_seen(IRIS, deployment(decision.replicas))
        return decision.replicas

    @property
    def told(self) -> list[tuple[int, int, str]]:
        return [(s.before, s.after, s.reason) for s in self.scaled]


async def test_each_scaling_is_told_once_with_its_reason() -> None:
    b = Bench(2)
    assert await b.work() == 2
    assert b.count.say(4, "cold misses")
    assert not b.count.say(4, "more of them")
    assert await b.work() == 4
    assert await b.work() == 4
    b.count.say(3, "quiet")
    assert await b.work() == 3
    assert b.told == [(2, 4, "more of them"), (4, 3, "quiet")]


async def test_a_watch_that_lags_makes_no_second_event() -> None:
    b = Bench(2)
    await b.work()
    b.count.say(4, "needed")
    await b.work()
    b.counts.deployment_seen(IRIS, deployment(2))  # from before
    await b.work()
    assert b.told == [(2, 4, "needed")]


async def test_the_first_pods_and_a_users_change_are_no_scaling() -> None:
    b = Bench(None)
    b.count.say(3, "found so")
    assert await b.work() == 3
    assert await b.work(Scaling(least=5, most=6)) == 5
    assert await b.work(Scaling(least=2, most=2)) == 2
    assert b.told == []


async def test_fewer_pods_wait_for_the_costs_that_say_which_and_more_do_not() -> None:
    b = Bench(4)
    await b.work()
    b.costs.set("ns", "iris-predictor-abc", "pod", -5)
    b.count.say(5, "busy")
    assert await b.work() == 5
    b.count.say(3, "quiet")
    with pytest.raises(Retry):
        await b.work()
    task = asyncio.create_task(b.costs.run())
    while b.costs.pending("ns", "iris-predictor-"):  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    task.cancel()
    assert await b.work() == 3
    b.costs.set("ns", "other-predictor-abc", "pod", -5)
    b.count.say(2, "quieter")
    assert await b.work() == 2


async def test_state_is_told_what_another_has_decided() -> None:
    b = Bench(2)
    spec: Any = ServiceSpec("ns", "iris", "uid", 1, 1, frozenset(), "mlserver", min_replicas=1, max_replicas=6)
    assert b.counts.as_decided(spec, GROWS) is spec
    b.counts.autoscaler_seen("ns", "mine", autoscaler("mine", "iris-predictor"))
    for live, least, most in ((0, 1, 6), (3, 3, 6), (9, 9, 9)):
        b.counts.deployment_seen(IRIS, deployment(live))
        told = b.counts.as_decided(spec, GROWS)
        assert (told.min_replicas, told.max_replicas, told.autoscaled) == (least, most, False)
        assert "mine" in told.scaled_by

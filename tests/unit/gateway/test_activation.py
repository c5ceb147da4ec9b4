"""The activator: who waits, who is woken, how often state is asked, who is refused."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.gateway import activation
from shoal_operator.gateway.activation import Activator, Cost, Refused
from shoal_operator.gateway.held import HeldMemory
from shoal_operator.gateway.metrics import ActivationMetrics
from shoal_operator.state.world.effects import RouteChanged, ServiceRouteChanged, Unavailable
from shoal_operator.state.world.values import ServiceKey
from shoal_operator.state.world.views import ActivationView, Endpoint

from tests.patience import BUSY

SERVICE = ServiceKey("default", "iris")
A, B, C = [Endpoint(f"10.0.0.{number}", 8080, 8081) for number in (1, 2, 3)]
COLD = ActivationView((), Unavailable.COLD)


def at(*endpoints: Endpoint) -> ActivationView:
    return ActivationView(endpoints, None)


class State:
    """Stands for the world: ``says`` changes a model and tells the activator, as main does."""

    def __init__(self) -> None:
        self.views: dict[tuple[ServiceKey, str], ActivationView] = {}
        self.asked: list[str] = []
        self.looked = 0
        self.registry = CollectorRegistry()
        self.memory = HeldMemory(10_000)
        self.activator = Activator(self._view, self._requested, ActivationMetrics(self.registry), self.memory)
        self.activator.open()

    def _view(self, service: ServiceKey, model: str) -> ActivationView | None:
        self.looked += 1
        return self.views.get((service, model))

    def _requested(self, service: ServiceKey, model: str) -> None:
        self.asked.append(model)

    def says(self, model: str, view: ActivationView | None, service: ServiceKey = SERVICE) -> None:
        if view is None:
            self.views.pop((service, model), None)
        else:
            self.views[service, model] = view
        self.activator.changed([RouteChanged(service, model, 1)])

    def pods(self, *pods: str, service: ServiceKey = SERVICE, known: bool = True) -> None:
        self.activator.changed([ServiceRouteChanged(service, known, 1, frozenset(pods))])

    def ask(
        self, model: str = "m1", service: ServiceKey = SERVICE, cost: int = 1, **more: object
    ) -> "asyncio.Task[Endpoint | Refused | None]":
        spent = Cost("gateway-1", cost)
        return asyncio.create_task(self.activator.check(service, model, cost=spent, **more))  # type: ignore[arg-type]

    def value(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(
            f"shoal_cold_{name}", {"namespace": "default", "inference_service": "iris", **labels}
        )
        return found or 0.0


@pytest.fixture
async def state(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[State]:
    monkeypatch.setattr(activation, "REPEAT_SECONDS", 0.1)
    monkeypatch.setattr(activation, "HEAL_SECONDS", 0.2)
    made = State()
    yield made
    assert made.activator._awaited == {}, "something is kept although nobody waits"
    assert made.activator._held == {}
    assert made.memory._gateways == made.memory._services == {}
    assert made.value("requests_held") == 0


async def soon() -> None:
    await asyncio.sleep(0.01)


async def test_who_comes_when_the_model_is_there_does_not_wait(state: State) -> None:
    state.says("m1", at(A, B))
    answers = [await state.ask() for _ in range(10)]
    assert Counter(answers) == {A: 5, B: 5}
    assert state.asked == ["m1"] * 10  # each counts as use


async def test_nobody_knows_the_model(state: State) -> None:
    assert await state.ask("nobody") is None
    assert state.asked == []
    assert state.value("requests_total") == 0


async def test_all_who_wait_are_released_by_one_change_and_spread(state: State) -> None:
    state.says("m1", COLD)
    state.says("m2", COLD)
    waiting = [state.ask() for _ in range(100)]
    other = state.ask("m2")
    await soon()
    assert state.asked == ["m1", "m2"]
    assert state.value("requests_held") == 101
    looked = state.looked
    state.says("m1", at(A, B))
    assert Counter(await asyncio.gather(*waiting)) == {A: 50, B: 50}
    assert state.looked == looked + 1
    assert not other.done()
    state.says("m2", at(C))
    assert await other == C
    assert state.value("wait_seconds_count") == 101


async def test_state_is_asked_again_while_anyone_waits_and_not_after(state: State) -> None:
    state.says("m1", COLD)
    waiting = [state.ask() for _ in range(3)]
    await asyncio.sleep(0.35)
    assert 3 <= len(state.asked) <= 4
    state.says("m1", COLD)  # says nothing new: nobody is woken, nobody asks
    assert not any(each.done() for each in waiting)
    state.says("m1", at(A))
    assert await asyncio.gather(*waiting) == [A] * 3
    asked = len(state.asked)
    await asyncio.sleep(0.25)
    assert len(state.asked) == asked


async def test_a_change_that_nobody_told_is_found(state: State) -> None:
    state.says("m1", COLD)
    waiting = state.ask()
    await soon()
    state.views[SERVICE, "m1"] = at(A)
    assert await asyncio.wait_for(waiting, 0.5) == A


async def test_the_deadline(state: State) -> None:
    state.says("m1", ActivationView((), Unavailable.COLD, timeout=0.15, retry_after=7.0))
    started = time.monotonic()
    answer = await state.ask()
    assert isinstance(answer, Refused)
    assert (answer.status, answer.reason, answer.retry_after) == (503, "ActivationTimeout", 7.0)
    assert "load goes on" in answer.message
    assert 0.15 <= time.monotonic() - started < BUSY
    assert state.value("refusals_total", reason="ActivationTimeout") == 1
    assert state.value("wait_seconds_count") == 0


async def test_only_so_many_may_wait_for_the_models_of_one_service(state: State) -> None:
    few = ActivationView((), Unavailable.COLD, max_held=2)
    for model in ("m1", "m2", "m3"):
        state.says(model, few)
    first, second = state.ask("m1"), state.ask("m2")
    await soon()
    refused = await state.ask("m3")
    assert isinstance(refused, Refused)
    assert (refused.status, refused.reason) == (503, "TooManyHeldRequests")
    assert refused.retry_after is not None
    assert state.asked == ["m1", "m2"]
    elsewhere = ServiceKey("default", "wine")
    state.says("m1", few, elsewhere)
    other = state.ask("m1", elsewhere)
    await soon()
    assert not other.done()
    first.cancel()  # its client left: there is room
    await soon()
    third = state.ask("m3")
    await soon()
    assert not third.done()
    for model in ("m2", "m3"):
        state.says(model, at(A))
    state.says("m1", at(B), elsewhere)
    assert [await second, await third, await other] == [A, A, B]


async def test_made_up_names_leave_half_of_the_places_to_models_that_are_there(state: State) -> None:
    def cold(*, unknown: bool) -> ActivationView:
        return ActivationView((), Unavailable.COLD, max_held=4, unknown=unknown)

    for number in range(3):
        state.says(f"made-up-{number}", cold(unknown=True))
    for name in ("m1", "m2"):
        state.says(name, cold(unknown=False))
    held = [state.ask(f"made-up-{number}") for number in range(2)]
    await soon()
    refused = await state.ask("made-up-2")
    assert isinstance(refused, Refused)
    assert refused.reason == "TooManyHeldRequests"
    known = [state.ask(name) for name in ("m1", "m2")]
    await soon()
    assert not any(each.done() for each in known)
    for number in range(2):
        state.says(f"made-up-{number}", None)
    assert [await each for each in held] == [None, None]
    for name in ("m1", "m2"):
        state.says(name, at(A))
    assert [await each for each in known] == [A, A]


async def test_one_services_flood_leaves_memory_for_others(state: State) -> None:
    other = ServiceKey("default", "wine")
    state.says("m1", COLD)
    state.says("m1", COLD, other)
    flood = [state.ask(cost=1000) for _ in range(20)]
    await soon()
    refused = [each for each in flood if each.done()]
    assert len(refused) == 15  # half of 10,000 is its own
    answer = refused[0].result()
    assert isinstance(answer, Refused)
    assert (answer.status, answer.reason) == (503, "TooManyHeldRequests")
    assert answer.retry_after is not None
    assert "gateway.resources.limits.memory" in answer.message
    assert state.value("refusals_total", reason="TooManyHeldRequests") == 15
    others = [state.ask(service=other, cost=1000) for _ in range(2)]
    elsewhere = asyncio.create_task(state.activator.check(SERVICE, "m1", cost=Cost("gateway-2", 5000)))
    await soon()
    assert not any(each.done() for each in (*others, elsewhere))
    state.says("m1", at(A))
    state.says("m1", at(B), other)
    assert await asyncio.gather(*others, elsewhere) == [B, B, A]
    assert sum(each.result() == A for each in flood) == 5


async def test_a_service_that_loses_its_last_pod_is_waited_for(state: State) -> None:
    absent = ActivationView((), Unavailable.SERVICE_NOT_READY, timeout=0.4)
    state.pods("a")
    state.says("m1", at(A))
    state.pods()
    state.says("m1", absent)
    waiting = state.ask()
    await soon()
    assert not waiting.done()
    state.pods("b")
    state.says("m1", COLD)
    await soon()
    assert not waiting.done()
    state.says("m1", at(B))
    assert await waiting == B


async def test_a_service_whose_pods_do_not_come_back_is_not_waited_for_again_and_again(state: State) -> None:
    state.pods()
    state.says("m1", ActivationView((), Unavailable.SERVICE_NOT_READY, timeout=0.3))
    started = time.monotonic()
    first = state.ask()
    await asyncio.sleep(0.2)
    second = await state.ask()  # comes late, and is told with the first
    assert time.monotonic() - started < BUSY
    for answer in (await first, second, await asyncio.wait_for(state.ask(), 0.1)):
        assert isinstance(answer, Refused)
        assert answer.reason in ("InferenceServiceNotReady", "ActivationTimeout")
    assert isinstance(second, Refused)
    assert second.reason == "InferenceServiceNotReady"
    state.pods(known=False)


async def test_a_service_that_is_wrong_or_gone_is_not_waited_for(state: State) -> None:
    state.pods("a")
    state.says("m1", ActivationView((), Unavailable.SERVICE_NOT_READY))  # it has pods: something else is the matter
    for known in (True, False):
        answer = await asyncio.wait_for(state.ask(), 0.1)
        assert isinstance(answer, Refused)
        assert answer.reason == "InferenceServiceNotReady"
        state.pods(known=known)
        if known:
            state.pods("a")


@pytest.mark.parametrize("waits", [False, True])
async def test_why_a_model_cannot_be_loaded(state: State, waits: bool) -> None:
    state.says("m1", COLD)
    failed = ActivationView((), Unavailable.LOAD_FAILED, message="no module named sklearn", retry_after=30.0)
    if not waits:
        state.says("m1", failed)
    asked = state.ask()
    await soon()
    state.says("m1", failed)
    assert await asked == Refused(503, "LoadFailed", "no module named sklearn", 30.0)
    state.says("m1", ActivationView((), Unavailable.NO_MEMORY))
    answer = await state.ask()
    assert isinstance(answer, Refused)
    assert "kubectl describe trainedmodel" in answer.message  # what the gateway says anyway
    assert answer.retry_after == 5


async def test_a_model_deleted_while_someone_waits(state: State) -> None:
    state.says("m1", COLD)
    asked = state.ask()
    await soon()
    state.says("m1", None)
    assert await asked is None


async def test_who_has_been_there_is_not_sent_back_at_once(state: State) -> None:
    state.says("m1", at(A, B))
    started = time.monotonic()
    assert await state.ask(failed=lambda: frozenset((A,))) == B  # state knows another
    assert time.monotonic() - started < 0.4  # at once: the moment is half a second
    waiting = state.ask(failed=lambda: frozenset((A, B)))
    await soon()
    assert state.value("requests_held") == 1
    assert not waiting.done()
    state.says("m1", at(A, B))  # the same again is no news
    await soon()
    assert not waiting.done()
    state.says("m1", at(C))
    assert await waiting == C
    assert await state.ask(failed=lambda: frozenset((A, B))) in (A, B, C)


async def test_who_has_been_there_is_sent_back_after_a_moment(state: State) -> None:
    state.says("m1", at(A))
    started = time.monotonic()
    assert await state.ask(failed=lambda: frozenset((A,))) == A
    assert await state.ask(again=True) == A
    assert 0.4 <= time.monotonic() - started < BUSY


async def test_or_once_the_model_was_loaded_there_anew(state: State) -> None:
    state.says("m1", at(A))
    waiting = state.ask(again=True)
    await soon()
    state.says("m1", COLD)
    await asyncio.sleep(0.3)
    assert not waiting.done()
    state.says("m1", at(A))
    assert await asyncio.wait_for(waiting, 0.1) == A
    waiting = state.ask(again=True)
    await soon()
    state.says("m1", COLD)
    state.says("m1", at(A))  # within one turn of the loop
    assert await asyncio.wait_for(waiting, 0.1) == A


async def test_before_state_knows_its_models_requests_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "RECOVERY_SECONDS", 0.3)
    state = State()
    state.activator = Activator(state._view, state._requested, ActivationMetrics(CollectorRegistry()), state.memory)
    patient = [state.ask(cost=2500), state.ask(cost=2500)]
    await soon()
    refused = await state.ask()
    assert isinstance(refused, Refused)
    assert refused.reason == "ActivatorUnavailable"
    state.views[SERVICE, "m1"] = at(A)
    state.activator.open()
    assert await asyncio.gather(*patient) == [A, A]
    late = State()
    late.activator = Activator(late._view, late._requested, ActivationMetrics(CollectorRegistry()), late.memory)
    answer = await late.ask()
    assert isinstance(answer, Refused)
    assert answer.reason == "ActivatorUnavailable"


async def test_series_of_a_service_that_is_gone_go_too(state: State) -> None:
    state.says("m1", ActivationView((), Unavailable.LOAD_FAILED))
    await state.ask()
    state.says("m1", at(A))
    await state.ask()
    samples = [sample for metric in state.registry.collect() for sample in metric.samples]
    assert {sample.labels["inference_service"] for sample in samples} == {"iris"}
    assert not any("model" in sample.labels for sample in samples)
    state.activator.changed([ServiceRouteChanged(SERVICE, False, 2)])
    assert [sample for metric in state.registry.collect() for sample in metric.samples] == []


async def test_many_models_of_a_service_are_asked_for_again_in_turn(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many a client names, state hears of them so often and not more often; of others as ever."""
    monkeypatch.setattr(activation, "REPEATS_PER_SECOND", 100)
    wine = ServiceKey("default", "wine")
    for number in range(100):
        state.says(f"m{number}", COLD)
    state.says("w", COLD, wine)
    waiting = [state.ask(f"m{number}") for number in range(100)]
    await asyncio.sleep(0)
    waiting.append(state.ask("w", wine))
    await asyncio.sleep(0.65)
    counted = Counter(state.asked)
    assert counted["w"] >= 4
    assert max(count for model, count in counted.items() if model != "w") <= 3  # the first few came when few waited
    assert sum(counted.values()) < 250
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert state.activator._models == {}

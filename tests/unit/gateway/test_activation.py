"""The activator: who waits, who is woken, how often state is asked, who is refused."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.gateway import activation
from shoal_operator.gateway.activation import Activator, Refused
from shoal_operator.gateway.metrics import ActivationMetrics
from shoal_operator.state.effects import RouteChanged, ServiceRouteChanged, Unavailable
from shoal_operator.state.values import ServiceKey
from shoal_operator.state.views import ActivationView, Endpoint

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
        self.activator = Activator(self._view, self._requested, ActivationMetrics(self.registry))
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

    def ask(self, model: str = "m1", **more: object) -> "asyncio.Task[Endpoint | Refused | None]":
        return asyncio.create_task(self.activator.check(SERVICE, model, **more))  # type: ignore[arg-type]

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
    assert made.activator._wanted == {}, "something is kept although nobody waits"
    assert made.activator._held == {}
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
    assert 0.15 <= time.monotonic() - started < 0.4
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
    other = asyncio.create_task(state.activator.check(elsewhere, "m1"))
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
    assert time.monotonic() - started < 0.1
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
    assert 0.4 <= time.monotonic() - started < 0.8


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
    monkeypatch.setattr(activation, "RECOVERY_MAX_HELD", 2)
    state = State()
    state.activator = Activator(state._view, state._requested, ActivationMetrics(CollectorRegistry()))
    patient = [state.ask(), state.ask()]
    await soon()
    refused = await state.ask()
    assert isinstance(refused, Refused)
    assert refused.reason == "ActivatorUnavailable"
    state.views[SERVICE, "m1"] = at(A)
    state.activator.open()
    assert await asyncio.gather(*patient) == [A, A]
    late = State()
    late.activator = Activator(late._view, late._requested, ActivationMetrics(CollectorRegistry()))
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

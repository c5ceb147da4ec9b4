"""Lists of models, as KServe's v1 has them: the operator makes few of them, whoever asks and however often."""

import json

import pytest
from prometheus_client import CollectorRegistry
from shoal_operator.gateway import activation
from shoal_operator.gateway.activation import Activator, Refused, Told
from shoal_operator.gateway.authorization import read
from shoal_operator.gateway.held import HeldMemory
from shoal_operator.gateway.metrics import ActivationMetrics
from shoal_operator.state.world.values import ServiceKey

from .test_authorization import attributes


class State:
    def __init__(self, models: int = 2) -> None:
        self.models, self.made = [f"m{number:05d}" for number in range(models)], 0
        self.activator = Activator(
            lambda service, model: None,
            lambda service, model: None,
            ActivationMetrics(CollectorRegistry()),
            HeldMemory(1),
            names=self._names,
        )

    def _names(self, service: ServiceKey, most: int) -> tuple[list[str], bool]:
        self.made += 1
        return self.models[:most], len(self.models) > most

    def list(self, service: str = "iris") -> object:
        answer = self.activator.listed(ServiceKey("default", service))
        assert isinstance(answer, Told)
        return json.loads(answer.body)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(activation.time, "monotonic", lambda: now[0])
    return now


def test_it_is_made_once_a_second(now: list[float]) -> None:
    state = State()
    state.activator.open()
    for _ in range(1_000):
        assert state.list() == {"models": ["m00000", "m00001"]}
    assert state.made == 1
    state.models.append("new")
    now[0] += activation.LISTED_SECONDS
    assert state.list() == {"models": ["m00000", "m00001", "new"]}


def test_it_has_an_end_and_says_so(now: list[float]) -> None:
    state = State(activation.MOST_LISTED + 1)
    state.activator.open()
    assert state.list() == {"models": state.models[:-1], "more": True}
    assert State(0).activator.listed(ServiceKey("default", "iris")) == Refused(503, *activation.NO_ACTIVATOR, 1.0)


def test_few_are_kept(now: list[float]) -> None:
    state = State()
    state.activator.open()
    for number in range(10 * activation.LISTS):
        state.list(f"s{number}")
    assert len(state.activator._lists) == activation.LISTS


@pytest.mark.parametrize(
    ("path", "lists"),
    [("/v1/models", True), ("/v1/models?x", True), ("/v1/models/m1", False), ("/v1/modelsx", False), ("/v2", False)],
)
def test_which_question_it_is(path: str, lists: bool) -> None:
    assert read(attributes(path)).lists is lists

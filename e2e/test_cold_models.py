"""More models than memory: cold models load on demand, the least recently used make way, and everyone is told."""

# tritonclient carries no types.
# mypy: disable-error-code="import-untyped"

import concurrent.futures
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.grpc import InferInput

from demo import kubernetes, predictions
from e2e.installation import Installation
from e2e.space import ROW, Space, fix_storage, space

MODELS = 12
FIT = 4  # in the one pod
ANSWERS = {f"model-{index}": 10.0 + index for index in range(MODELS)}


def small(pods: int = 1, memory: str = "64Mi", **predictor: Any) -> dict[str, Any]:
    """A predictor whose pods have little memory for models: four of 16Mi each."""
    return {
        "minReplicas": pods,
        "maxReplicas": pods,
        "sklearn": {
            "protocolVersion": "v2",
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": memory}},
        },
        **predictor,
    }


@contextmanager
def overcommitted(installation: Installation, name: str, **predictor: Any) -> Iterator[Space]:
    with space(installation, name) as fresh:
        fresh.service(**small(**predictor))
        yield fresh


@pytest.fixture(scope="module")
def cold(installation: Installation) -> Iterator[Space]:
    """Twelve models in an InferenceService whose pod holds four."""
    with overcommitted(installation, "cold") as fresh:
        fresh.models({name: fresh.put(name, answer) for name, answer in ANSWERS.items()})
        fresh.wait_ready(*ANSWERS)
        yield fresh


def explained(space: Space, model: str) -> dict[str, Any]:
    """GET /explain of the operator, through the API server's proxy to its Service."""
    path = f"/api/v1/namespaces/shoal-system/services/shoal-operator:http/proxy/explain/{space.name}/{model}"
    return space.get(path)


def loaded(space: Space) -> set[str]:
    """Models that some pod answers for, as explain has it."""
    return {name for name in ANSWERS if any(copy["serving"] for copy in explained(space, name)["copies"])}


def test_every_model_is_ready_and_answers_though_few_fit(cold: Space) -> None:
    for name in ANSWERS:
        condition = cold.condition(name)
        assert (condition["status"], condition["reason"]) == ("True", "OnDemand"), name
    assert len(loaded(cold)) <= FIT
    for name, answer in ANSWERS.items():
        assert cold.answer(name) == answer
    assert len(loaded(cold)) <= FIT


def test_loading_on_demand_writes_nothing(cold: Space) -> None:
    before = {name: cold.trained_model(name)["metadata"]["resourceVersion"] for name in ANSWERS}
    for _ in range(2):
        for name, answer in ANSWERS.items():
            assert cold.answer(name) == answer
    time.sleep(2)
    after = {name: cold.trained_model(name)["metadata"]["resourceVersion"] for name in ANSWERS}
    assert after == before


def test_the_least_recently_used_make_way(cold: Space) -> None:
    recent = [f"model-{index}" for index in (7, 2, 9)]
    for name in recent:
        cold.answer(name)
    time.sleep(1.5)
    newcomer = "model-11" if "model-11" not in loaded(cold) else "model-0"
    cold.answer(newcomer)
    assert {*recent, newcomer} <= loaded(cold), explained(cold, recent[0])


def test_grpc_waits_for_a_cold_model_too(cold: Space) -> None:
    name = next(name for name in ANSWERS if name not in loaded(cold))
    with predictions.grpc_client(cold.target()) as client:
        row = InferInput("row", [1, len(ROW)], "FP64")
        row.set_data_from_numpy(np.array([ROW]))
        result = client.infer(name, [row], client_timeout=60)
    values = result.as_numpy(result.get_response().outputs[0].name)
    assert values is not None
    assert float(values.ravel()[0]) == ANSWERS[name]


def test_a_hundred_requests_cost_one_load(cold: Space) -> None:
    name = next(name for name in ANSWERS if name not in loaded(cold))
    before = len([d for d in explained(cold, name)["decisions"] if d["what"] == "Loaded"])
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: cold.answer(name), range(100)))
    assert set(answers) == {ANSWERS[name]}
    after = len([d for d in explained(cold, name)["decisions"] if d["what"] == "Loaded"])
    assert after == min(before + 1, 8)

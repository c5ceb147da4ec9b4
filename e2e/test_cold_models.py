"""More models than memory: cold models load on demand, the least recently used make way, and everyone is told."""

# tritonclient carries no types.
# mypy: disable-error-code="import-untyped"

import concurrent.futures
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult, service_pb2
from tritonclient.grpc._utils import _get_inference_request as get_inference_request

from demo import predictions
from e2e.cold import FIT, a_cold_one, create, decided, loaded, number, row, small, versions
from e2e.installation import Installation
from e2e.space import ROW, Space, space

ANSWERS = {f"model-{index}": 10.0 + index for index in range(12)}
LARGE_ROWS = 60_000
"""About two megabytes as JSON: more than any buffer that Envoy has by default."""


@pytest.fixture(scope="module")
def cold(installation: Installation) -> Iterator[Space]:
    """Twelve models in an InferenceService whose one pod holds four."""
    with space(installation, "cold") as fresh:
        fresh.service(**small())
        create(fresh, ANSWERS)
        fresh.wait_ready(*ANSWERS)
        yield fresh


@pytest.fixture
def channel(cold: Space) -> Iterator[InferenceServerClient]:
    with predictions.grpc_client(cold.target()) as client:
        yield client


def test_every_model_is_ready_and_answers_though_few_fit(cold: Space) -> None:
    for name in ANSWERS:
        condition = cold.condition(name)
        assert (condition["status"], condition["reason"]) == ("True", "OnDemand"), name
    assert len(loaded(cold, ANSWERS)) <= FIT
    assert {name: cold.answer(name) for name in ANSWERS} == ANSWERS
    assert 0 < len(loaded(cold, ANSWERS)) <= FIT


def test_loading_on_demand_writes_nothing(cold: Space) -> None:
    before = versions(cold)
    for _ in range(2):
        assert {name: cold.answer(name) for name in ANSWERS} == ANSWERS
    time.sleep(2)
    assert versions(cold) == before


def test_the_least_recently_used_make_way(cold: Space) -> None:
    recent = ["model-7", "model-2", "model-9"]
    for _ in range(2):  # the first time has them loaded
        for name in recent:
            cold.answer(name)
        time.sleep(1.5)  # agents tell each second what was used
    newcomer = "model-11" if "model-11" not in loaded(cold, ANSWERS) else "model-0"
    cold.answer(newcomer)
    assert {*recent, newcomer} <= loaded(cold, ANSWERS)


def test_v1_waits_for_a_cold_model_too(cold: Space) -> None:
    name = a_cold_one(cold, ANSWERS)
    got = cold.post(f"/v1/models/{name}:predict", {"instances": [ROW]})
    assert got.status == 200, got.text
    assert got.json() == {"predictions": [ANSWERS[name]]}


def test_a_large_body_waits_whole(cold: Space) -> None:
    name = a_cold_one(cold, ANSWERS)
    rows = [float(index) for index in range(LARGE_ROWS * len(ROW))]
    tensor = {"name": "row", "shape": [LARGE_ROWS, len(ROW)], "datatype": "FP64", "data": rows}
    got = cold.post(predictions.v2_path(name), {"inputs": [tensor]})
    assert got.status == 200, got.text[:500]
    output = got.json()["outputs"][0]
    assert output["shape"][0] == LARGE_ROWS
    assert set(output["data"]) == {ANSWERS[name]}


@pytest.mark.parametrize("header", [True, False])
def test_grpc_waits_for_a_cold_model_too(cold: Space, channel: InferenceServerClient, *, header: bool) -> None:
    name = a_cold_one(cold, ANSWERS)
    metadata = {predictions.MODEL_HEADER: name} if header else None
    assert number(channel.infer(name, [row()], headers=metadata, client_timeout=60)) == ANSWERS[name]


def test_a_large_grpc_message_waits_whole(cold: Space, channel: InferenceServerClient) -> None:
    name = a_cold_one(cold, ANSWERS)
    tensor = InferInput("row", [LARGE_ROWS, len(ROW)], "FP64")
    tensor.set_data_from_numpy(np.zeros((LARGE_ROWS, len(ROW))))
    result = channel.infer(name, [tensor], headers={predictions.MODEL_HEADER: name}, client_timeout=60)
    values = result.as_numpy(result.get_response().outputs[0].name)
    assert values is not None
    assert values.size == LARGE_ROWS
    assert set(values.ravel()) == {ANSWERS[name]}


def test_a_grpc_stream_waits_for_a_cold_model_too(cold: Space) -> None:
    """MLServer streams bare responses; tritonclient expects Triton's wrapper around them, so its stub is not used."""
    name = a_cold_one(cold, ANSWERS)
    request = get_inference_request(name, [row()], "", "", None, 0, 0, 0, 0, 0, None)
    target = cold.target()
    with grpc.insecure_channel(target.gateway, [("grpc.default_authority", target.host)]) as channel:
        stream = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        answers = list(stream(iter([request]), metadata=((predictions.MODEL_HEADER, name),), timeout=60))
    assert [answer.model_name for answer in answers] == [name]
    assert number(InferResult(answers[0])) == ANSWERS[name]


def test_a_hundred_requests_cost_one_load(cold: Space) -> None:
    name = a_cold_one(cold, ANSWERS)
    before = decided(cold, name, "Loaded")
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: cold.answer(name), range(100)))
    assert set(answers) == {ANSWERS[name]}
    assert decided(cold, name, "Loaded") <= before + 1


def test_a_model_deleted_while_cold_is_unknown(cold: Space) -> None:
    cold.model("short-lived", cold.put("short-lived", 1.0))
    cold.wait_ready("short-lived")
    for name in ANSWERS:
        cold.answer(name)
    cold.delete("trainedmodel", "short-lived")
    cold.wait(lambda: cold.ask("short-lived").status == 404, "404 after the delete")


def test_a_cold_model_answers_with_its_new_artifact_only(cold: Space) -> None:
    name = a_cold_one(cold, ANSWERS)
    cold.model(name, cold.put(f"{name}-new", 99.0))
    cold.wait(lambda: cold.trained_model(name)["status"]["observedGeneration"] == 2, "its new generation was seen")
    assert cold.answer(name) == 99.0
    cold.wait_ready(name)

"""TorchServe's plug-in: requests of three protocols in one batch, each answered in its own."""

import json
from typing import Any

import numpy
import pytest
from shoal_torchserve import protocols


class Context:
    """As TorchServe gives it to a handler: headers, ids and answers by index."""

    model_name = "m"

    def __init__(self, *headers: dict[str, str]) -> None:
        self.manifest = {"model": {"modelVersion": "2.1"}}
        self.request_processor = [dict(each) for each in headers]
        self.request_ids = {index: f"id-{index}" for index in range(len(headers))}
        self.status: dict[int, int] = {}
        self.content_type: dict[int, str] = {}

    def get_request_header(self, index: int, key: str) -> Any:
        return self.request_processor[index].get(key)

    def get_request_id(self, index: int) -> str:
        return self.request_ids[index]

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:
        self.status[idx] = code

    def set_response_content_type(self, index: int, value: str) -> None:
        self.content_type[index] = value


NATIVE, OTHER, EXPLAIN = {"url_path": ""}, {"explain": "False"}, {"explain": "True"}


def v1(*instances: Any) -> dict[str, Any]:
    return {"body": {"instances": list(instances)}}


def v2(*inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"body": json.dumps({"inputs": list(inputs), **more}).encode()}


def an_input(data: list[Any], shape: list[int], datatype: str = "FP32", name: str = "x") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def doubled(rows: list[Any], context: Any) -> list[Any]:
    found = []
    for row in rows:
        value = row.get("data") or row.get("body") if isinstance(row, dict) else row
        found.append((numpy.asarray(value, float) * 2).tolist())
    return found


def test_native_requests_reach_the_handler_as_they_are() -> None:
    seen: list[Any] = []

    def handler(rows: list[Any], context: Any) -> list[str]:
        seen.append((rows, context))
        return ["a", "b"]

    data, context = [{"body": {"instances": [1]}}, {"data": b"\x00raw"}], Context(NATIVE, NATIVE)
    assert protocols.handle(handler, data, context) == (["a", "b"], 0)
    assert seen == [(data, context)], "also what looks like another protocol's"


def test_one_batch_of_all_protocols_is_computed_at_once_and_answered_in_each() -> None:
    calls: list[int] = []

    def handler(rows: list[Any], context: Any) -> list[Any]:
        calls.append(len(rows))
        assert [context.get_request_header(row, "who") for row in range(5)] == ["a", "b", "b", "c", "c"]
        return doubled(rows, context)

    context = Context({**NATIVE, "who": "a"}, {**OTHER, "who": "b"}, {**OTHER, "who": "c"})
    data = [
        {"body": [1.0]},
        v1([2.0], {"data": [3.0, 4.0]}),
        v2(an_input([1, 2, 3, 4], [2, 2]), an_input([5], [1], name="y"), id="mine"),
    ]
    results, wrong = protocols.handle(handler, data, context)
    assert (calls, wrong) == ([5], 0)
    assert results[0] == [2.0]
    assert json.loads(results[1]) == {"predictions": [[4.0], [6.0, 8.0]]}
    said = json.loads(results[2])
    assert (said["id"], said["model_name"], said["model_version"]) == ("mine", "m", "2.1")
    assert said["outputs"] == [
        {"name": "x", "datatype": "FP64", "shape": [2, 2], "data": [2.0, 4.0, 6.0, 8.0]},
        {"name": "y", "datatype": "FP64", "shape": [1], "data": [10.0]},
    ]
    assert context.content_type == {1: "application/json", 2: "application/json"}
    assert [each["who"] for each in context.request_processor] == ["a", "b", "c"], "as it was before"
    assert context.request_ids == {0: "id-0", 1: "id-1", 2: "id-2"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"body": b"{"}, "the body is not JSON"),
        ({"body": {"rows": [1]}}, 'expected {"instances"'),
        ({"body": {"instances": []}}, "at least one instance"),
        ({"body": {"inputs": [1]}}, 'expected {"inputs"'),
        (v2(an_input([1, 2, 3], [2, 2])), "data does not fit shape [2, 2]"),
        (v2(an_input([1], [1], "FP8")), "datatype 'FP8' is none of"),
        (v2(an_input(["a"], [1], "INT32")), "does not fit"),
        (v2(an_input([300], [1], "UINT8")), "does not fit"),
    ],
)
def test_one_bad_request_spoils_no_other_of_its_batch(row: dict[str, Any], message: str) -> None:
    context = Context(OTHER, OTHER)
    results, wrong = protocols.handle(doubled, [row, v1([1.0])], context)
    assert (wrong, context.status) == (1, {0: 400})
    assert message in json.loads(results[0])["error"]
    assert json.loads(results[1]) == {"predictions": [[2.0]]}


def test_explanations_are_asked_for_apart() -> None:
    def handler(rows: list[Any], context: Any) -> list[str]:
        return [f"{context.get_request_header(row, 'explain')}" for row in range(len(rows))]

    results, _ = protocols.handle(handler, [v1([1.0]), v1([2.0]), v1([3.0])], Context(OTHER, EXPLAIN, OTHER))
    assert [json.loads(each) for each in results] == [
        {"predictions": ["False"]},
        {"explanations": ["True"]},
        {"predictions": ["False"]},
    ]


def test_a_handler_that_does_not_answer_each_row_is_told_what_to_do_where_it_matters() -> None:
    def summed(rows: list[Any], context: Any) -> list[float]:
        return [float(sum(sum(row) for row in rows))]

    results, _ = protocols.handle(summed, [v1([1.0], [2.0])], Context(OTHER))
    assert json.loads(results[0]) == {"predictions": [3.0]}, "alone it may"
    with pytest.raises(ValueError, match="got 3 rows of 2 requests and returned 1 results"):
        protocols.handle(summed, [v1([1.0], [2.0]), v1([3.0])], Context(OTHER, OTHER))


def test_text_and_arrays() -> None:
    def echo(rows: list[Any], context: Any) -> list[Any]:
        return [row["data"] if isinstance(row, dict) else numpy.float32(row) for row in rows]

    text = {"name": "t", "shape": [1], "datatype": "BYTES", "data": ["hello"]}
    results, _ = protocols.handle(echo, [v2(text), v1(1.5)], Context(OTHER, OTHER))
    assert json.loads(results[0])["outputs"] == [{"name": "t", "datatype": "BYTES", "shape": [], "data": ["hello"]}]
    assert json.loads(results[1]) == {"predictions": [1.5]}


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT64", [1.5]),
        ("INT64", ["7"]),
        ("INT64", [None]),
        ("INT8", [128]),
        ("UINT8", [-1]),
        ("UINT8", [300]),
        ("INT64", [2**63]),
        ("BOOL", ["false"]),
        ("BOOL", [2]),
        ("FP32", ["7"]),
        ("FP32", [True]),
        ("FP32", [[1.0], [2.0, 3.0]]),
    ],
)
def test_values_that_are_not_of_the_datatype_are_refused_and_never_changed(datatype: str, data: list[Any]) -> None:
    context = Context(OTHER)
    results, wrong = protocols.handle(doubled, [v2(an_input(data, [len(data)], datatype))], context)
    assert (wrong, context.status) == (1, {0: 400})
    assert datatype in json.loads(results[0])["error"]


@pytest.mark.parametrize(
    ("datatype", "data", "taken"),
    [
        ("INT64", [1, 2.0, -3], [1, 2, -3]),
        ("UINT64", [2**64 - 1], [2**64 - 1]),
        ("INT64", [-(2**63)], [-(2**63)]),
        ("BOOL", [True, False], [True, False]),
        ("BOOL", [1, 0], [True, False]),
        ("FP64", [1, 2.5], [1.0, 2.5]),
    ],
)
def test_values_of_the_datatype_are_taken(datatype: str, data: list[Any], taken: list[Any]) -> None:
    (found,) = protocols.inputs({"inputs": [an_input(data, [len(data)], datatype)]})
    assert found["data"] == taken
    assert [type(each) for each in found["data"]] == [type(each) for each in taken]


def test_what_json_has_no_word_for_is_null() -> None:
    def odd(rows: list[Any], context: Any) -> list[Any]:
        return [{"p": [float("nan"), 1.0]}, numpy.array([float("inf"), 2.0]), (numpy.float32("nan"),)]

    results, _ = protocols.handle(odd, [v1(1, 2, 3)], Context(OTHER))
    assert json.loads(results[0], parse_constant=pytest.fail) == {
        "predictions": [{"p": [None, 1.0]}, [None, 2.0], [None]]
    }


def test_a_body_nested_as_deep_as_it_likes_is_the_clients_mistake() -> None:
    context = Context(OTHER)
    _, wrong = protocols.handle(doubled, [{"body": b"[" * 200_000}], context)
    assert (wrong, context.status) == (1, {0: 400})

"""KServe's v1 protocol to v2's tensors and back."""

import contextlib

import pytest
from shoal_mlserver import v1


def test_rows_become_one_tensor() -> None:
    inputs, content_type = v1.inputs_of({"instances": [[6.8, 2.8], [6.0, 3.4]]})
    assert content_type is None
    assert inputs == [{"name": "predict", "shape": [2, 2], "datatype": "FP64", "data": [6.8, 2.8, 6.0, 3.4]}]


@pytest.mark.parametrize(
    ("instances", "datatype", "shape"),
    [
        ([[1, 2]], "INT64", [1, 2]),
        ([[1, 2.5]], "FP64", [1, 2]),
        ([[True, False]], "BOOL", [1, 2]),
        ([1, 2, 3], "INT64", [3]),
        ([[[1.0], [2.0]]], "FP64", [1, 2, 1]),
        (["a text", "another"], "BYTES", [2]),
    ],
)
def test_datatypes_and_shapes(instances: list[object], datatype: str, shape: list[int]) -> None:
    (tensor,), _ = v1.inputs_of({"instances": instances})
    assert (tensor["datatype"], tensor["shape"]) == (datatype, shape)


def test_objects_become_columns() -> None:
    inputs, content_type = v1.inputs_of({"instances": [{"age": 3, "name": "a"}, {"name": "b", "age": 4}]})
    assert content_type == "pd"
    assert inputs == [
        {"name": "age", "shape": [2, 1], "datatype": "INT64", "data": [3, 4]},
        {"name": "name", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "b"]},
    ]


def test_null_among_numbers_is_a_missing_one() -> None:
    (tensor,), _ = v1.inputs_of({"instances": [[1, None], [None, 2.5]]})
    assert (tensor["datatype"], tensor["shape"]) == ("FP64", [2, 2])
    assert str(tensor["data"]) == "[1.0, nan, nan, 2.5]"
    columns, kind = v1.inputs_of({"instances": [{"age": None, "name": "a"}, {"age": 4, "name": None}]})
    assert kind == "pd"
    assert str(columns[0]["data"]) == "[nan, 4.0]"
    assert columns[1] == {"name": "name", "shape": [2, 1], "datatype": "BYTES", "data": ["a", None]}


@pytest.mark.parametrize(
    ("value", "at"),
    [([[1, 2]], None), ([[1, None], [None]], "[0][1]"), ([{"a": 1}, {"a": None}], '[1]["a"]'), (None, "")],
)
def test_where_the_first_null_is(value: object, at: str | None) -> None:
    assert v1.first_null(value) == at


def test_inputs_is_taken_for_instances_as_kserve_does() -> None:
    assert v1.inputs_of({"inputs": [[1.0]]})[0][0]["data"] == [1.0]


@pytest.mark.parametrize(
    "body",
    [
        [1],
        "text",
        {},
        {"instances": None},
        {"instances": {}},
        {"instances": []},
        {"instances": [[1], [1, 2]]},
        {"instances": [[1, "a"]]},
        {"instances": [["a", None]]},
        {"instances": [[True, None]]},
        {"instances": [{"a": "x"}, {"a": None}, {"a": 1}]},
        {"instances": [{"a": True}, {"a": None}]},
        {"instances": [{"a": 1}, {"b": 1}]},
        {"instances": [{}]},
        {"instances": [{"a": [1]}, {"a": [1, 2]}]},
        {"instances": [[2**70]]},
    ],
)
def test_what_cannot_be_understood_is_refused(body: object) -> None:
    with pytest.raises(v1.BadInput, match="Expected"):
        v1.inputs_of(body)


def test_predictions_of_one_output_are_its_rows() -> None:
    assert v1.predictions_of([{"name": "predict", "shape": [2, 1], "data": [1, 0]}]) == [1, 0]
    assert v1.predictions_of([{"name": "predict", "shape": [2], "data": [1.5, 0.5]}]) == [1.5, 0.5]
    assert v1.predictions_of([{"name": "p", "shape": [2, 2], "data": [1, 2, 3, 4]}]) == [[1, 2], [3, 4]]
    assert v1.predictions_of([{"name": "p", "shape": [2, 1], "data": [b"yes", b"no"]}]) == ["yes", "no"]


def test_predictions_of_several_outputs_are_objects() -> None:
    outputs = [
        {"name": "label", "shape": [2, 1], "data": [1, 0]},
        {"name": "scores", "shape": [2, 2], "data": [0.1, 0.9, 0.8, 0.2]},
    ]
    assert v1.predictions_of(outputs) == [
        {"label": 1, "scores": [0.1, 0.9]},
        {"label": 0, "scores": [0.8, 0.2]},
    ]


def _nested(depth: int, innermost: object) -> object:
    for _ in range(depth):
        innermost = [innermost]
    return innermost


@pytest.mark.parametrize("innermost", [None, 1, "a"])
@pytest.mark.parametrize("depth", [40, 600, 1020])
def test_nesting_as_deep_as_json_may_have_it_is_the_clients_mistake(depth: int, innermost: object) -> None:
    """It was an error of the server's own: both looked into lists by recursion."""
    deep = _nested(depth, innermost)
    for instances in (
        [deep],
        [deep, [1]],
        [1, deep],
        [{"c": "a"}, {"c": None}, {"c": deep}],
        [{"c": "a"}, {"c": deep}],
        [{"c": deep}, {"c": None}],
    ):
        with contextlib.suppress(v1.BadInput):
            v1.inputs_of({"instances": instances})


def test_the_first_null_is_named_in_the_order_of_the_document() -> None:
    assert v1.first_null([1, {"a": [2, None], "b": None}, None]) == '[1]["a"][1]'
    assert v1.first_null([[1], {"a": "x"}]) is None

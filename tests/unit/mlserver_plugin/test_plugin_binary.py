"""The binary form of tensors, against tritonclient's own code; named columns against a model's names."""

import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from shoal_mlserver import binary, columns
from sklearn.linear_model import LinearRegression
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

ARRAYS = [
    np.array([[True, False]]),
    *(np.array([[1, 2], [3, 100]], kind) for kind in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")),
    *(np.array([[1.5, np.nan], [-2.0, np.inf]], kind) for kind in ("f2", "f4", "f8")),
    np.array([[b"a", "\u00e4\u4e2d".encode()], [b"", b"\xff\x00"]], object),
    np.zeros((0, 3), "f4"),
    np.array([], object),
]
DATATYPES = {np.dtype(kind): name for name, kind in binary.TYPES.items()} | {np.dtype(object): "BYTES"}


def _read(body: bytes, length: str) -> Any:
    head, tail = binary.split(body, length)
    request = json.loads(head)
    binary.fill(request, tail)
    return request


def _tensor(array: Any, name: str = "x") -> InferInput:
    return InferInput(name, list(array.shape), DATATYPES[array.dtype]).set_data_from_numpy(array)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}")
def test_what_tritonclient_sends_is_read_and_what_is_written_it_reads(array: Any) -> None:
    second = np.array([7], "i4")
    body, length = InferenceServerClient.generate_request_body([_tensor(array), _tensor(second, "y")])
    request = _read(body, str(length))
    assert request["parameters"] == {"binary_data_output": True}
    first = request["inputs"][0]
    assert "binary_data_size" not in first["parameters"]
    assert request["inputs"][1]["data"] == [7]
    np.testing.assert_array_equal(np.array(first["data"], array.dtype).reshape(array.shape), array)
    outputs = [{key: each[key] for key in ("name", "shape", "datatype", "data")} for each in request["inputs"]]
    for as_bytes in ((True, True), (True, False), (False, True)):
        if array.dtype == object and not as_bytes[0]:
            continue  # bytes that are no text have no form in JSON
        told, tail = binary.taken_out(outputs, as_bytes)
        head = json.dumps({"model_name": "m", "outputs": told}).encode()
        result = InferResult.from_response_body(head + tail, header_length=len(head))
        if as_bytes[0] or array.dtype.kind != "f":
            np.testing.assert_array_equal(result.as_numpy("x").reshape(array.shape), array)
        np.testing.assert_array_equal(result.as_numpy("y"), second)


def test_none_is_nan_and_text_is_utf8() -> None:
    assert np.isnan(np.frombuffer(binary.packed("FP32", [None, 1.0]), "f4")[0])
    assert binary.packed("BYTES", ["\u00e4"]) == b"\x02\x00\x00\x00\xc3\xa4"


def test_which_outputs_are_bytes() -> None:
    asked = InferRequestedOutput("a")._get_tensor()["parameters"]
    assert binary.wanted({}, {"a": asked}, "a")
    assert not binary.wanted({}, {"a": asked}, "b")
    assert binary.wanted({"binary_data_output": True}, {}, "b")
    assert not binary.wanted({"binary_data_output": True}, {"b": {"binary_data": False}}, "b")
    assert not binary.wanted({}, {}, "b")


def _body(tail: bytes, **changes: Any) -> tuple[bytes, str]:
    tensor = {"name": "x", "shape": [2], "datatype": "INT16", "parameters": {"binary_data_size": 4}, **changes}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + tail, str(len(head))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (_body(b"1234", parameters={"binary_data_size": 5}), "binary_data_size is 5, but 4 bytes follow"),
        (_body(b"1234", parameters={"binary_data_size": -1}), "binary_data_size is -1"),
        (_body(b"1234", parameters={"binary_data_size": True}), "binary_data_size is True"),
        (_body(b"1234", parameters={"binary_data_size": "4"}), "binary_data_size is '4'"),
        (_body(b"1234", shape=[3]), "INT16 of shape [3] needs 6 bytes, but has 4"),
        (_body(b"1234", shape=[-2]), "is no list of sizes"),
        (_body(b"1234", shape=None), "is no list of sizes"),
        (_body(b"1234", datatype="BF16"), "datatype 'BF16' is not offered"),
        (_body(b"1234", datatype="BYTES"), "cut off at byte 0"),
        (_body(b"\0\0\0\0", datatype="BYTES"), "holds 1 BYTES, but its shape [2] means 2"),
        (_body(b"1234", data=[1, 2]), "send one of them"),
        (_body(b"12345"), "1 bytes follow the last tensor"),
        (_body(b"1234", parameters={}), "4 bytes follow the last tensor"),
        ((b"{}", "3"), "at most that of the body, 2 bytes"),
        ((b"{}", "-1"), "has to be the length"),
        ((b"{}", "x"), "has to be the length"),
        ((b"nope", "4"), "Expecting value"),
        ((b"", "0"), "Expecting value"),
    ],
)
def test_what_is_wrong_is_said(body: tuple[bytes, str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        _read(*body)


@pytest.mark.parametrize(
    "body", [b"[]", b"5", b'{"inputs": 5}', b'{"inputs": [5]}', b'{"inputs": [{"parameters": 5}]}']
)
def test_other_json_is_left_to_whoever_validates_it(body: bytes) -> None:
    assert binary.not_offered(binary.parameters_of(json.loads(body))) is None
    assert _read(body, str(len(body))) == json.loads(body)


def test_what_is_not_offered_is_named() -> None:
    shared = InferInput("x", [1], "FP64")
    shared.set_shared_memory("region", 8)
    asked = [InferRequestedOutput("y", class_count=3)._get_tensor(), InferRequestedOutput("y")._get_tensor()]
    for tensors, words in [
        ({"inputs": [shared._get_tensor()]}, "shared memory"),
        ({"outputs": asked}, "classification of outputs"),
        ({"outputs": asked[1:]}, None),
    ]:
        assert binary.not_offered(binary.parameters_of(tensors)) == words


@pytest.mark.parametrize(
    ("given", "own", "checked", "order"),
    [
        (["b", "a"], ["a", "b"], False, ["a", "b"]),
        (["b", "a"], ["a", "b"], True, ["a", "b"]),
        (["c", "b", "a"], ["a", "b"], True, ["a", "b", "c"]),
        (["b"], ["a", "b"], True, ["b"]),
        (["b", "a"], None, False, None),
    ],
)
def test_columns_come_in_the_models_order(
    given: list[str], own: list[str] | None, checked: bool, order: list[str] | None
) -> None:
    assert columns.in_order(given, own, checked) == order


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a"], "lacks 'b'"),
        (["a", "b", "c"], "also has 'c'"),
        (["x", "a"], "lacks 'b' and also has 'x': the model's columns are 'a', 'b'"),
    ],
)
def test_a_model_that_looks_at_no_names_gets_no_other_columns(given: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        columns.in_order(given, ["a", "b"], False)


def test_whose_names_they_are() -> None:
    fitted = LinearRegression().fit(np.eye(2), [1, 2])
    assert columns.names_of(fitted) == (None, False)
    fitted.feature_names_in_ = np.array(["a", "b"], object)
    assert columns.names_of(fitted) == (["a", "b"], True)
    booster = SimpleNamespace(feature_name=lambda: ["b", "a"])
    assert columns.names_of(booster) == (["b", "a"], False)
    assert columns.names_of(SimpleNamespace(feature_name=lambda: ["Column_0", "Column_1"])) == (None, False)
    assert columns.names_of(None) == (None, False)

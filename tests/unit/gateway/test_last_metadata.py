"""What model servers last said of their models: bounded, of one content only, and nothing that a tenant makes up."""

import json
from typing import Any

import pytest
from shoal_api.messages import ModelMetadata
from shoal_operator.gateway.last_metadata import LastMetadata, as_message
from tritonclient.grpc.service_pb2 import ModelMetadataResponse

SAID = {
    "name": "m",
    "versions": ["3"],
    "platform": "sklearn",
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 4], "parameters": {"content_type": "np"}}],
    "outputs": [],
    "parameters": {"a": 1},
}


def said(content: Any = SAID, copy_id: str = "uid.1", name: str = "m") -> ModelMetadata:
    body = content if isinstance(content, str) else json.dumps(content)
    return ModelMetadata(name=name, copy_id=copy_id, body=body)


def test_it_is_told_as_it_was_said_over_rest_and_grpc() -> None:
    known = LastMetadata()
    known.put("ns", said())
    body = known.get("ns", "uid.1")
    assert body is not None
    assert json.loads(body) == SAID
    message = ModelMetadataResponse.FromString(as_message(body))
    assert (message.name, list(message.versions), message.platform) == ("m", ["3"], "sklearn")
    assert [(each.name, each.datatype, list(each.shape)) for each in message.inputs] == [("x", "FP64", [-1, 4])]
    assert known.get("ns", "uid.2") is None, "another content's is not this one's"
    assert known.get("other", "uid.1") is None


def test_it_is_the_models_own_name_that_is_told() -> None:
    known = LastMetadata()
    known.put("ns", said({**SAID, "name": "somebody-else"}))
    assert json.loads(known.get("ns", "uid.1") or "")["name"] == "m"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "nonsense",
        "[1]",
        '"text"',
        "null",
        {"inputs": 5},
        {"inputs": [5]},
        {"inputs": [{"name": "x"}]},
        {"inputs": [{"name": "x", "datatype": "FP64", "shape": ["many"]}]},
        {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2**63]}]},
        {"inputs": [{"name": "\ud800", "datatype": "FP64", "shape": [1]}]},
        '{"a":' * 800,
        "[" * 4000,
        '{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1e999]}]}',
        '{"inputs": [{"name": "x", "datatype": "FP64", "shape": [NaN]}]}',
        '{"parameters": {"x": NaN}}',
    ],
)
def test_what_is_no_metadata_is_passed_over(content: Any) -> None:
    known = LastMetadata()
    known.put("ns", said(content))
    assert known.get("ns", "uid.1") is None


def test_the_least_recently_used_goes_first_and_nothing_is_counted_twice() -> None:
    known = LastMetadata(max_bytes=10_000)
    for _ in range(100):
        known.put("ns", said())
    for number in range(200):
        known.put("ns", said(copy_id=f"other.{number}"))
        assert known.get("ns", "uid.1") is not None, "it is asked for"
    assert known._bytes <= 10_000
    assert known.get("ns", "other.0") is None
    assert known.get("ns", "other.199") is not None

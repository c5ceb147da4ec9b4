"""Objects nested deeper than Python can follow: read without their depths, and without harm to those beside them."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_operator.json_depth import MAX_DEPTH, loads


def nested(levels: int, opening: str = '{"a":', closing: str = "}") -> str:
    return opening * levels + '"}]{["' + closing * levels


@pytest.mark.parametrize("levels", [100, 900, 1500, 9000])
@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]"), ('[{"\\"}":', "}]"), ("[1,", ",2]")])
def test_what_is_too_deep_is_empty_and_all_else_is_there(levels: int, opening: str, closing: str) -> None:
    text = f'{{"items": [{{"n": 1}}, {{"deep": {nested(levels, opening, closing)}}}, {{"n": "}}]"}}]}}'
    found = loads(text.encode())
    assert found["items"][0] == {"n": 1}
    assert found["items"][2] == {"n": "}]"}
    assert found["items"][1]["deep"]
    assert found == copy.deepcopy(found)
    assert json.dumps(found)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0) if isinstance(value, dict | list) else 0


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=20,
)


@given(_JSON, st.integers(0, 2 * MAX_DEPTH))
def test_what_is_shallow_is_read_as_it_is_and_nothing_is_deeper_than_allowed(value: Any, wrapped: int) -> None:
    for _ in range(wrapped):
        value = [value]
    found = loads(json.dumps(value).encode())
    assert depth(found) <= MAX_DEPTH + 1
    if depth(value) <= MAX_DEPTH:
        assert found == value


def test_no_json_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        loads(b"{nothing")

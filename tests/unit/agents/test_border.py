"""What a report may cost, and that facts say each thing once."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_api.messages import MAX_REQUEST_BYTES, MAX_SLOTS
from shoal_operator.agents import Refused, border
from shoal_operator.state.pods.limits import MAX_STRAYS, Known

from tests.unit.agents.agents_parts import message


def known(*names: str, models: int | None = 0) -> Known:
    return Known("team", "pod-1", "10.0.0.1", frozenset(names).__contains__, models)


def body(**changes: Any) -> bytes:
    return json.dumps({**json.loads(message().model_dump_json()), **changes}).encode()


def slots(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "phase": "Loaded", "serving": "a.b"} for name in names]


def test_of_slots_that_were_never_wanted_only_some_are_looked_at() -> None:
    """Finding exp_slots: 60,000 made-up slots held the loop for seconds and stayed in memory for good."""
    sent = slots(*(f"made-up-{n}" for n in range(30_000)), "mine")
    read = border.read(body(observed=sent), known("mine"))
    assert [slot.name for slot in read.report.observed][-1] == "mine"
    assert len(read.report.observed) == MAX_STRAYS + 1
    assert read.dropped == 30_000 - MAX_STRAYS


def test_what_is_left_out_is_not_even_read() -> None:
    sent = [*slots(*(f"made-up-{n}" for n in range(MAX_STRAYS))), {"name": "one-more", "phase": ["nonsense"]}]
    assert border.read(body(observed=sent), known()).dropped == 1
    with pytest.raises(Refused, match=r"observed\.0\.phase"):
        border.read(body(observed=sent[-1:]), known())


def test_use_and_removals_of_slots_that_are_not_the_pods_are_left_out() -> None:
    use = [{"name": name, "requests": 1, "idle_seconds": 0.0} for name in ("mine", "theirs")]
    report = border.read(body(use=use, observed_gone=["theirs", "mine"]), known("mine")).report
    assert [each.name for each in report.use] == ["mine"]
    assert report.observed_gone == ("mine",)


def test_bytes_are_limited_by_what_the_pod_can_have_to_say() -> None:
    assert border.body_limit(None) == border.body_limit(known()) == border.FREE_BYTES
    assert border.body_limit(known(models=1000)) == border.FREE_BYTES + 1000 * border.BYTES_PER_MODEL
    assert border.body_limit(known(models=10**9)) == border.body_limit(known(models=None)) == MAX_REQUEST_BYTES


@pytest.mark.parametrize("filling", [b"[],", b"{},", b"[[]],", b'{"a":[]},'])
def test_lists_and_objects_that_no_slot_has_are_not_even_parsed(
    filling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two megabytes of them took half a second of the loop, in one turn."""
    monkeypatch.setattr(border, "from_json", None)
    sent = body(observed=[])[:-1] + b',"x":[' + filling * (border.FREE_BYTES // len(filling)) + b"0]}"
    with pytest.raises(Refused, match="more lists and objects"):
        border.read(sent, known())


def test_the_densest_reports_of_many_slots_are_read() -> None:
    names = [f"m{n}" for n in range(MAX_SLOTS // 2)]
    observed = [
        {"name": name, "phase": "Pulled", "failure": {"stage": "Load", "reason": "X", "message": ""}} for name in names
    ]
    use = [{"name": name, "requests": 1, "idle_seconds": 0} for name in names]
    text = json.loads(body(observed=observed, use=use))
    sent = json.dumps(text, separators=(",", ":")).encode()
    assert len(border.read(sent, known(*names)).report.observed) == len(names)


def test_messages_full_of_brackets_are_read() -> None:
    failed = {"stage": "Load", "reason": "X", "message": "[{" * 500}
    observed = [{"name": f"m{n}", "phase": "Pulled", "failure": failed} for n in range(20)]
    assert len(border.read(body(observed=observed), known()).report.observed) == 20


@pytest.mark.parametrize(
    "sent",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"epoch":' + b"9" * 100_000 + b"}",
        b"\xff",
        b"NaN",
        b'"x"',
        b'{"protocol":2}',
    ],
)
def test_bodies_that_are_none(sent: bytes) -> None:
    with pytest.raises(Refused) as caught:
        border.read(sent, known())
    assert caught.value.status == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
)
fields = st.sampled_from(list(json.loads(message().model_dump_json())))


@given(changes=st.dictionaries(fields, json_values, max_size=3))
def test_whatever_is_sent_is_read_or_refused(changes: dict[str, Any]) -> None:
    read: border.Read | Refused
    try:
        read = border.read(body(**changes), known("a", "b"))
    except Refused as refused:
        read = refused
    if isinstance(read, Refused):
        assert read.status == 400
        assert len(str(read)) < 600
    else:
        assert 0 <= read.report.epoch < 2**63
        assert 0 <= read.message.wait_seconds < float("inf")


names = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)


@given(observed=names, gone=names, used=names)
def test_facts_say_each_thing_once(observed: list[str], gone: list[str], used: list[str]) -> None:
    use = [{"name": name, "requests": number, "idle_seconds": 0.0} for number, name in enumerate(used)]
    report = border.read(body(observed=slots(*observed), observed_gone=gone, use=use), known("a", "b", "c")).report
    said = [slot.name for slot in report.observed]
    assert len(said) == len(set(said))
    assert set(said) == set(observed)
    assert set(report.observed_gone) == set(gone) - set(observed)
    assert len(report.observed_gone) == len(set(report.observed_gone))
    assert {each.name: each.requests for each in report.use} == {name: number for number, name in enumerate(used)}

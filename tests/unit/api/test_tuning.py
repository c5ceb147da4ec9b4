"""Tuning: typed and bounded end to end, and content that is not tuned keeps the digest that it always had."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from shoal_api.messages import CopyIntent, SyncResponse, content_digest
from shoal_api.trained_model import ServerTuning
from shoal_api.tuning import UNTUNED, Knob, Tuning

_FEW = st.none() | st.integers(1, 1024)
_SECONDS = st.none() | st.integers(0, 3_600_000_000).map(lambda microseconds: round(microseconds / 1e6, 6))
TUNINGS = st.builds(
    Tuning,
    workers_min=_FEW,
    workers_max=_FEW,
    batch_size=st.none() | st.integers(1, 65536),
    batch_delay=_SECONDS,
    queue_size=st.none() | st.integers(0, 1_000_000),
    timeout=_SECONDS,
    threads=_FEW,
)


@given(TUNINGS)
def test_what_a_user_would_write_is_read_as_the_same(tuning: Tuning) -> None:
    written = ServerTuning.of(tuning).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert ServerTuning.model_validate(written).tuning("here") == tuning


@given(TUNINGS, TUNINGS)
def test_the_digest_changes_with_the_tuning_and_only_with_it(one: Tuning, other: Tuning) -> None:
    assert (content_digest("s3://b/k", "f", one) == content_digest("s3://b/k", "f", other)) == (one == other)


def test_content_that_is_not_tuned_is_what_it_was_before_there_was_tuning() -> None:
    assert content_digest("s3://models/iris", "sklearn") == content_digest("s3://models/iris", "sklearn", UNTUNED)
    assert content_digest("s3://models/iris", "sklearn") == "e4dab5caccb967da"


@given(TUNINGS)
def test_only_keeps_what_it_is_told_to(tuning: Tuning) -> None:
    assert tuning.only(Knob) == tuning
    assert tuning.only(()) == UNTUNED
    for knob in Knob:
        assert tuning.only([knob]).asked() == tuning.asked() & {knob}
    assert tuning.asked() == frozenset(knob for knob in Knob if tuning.only([knob]) != UNTUNED)


def test_an_intent_without_tuning_says_nothing_of_it() -> None:
    intent = CopyIntent(name="m", copy_id="u.c", storage_uri="s3://b/k", framework="f", memory_bytes=1)
    tuned = intent.model_copy(update={"tuning": Tuning(workers_max=2)})
    sent = SyncResponse(epoch=1, observed_acknowledged=1, desired=[intent, tuned]).model_dump_json(
        exclude_defaults=True
    )
    assert sent.count("tuning") == 1
    assert SyncResponse.model_validate_json(sent).desired == [intent, tuned]


@pytest.mark.parametrize(
    "beyond",
    [
        {"workers_min": 0},
        {"workers_max": 1025},
        {"batch_size": 0},
        {"batch_delay": -1},
        {"timeout": float("nan")},
        {"timeout": 3601},
        {"queue_size": 10**400},
        {"threads": 1.5},
    ],
    ids=str,
)
def test_nothing_beyond_bounds_can_be_sent(beyond: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Tuning.model_validate(beyond)

"""Sizes and durations as users write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity
from shoal_api.errors import SpecError
from shoal_api.quantity import MAX_BYTES, duration_seconds, format_bytes, processors, quantity_bytes, whole_number


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("256Mi", 256 * 2**20),
        ("1Gi", 2**30),
        ("1G", 10**9),
        ("1.5Gi", 3 * 2**29),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("500m", 1),
        ("1n", 1),
        ("0", 0),
        ("+5k", 5000),
        (".5Mi", 2**19),
        ("5.", 5),
        (1073741824, 2**30),
        ("9223372036854775808", MAX_BYTES),
        ("16Ei", MAX_BYTES),
        ("1e999999999", MAX_BYTES),
        ("1e-999999999", 1),
        (10**30, MAX_BYTES),
    ],
)
def test_bytes_of_what_kubernetes_accepts(written: object, size: int) -> None:
    assert quantity_bytes(written, "f") == size


@pytest.mark.parametrize(
    "written", ["", "Mi", "1 Gi", "1gi", "1GiB", "1e", "--1", "0x10", "1Mi1", "٣", "1" * 100, True, 1.5, None, [], {}]
)
def test_what_is_no_size_is_named_with_its_field(written: object) -> None:
    with pytest.raises(SpecError, match=r"^spec\.model\.memory is .*not a Kubernetes quantity.*256Mi") as caught:
        quantity_bytes(written, "spec.model.memory")
    assert caught.value.reason == "InvalidQuantity"
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("written", ["-1", "-1Gi", -5, -(10**30), "-.5"])
def test_a_negative_size_is_refused(written: object) -> None:
    with pytest.raises(SpecError, match="negative"):
        quantity_bytes(written, "f")


@given(
    st.integers(0, 10**6),
    st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi", "m"]),
)
def test_agrees_with_the_kubernetes_client(number: int, suffix: str) -> None:
    exact = parse_quantity(f"{number}{suffix}")  # type: ignore[no-untyped-call]  # the client has no types here
    assert quantity_bytes(f"{number}{suffix}", "f") == math.ceil(exact)


@pytest.mark.parametrize(
    ("written", "seconds"), [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("0s", 0)]
)
def test_durations(written: str, seconds: float) -> None:
    assert duration_seconds(written, "f") == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["", "5", "5 m", "-1s", "1d", "s", 5, None, "1s" * 40])
def test_what_is_no_duration_is_named(written: object) -> None:
    with pytest.raises(SpecError, match=r"^spec\.serving\.timeout is .*1h30m"):
        duration_seconds(written, "spec.serving.timeout")


@pytest.mark.parametrize(("size", "shown"), [(0, "0"), (1023, "1023"), (2**20, "1Mi"), (3 * 2**29, "1.5Gi")])
def test_sizes_as_people_read_them(size: int, shown: str) -> None:
    assert format_bytes(size) == shown


@given(st.integers(min_value=0, max_value=2**70), st.integers(min_value=0, max_value=2**64))
def test_a_whole_number_is_read_up_to_its_bound(number: int, most: int) -> None:
    assert whole_number(str(number), most) == (number if number <= most else None)


@given(st.text())
def test_nothing_else_is_a_whole_number(text: str) -> None:
    """Python calls digits what ``int`` cannot read; and reads signs, blanks and underscores."""
    if not set(text) <= set("0123456789") or not text:
        assert whole_number(text) is None


@pytest.mark.parametrize("text", ["\u00b2", "\u0661", "+1", " 1", "1_0", "9" * 5000, str(MAX_BYTES + 1)])
def test_what_is_no_whole_number(text: str) -> None:
    assert whole_number(text) is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("2", 2.0),
        (2, 2.0),
        (0.5, 0.5),
        ("1500m", 1.5),
        ("500000u", 0.5),
        ("2k", 2000.0),
        ("1Ki", 1024.0),
        ("2e-1", 0.2),
        ("1e19", 1e6),
        ("0", None),
        ("-1", None),
        ("", None),
        (None, None),
        ("two", None),
        ("1e999999999", None),
        ("1" * 100, None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_processors(value: object, found: float | None) -> None:
    assert processors(value) == found

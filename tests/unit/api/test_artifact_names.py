"""Names of models that nobody registered: each path has one, and each of those has one path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_api.artifact_names import name_of, path_of
from shoal_api.grammar import MODEL_NAME


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("iris", "iris"),
        ("credit-risk-2", "credit-risk-2"),
        ("tenant-a/fraud_v2", "tenant-a--2ffraud--5fv2"),
        ("Iris.json", "x--49ris--2ejson"),
        ("x/y", "x--78--2fy"),
        ("a--b", "a--2d-b"),
        ("ä", "x--c3--a4"),
    ],
)
def test_what_they_look_like(path: str, name: str) -> None:
    assert name_of(path) == name
    assert path_of(name) == path


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_each_path_has_a_name_from_which_it_is_found(path: str) -> None:
    name = name_of(path)
    if name is None:
        assert 3 * len(path.encode()) > MODEL_NAME.longest / 2
    else:
        assert MODEL_NAME.matches(name)
        assert path_of(name) == path


@given(st.text(alphabet="ax0f24-", min_size=1, max_size=14))
def test_each_name_that_has_a_path_is_its_only_one(name: str) -> None:
    path = path_of(name)
    if path is not None:
        assert name_of(path) == name


@pytest.mark.parametrize("name", ["", "A", "a--zz", "a--", "-a", "a---b", "x--ff", "a--61", "x--61", "x" * 254])
def test_what_is_none(name: str) -> None:
    assert path_of(name) is None


@pytest.mark.parametrize("path", ["", "A" * 64, "a" * 254])
def test_what_has_none(path: str) -> None:
    assert name_of(path) is None

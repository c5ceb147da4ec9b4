"""Shoal's annotations of an InferenceService: what is read, and what is said of what cannot be."""

import pytest
from shoal_operator.manifests.annotations import ColdModels, cold_models

from .objects import isvc, resolved


def test_the_defaults() -> None:
    assert cold_models({}) == ColdModels(strict=False, activation_seconds=60, max_held=1000)


@pytest.mark.parametrize(
    ("name", "value", "field", "read"),
    [
        ("placement", "strict", "strict", True),
        ("placement", "overcommit", "strict", False),
        ("activation-timeout", "1s", "activation_seconds", 1.0),
        ("activation-timeout", "1500ms", "activation_seconds", 1.5),
        ("activation-timeout", "10m", "activation_seconds", 600.0),
        ("max-held-requests", "1", "max_held", 1),
        ("max-held-requests", "20000", "max_held", 20_000),
    ],
)
def test_what_is_read(name: str, value: str, field: str, read: object) -> None:
    found = cold_models({f"shoal.dev/{name}": value})
    assert getattr(found, field) == read
    assert found.wrong == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("placement", "Strict"),
        ("placement", ""),
        ("placement", "x" * 5000),
        ("activation-timeout", "60"),
        ("activation-timeout", "999ms"),
        ("activation-timeout", "601s"),
        ("activation-timeout", "-5s"),
        ("artifact-check", "9s"),
        ("artifact-check", "200h"),
        ("artifact-check", "often"),
        ("artifact-check", ""),
        ("max-held-requests", "0"),
        ("max-held-requests", "20001"),
        ("max-held-requests", "-1"),
        ("max-held-requests", "1e3"),
        ("max-held-requests", "\u0661"),  # a digit, but not one of ours
        ("max-held-requests", "9" * 5000),
    ],
)
def test_what_cannot_be_keeps_the_default_and_is_said(name: str, value: str) -> None:
    found = cold_models({f"shoal.dev/{name}": value})
    (said,) = found.wrong
    assert found == ColdModels(wrong=(said,))
    assert f"shoal.dev/{name}" in said
    assert "write" in said
    assert "holds" in said
    assert len(said) < 250


def test_the_state_gets_them_and_everything_wrong_in_one_message() -> None:
    given = {"shoal.dev/placement": "strict", "shoal.dev/activation-timeout": "5s", "shoal.dev/max-held-requests": "7"}
    spec = resolved(isvc(given)).spec
    assert (spec.strict, spec.activation_timeout, spec.max_held, spec.degraded) == (True, 5.0, 7, None)
    bad = {"shoal.dev/placement": "lazy", "shoal.dev/max-held-requests": "all"}
    spec = resolved(isvc(bad)).spec
    assert (spec.strict, spec.max_held, spec.problem) == (False, 1000, None)
    assert spec.degraded is not None
    assert spec.degraded.reason == "InvalidSetting"
    assert "'lazy'" in spec.degraded.message
    assert "'all'" in spec.degraded.message


def test_they_count_for_a_service_that_cannot_hold_models_yet_as_well() -> None:
    spec = resolved(isvc({"shoal.dev/placement": "strict"}, sklearn={})).spec
    assert spec.problem is not None
    assert spec.strict


@pytest.mark.parametrize(("text", "seconds"), [(None, 0.0), ("never", 0.0), ("10s", 10.0), ("1h", 3600.0)])
def test_how_often_artifacts_are_looked_at(text: str | None, seconds: float) -> None:
    given = {"shoal.dev/artifact-check": text} if text is not None else {}
    assert cold_models(given) == ColdModels(check_seconds=seconds)

"""What an InferenceService sets about its requests: what is read, and what is said of what cannot be."""

from dataclasses import replace

import pytest
from shoal_operator.manifests.request_policy import read
from shoal_operator.manifests.resolve import resolve
from shoal_operator.state.world.values import DEFAULT_POLICY, RoutePolicy

from .objects import LIMITS, isvc, resolved, runtime


@pytest.mark.parametrize(
    ("name", "value", "field", "wanted"),
    [
        ("retries", "0", "retries", 0),
        ("retries", "10", "retries", 10),
        ("max-request-bytes", "64Ki", "max_request_bytes", 65_536),
        ("max-request-bytes", "1000000", "max_request_bytes", 1_000_000),
        ("max-request-bytes", "64Mi", "max_request_bytes", 67_108_864),
        ("path-style", "disabled", "path_style", False),
        ("path-style", "enabled", "path_style", True),
    ],
)
def test_what_is_read(name: str, value: str, field: str, wanted: object) -> None:
    policy, wrong = read({f"shoal.dev/{name}": value}, RoutePolicy(path_style=value == "disabled"))
    assert getattr(policy, field) == wanted
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retries", "-1"),
        ("retries", "11"),
        ("retries", "9" * 5000),
        ("retries", "\u0661"),
        ("max-request-bytes", "64"),
        ("max-request-bytes", "65Mi"),
        ("max-request-bytes", "1e400"),
        ("max-request-bytes", "large"),
        ("path-style", "Disabled"),
        ("path-style", "off"),
        ("path-style", "x" * 5000),
    ],
)
def test_what_cannot_be_keeps_the_default_and_is_said(name: str, value: str) -> None:
    policy, (said,) = read({f"shoal.dev/{name}": value}, DEFAULT_POLICY)
    # Whoever wrote something about a way in did not mean to leave it open.
    assert policy == (replace(DEFAULT_POLICY, path_style=False) if name == "path-style" else DEFAULT_POLICY)
    assert f"shoal.dev/{name}" in said
    assert "write" in said
    assert "holds" in said
    assert len(said) < 250


@pytest.mark.parametrize(("seconds", "wanted"), [(1, 1.0), (3600, 3600.0), (None, None)])
def test_kserves_timeout(seconds: int | None, wanted: float | None) -> None:
    given = {} if seconds is None else {"timeout": seconds}
    spec = resolved(isvc(sklearn={"resources": LIMITS}, **given)).spec
    assert (spec.policy.timeout, spec.degraded) == (wanted, None)
    assert not any("timeout" in field for field in spec.ignored_fields)


@pytest.mark.parametrize("seconds", [0, 3601])
def test_a_timeout_that_cannot_be(seconds: int) -> None:
    spec = resolved(isvc(sklearn={"resources": LIMITS}, timeout=seconds)).spec
    assert spec.policy == replace(DEFAULT_POLICY, server_type="mlserver", protocol="v1")
    assert spec.degraded is not None
    assert spec.degraded.reason == "InvalidSetting"
    assert f"spec.predictor.timeout is {seconds}: write seconds from 1 to 3600" in spec.degraded.message


def test_the_installations_default_holds_where_nothing_is_said() -> None:
    default = RoutePolicy(path_style=False)
    assert resolve(isvc(), [runtime()], default).spec.policy == replace(default, server_type="mlserver", protocol="v1")
    own = isvc({"shoal.dev/path-style": "enabled", "shoal.dev/retries": "1"})
    assert resolve(own, [runtime()], default).spec.policy == RoutePolicy(
        retries=1, server_type="mlserver", protocol="v1"
    )

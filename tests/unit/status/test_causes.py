"""One cause says why a model is not Ready: to the request, the condition, the count of failed models, and explain."""

import itertools
from dataclasses import replace

import pytest
from shoal_operator.state.world.cause import Cause, cause
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.values import Problem, Refusal
from shoal_operator.state.world.views import ModelView
from shoal_operator.status.explain import explain
from shoal_operator.status.model_status import model_status, trouble

from .model_views import LOAD, MEBIBYTE, NOW, PULL, SERVICE, SPEC, UNSUPPORTED, view

COLD = view(min_copies=0, artifact_seen=True)
WRONG: dict[Cause, dict[str, object]] = {
    Cause.NO_SERVICE: {"service": None},
    Cause.SINGLE_MODEL: {"service": replace(SERVICE, multi_model=False, problem=Problem("NotMultiModel", "One."))},
    Cause.SERVICE_PROBLEM: {"service": replace(SERVICE, problem=Problem("NoMemoryLimit", "Set it."))},
    Cause.FRAMEWORK: {"spec": replace(SPEC, framework="pytorch")},
    Cause.SPEC_PROBLEM: {"spec": replace(SPEC, problem=UNSUPPORTED)},
    Cause.TOO_LARGE: {"memory_bytes": 1 << 30},
    Cause.NO_MEMORY: {"kept_out": True, "obtainable_bytes": MEBIBYTE},
    Cause.STORAGE_FAILED: {"failure": PULL},
    Cause.LOAD_FAILED: {"failure": LOAD},
    Cause.NO_PODS: {"service_ready": False},
    Cause.NO_POD_FITS: {"refusal": Refusal()},
    Cause.NOT_LOOKED_UP: {"not_looked_up": True},
    Cause.LATE: {"late": True},
    Cause.COMPLAINT: {"complaint": UNSUPPORTED},
}


def of(*causes: Cause) -> ModelView:
    given: dict[str, object] = {}
    for each in causes:
        given |= WRONG[each]
    return replace(COLD, **given)  # type: ignore[arg-type]  # fields of a view


@pytest.mark.parametrize("expected", Cause)
def test_each_cause_alone_is_found_and_said(expected: Cause) -> None:
    wrong = of(expected)
    assert cause(wrong) is expected
    ready = model_status(wrong, None, NOW)["conditions"][0]
    assert (ready["type"], ready["status"]) == ("Ready", "Unknown" if expected is Cause.NOT_LOOKED_UP else "False")
    assert ready["message"]


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(Cause, 2)))
def test_of_two_causes_condition_count_and_explain_name_the_same(one: Cause, other: Cause) -> None:
    wrong = of(one, other)
    found = cause(wrong)
    assert found in (one, other)
    status = model_status(wrong, None, NOW)
    alone = model_status(of(found), None, NOW)["conditions"][0]
    ready = status["conditions"][0]
    assert (ready["status"], ready["reason"]) == (alone["status"], alone["reason"])
    assert status["serving"] == ("Waiting" if found.waits else "Failed")
    assert ready["message"] in explain(wrong)["summary"]
    event = trouble(wrong)
    if not found.waits:
        assert event is not None
        assert event.reason == ready["reason"]


@pytest.mark.parametrize("later", [Cause.NO_PODS])
@pytest.mark.parametrize("mine", [Cause.FRAMEWORK, Cause.SPEC_PROBLEM, Cause.TOO_LARGE, Cause.LOAD_FAILED])
def test_what_the_user_can_mend_is_said_before_what_passes_by_itself(mine: Cause, later: Cause) -> None:
    assert cause(of(mine, later)) is mine


def test_what_the_spec_names_is_no_cause_while_the_last_good_content_is_loaded() -> None:
    for each in (Cause.FRAMEWORK, Cause.SPEC_PROBLEM, Cause.TOO_LARGE):
        assert cause(replace(of(each), fallback=True)) is None


def test_the_last_good_content_waits_for_a_pod_whatever_came_of_the_wanted_one() -> None:
    assert cause(replace(of(Cause.LOAD_FAILED, Cause.NO_PODS), fallback=True)) is Cause.NO_PODS


def test_a_failure_of_what_the_spec_names_is_no_cause_while_the_last_good_content_comes_back() -> None:
    failed = replace(of(Cause.LOAD_FAILED), fallback=True)
    assert cause(replace(failed, restoring=True)) is None
    assert cause(failed) is Cause.LOAD_FAILED, "it has failed as well"


def test_only_what_passes_by_itself_or_was_good_before_holds_a_request() -> None:
    held = {each for each in Cause if each.unavailable is Unavailable.COLD}
    assert held == {Cause.NO_POD_FITS, Cause.NOT_LOOKED_UP, Cause.LATE, Cause.COMPLAINT}

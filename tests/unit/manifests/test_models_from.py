"""The annotations that make every artifact below a place a model: what is read, and what is said of what cannot be."""

from dataclasses import replace
from typing import Any

import pytest
from shoal_operator.manifests.former import as_it_runs, served, serves, with_former_place
from shoal_operator.manifests.models_from import ModelsFrom, models_from
from shoal_operator.state.world.prefix import Prefix

from .objects import LIMITS, isvc, resolved, runtime

FROM, FRAMEWORK = "shoal.dev/models-from", "shoal.dev/models-framework"
PLACE = {FROM: "s3://models/tenants/", FRAMEWORK: "sklearn"}


def test_none() -> None:
    assert models_from({}, strict=False) == ModelsFrom()


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({}, Prefix("s3://models/tenants/", "sklearn")),
        ({FROM: "s3://models"}, Prefix("s3://models/", "sklearn")),
        ({FROM: "gs://models/a"}, Prefix("gs://models/a/", "sklearn")),
        ({FROM: "pvc://models"}, Prefix("pvc://models/", "sklearn")),
        ({FROM: "storage://team/a"}, Prefix("storage://team/a/", "sklearn")),
        ({"shoal.dev/models-pattern": "{name}.tar.gz"}, Prefix("s3://models/tenants/", "sklearn", "{name}.tar.gz")),
        ({"shoal.dev/models-memory": "20Mi"}, Prefix("s3://models/tenants/", "sklearn", memory_bytes=20 << 20)),
        ({"shoal.dev/models-at-most": "100000"}, Prefix("s3://models/tenants/", "sklearn", most=100_000)),
    ],
)
def test_what_is_read(more: dict[str, str], place: Prefix) -> None:
    assert models_from({**PLACE, **more}, strict=False) == ModelsFrom(place)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({FROM: "models"}, "has no scheme"),
        ({FROM: ""}, "has no scheme"),
        ({FROM: "s3://"}, "names no bucket"),
        ({FROM: "s3://models/../other/"}, "'..'"),
        ({FROM: "ftp://models/"}, "not supported"),
        ({FROM: "https://models.example.com/a"}, "s3://, gs://, pvc:// or storage://"),
        ({FROM: "hf://org/repo"}, "s3://, gs://, pvc:// or storage://"),
        ({FROM: "storage://team/a?bucket=other"}, "without parameters"),
        ({FRAMEWORK: " "}, FRAMEWORK),
        ({"shoal.dev/models-pattern": "model.joblib"}, "{name} in it once"),
        ({"shoal.dev/models-pattern": "{name}/{name}"}, "{name} in it once"),
        ({"shoal.dev/models-pattern": "/{name}"}, "{name} in it once"),
        ({"shoal.dev/models-pattern": "../{name}"}, "{name} in it once"),
        ({"shoal.dev/models-pattern": "{name}" + "x" * 5000}, "{name} in it once"),
    ],
)
def test_what_cannot_be_used_leaves_it_as_it_is_without(more: dict[str, str], said: str) -> None:
    found = models_from({**PLACE, **more}, strict=False)
    (wrong,) = found.wrong
    assert found.place is None
    assert found.unusable
    assert said in wrong
    assert "what held before goes on" in wrong
    assert len(wrong) < 600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory", "much"),
        ("memory", "0"),
        ("memory", "-1"),
        ("at-most", "0"),
        ("at-most", "100001"),
        ("at-most", "1e3"),
        ("at-most", "9" * 5000),
    ],
)
def test_what_cannot_be_read_of_a_number_is_said_and_the_rest_holds(name: str, value: str) -> None:
    found = models_from({**PLACE, f"shoal.dev/models-{name}": value}, strict=False)
    (wrong,) = found.wrong
    assert found.place == Prefix("s3://models/tenants/", "sklearn")
    assert f"shoal.dev/models-{name}" in wrong
    assert "write" in wrong
    assert len(wrong) < 250


def test_strict_placement_has_no_cold_models() -> None:
    found = models_from(PLACE, strict=True)
    assert found.place is None
    assert not found.unusable, "the user says so"
    assert "shoal.dev/placement" in found.wrong[0]


@pytest.mark.parametrize("name", ["framework", "memory", "pattern", "at-most"])
def test_the_others_alone_have_no_effect(name: str) -> None:
    found = models_from({f"shoal.dev/models-{name}": "1"}, strict=False)
    (wrong,) = found.wrong
    assert found.place is None
    assert f"shoal.dev/models-{name} has no effect without shoal.dev/models-from" in wrong


def test_an_inference_service_says_it() -> None:
    spec = resolved(isvc(PLACE, sklearn={"resources": LIMITS})).spec
    assert spec.models_from == Prefix("s3://models/tenants/", "sklearn")
    assert spec.policy.any_name
    assert spec.degraded is None
    wrong = resolved(isvc({**PLACE, FROM: "x"}, sklearn={"resources": LIMITS})).spec
    assert wrong.models_from is None
    assert wrong.place_unusable
    assert not wrong.policy.any_name
    assert wrong.degraded is not None
    assert FROM in wrong.degraded.message


def test_one_with_a_model_of_its_own_has_no_others() -> None:
    own: dict[str, Any] = {"resources": LIMITS, "storageUri": "s3://models/one"}
    spec = resolved(isvc(PLACE, sklearn=own)).spec
    assert not spec.multi_model
    assert spec.models_from is None
    assert not spec.policy.any_name
    assert spec.degraded is not None
    assert "has one model of its own" in spec.degraded.message


def test_a_format_that_no_runtime_loads_is_said() -> None:
    spec = resolved(isvc({**PLACE, FRAMEWORK: "pmml"}, sklearn={"resources": LIMITS})).spec
    assert spec.degraded is not None
    assert "pmml" in spec.degraded.message
    assert "sklearn" in spec.degraded.message


@pytest.mark.parametrize("place", [Prefix("s3://b/m/", "sklearn"), Prefix("pvc://c/m/", "lightgbm", "{name}/m", 5, 7)])
def test_the_former_place_is_read_back_beside_one_that_cannot_be_used(place: Prefix) -> None:
    """By an operator that starts, from the Deployment."""
    before = resolved(isvc(PLACE, sklearn={"resources": LIMITS})).spec
    written = serves(replace(before, models_from=place))
    wrong = resolved(isvc({**PLACE, FROM: "x"}, sklearn={"resources": LIMITS})).spec
    found = with_former_place(wrong, written)
    assert (found.models_from, found.policy.any_name, found.degraded) == (place, True, wrong.degraded)
    assert serves(found) == written, "and stays there"
    broken = resolved(isvc(PLACE, sklearn={"resources": {"limits": {"memory": "x"}}})).spec
    assert broken.problem is not None
    former = served(broken, written)
    assert former is not None
    assert (former.models_from, former.policy.any_name) == (place, True)
    assert as_it_runs(broken, broken.problem, former, None, has_pods=True).models_from == place


def test_a_place_that_was_taken_away_or_can_be_used_is_not_read_back() -> None:
    before = resolved(isvc(PLACE, sklearn={"resources": LIMITS})).spec
    for now in (resolved(isvc(sklearn={"resources": LIMITS})).spec, replace(before, uid="other")):
        assert with_former_place(now, serves(before)) == now


@pytest.mark.parametrize("written", ["", "[]", "{}", '{"modelsFrom": 1}', '{"modelsFrom": {"uri": "x"}}', "[" * 9000])
def test_what_others_wrote_of_a_place_is_nothing(written: str) -> None:
    wrong = resolved(isvc({**PLACE, FROM: "x"}, sklearn={"resources": LIMITS})).spec
    assert with_former_place(wrong, written) == wrong


def test_on_a_runtime_it_has_no_effect_and_that_is_said() -> None:
    made = runtime()
    noted = replace(made, annotations={**made.annotations, **PLACE})
    spec = resolved(isvc(sklearn={"resources": LIMITS}), noted).spec
    assert spec.models_from is None
    assert spec.degraded is not None
    assert f"{FROM}, and what belongs to it, has no effect on {made.where}" in spec.degraded.message
    assert resolved(isvc(sklearn={"resources": LIMITS}), made).spec.degraded is None

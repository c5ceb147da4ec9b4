"""The generated CRDs: current, structural in form, and nothing a user writes is pruned."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from shoal_api.crd import SCHEMA_REVISION, definitions, is_ours, revision
from shoal_api.generate import main, render

CHECKOUT = Path(__file__).parents[3]
DEFINITIONS = {definition["spec"]["names"]["kind"]: definition for definition in definitions()}


def schema(kind: str) -> dict[str, Any]:
    return DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]  # type: ignore[no-any-return]


def nodes(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, by its path."""
    yield path, node
    for name, part in node.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        yield from nodes(node["additionalProperties"], f"{path}.*")


def test_committed_files_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(CHECKOUT / "crds"), "--check"]) == 0, capsys.readouterr().out
    assert {path.name for path in (CHECKOUT / "crds").iterdir()} == set(render())


def test_the_check_sees_a_change_and_writes_nothing(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    changed = tmp_path / "trainedmodels.yaml"
    changed.write_text("other")
    assert main([str(tmp_path), "--check"]) == 1
    assert changed.read_text() == "other"


def test_the_yaml_says_what_the_objects_say() -> None:
    assert [yaml.safe_load(text) for text in render().values()] == definitions()


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_objects_of_a_spec_keep_unknown_fields(kind: str) -> None:
    for path, node in nodes(schema(kind)["properties"]["spec"], "spec"):
        if node.get("type") == "object" and "additionalProperties" not in node:
            assert node.get("x-kubernetes-preserve-unknown-fields") is True, path


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_schemas_have_only_what_a_structural_schema_may(kind: str) -> None:
    for path, node in nodes(schema(kind), kind):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert not node.keys() & {"$ref", "anyOf", "allOf", "oneOf", "title", "default", "$defs"}, path
        assert not ({"properties", "additionalProperties"} <= node.keys()), path


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_field_that_users_write_is_described(kind: str) -> None:
    for path, node in nodes(schema(kind)["properties"]["spec"], "spec"):
        if not path.endswith(("[]", ".*")):
            assert node.get("description"), path


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_rule_has_a_message_that_helps(kind: str) -> None:
    for path, node in nodes(schema(kind), kind):
        for rule in node.get("x-kubernetes-validations", []):
            assert len(rule["message"]) > 20, path


def test_whose_a_definition_is() -> None:
    ours = definitions()[0]
    assert is_ours(ours)
    assert revision(ours) == SCHEMA_REVISION
    kserves = {"metadata": {"name": "x", "labels": {"app.kubernetes.io/managed-by": "Helm"}}}
    assert not is_ours(kserves)
    assert revision(kserves) == 0
    assert not is_ours({"metadata": {"labels": None}})
    assert revision({"metadata": {"annotations": {"shoal.dev/schema-revision": "x"}}}) == 0

"""docs/defects.md names a test for each defect that was found: each of them exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "defects.md").read_text())


def functions_in(path: Path) -> set[str]:
    """Names of a file's functions, also of those in classes."""
    found = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in found if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_holds_a_mend_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file(), f"docs/defects.md names {path}, which is not there"
    assert name.startswith("test_"), f"docs/defects.md names {name}, which pytest does not collect"
    assert name in functions_in(ROOT / path), f"docs/defects.md names {path}::{name}, which is not there"


def test_every_row_names_a_test() -> None:
    rows = [line for line in (ROOT / "docs" / "defects.md").read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| What went wrong")]
    assert len(rows) == len(NAMED) > 40

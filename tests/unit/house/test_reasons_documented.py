"""docs/conditions.md names every reason that a user may read in a status or in the gateway's answer, and no others.

The code is read: constants of the modules of reasons, literals where a complaint is made, and the gateway's words.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from shoal_operator.state.world.effects import Unavailable

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "conditions.md").read_text()
SOURCES = [
    path
    for package in ("operator/shoal_operator", "agent/shoal_agent", "api/shoal_api")
    for path in sorted((ROOT / package).rglob("*.py"))
]
OF_CONSTANTS = (
    "operator/shoal_operator/status/reasons.py",
    "operator/shoal_operator/manifests/reasons.py",
    "agent/shoal_agent/model_server/__init__.py",
    "agent/shoal_agent/steps.py",
    "agent/shoal_agent/worker.py",
    "operator/shoal_operator/owners.py",
    "operator/shoal_operator/watch/claims.py",
    "agent/shoal_agent/storage/__init__.py",
    "api/shoal_api/storage_uri.py",
)
COMPLAINTS = {"Problem", "SpecError", "StorageError", "ServerError"}
"""Classes whose first argument is the reason."""
ELSEWHERE = ("operator/shoal_operator/http/", "operator/shoal_operator/status/explain.py")
"""What readers of /explain and /models are told in an answer's own words."""
WORD = re.compile(r"(?:[A-Z][a-z0-9]+)+")


def constant(node: ast.AST) -> str:
    """A word that could be a reason, else empty."""
    word = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
    return word if WORD.fullmatch(word) else ""


def constants(path: Path) -> Iterator[str]:
    """Values of a module's constants."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            yield constant(node.value)


def literals(path: Path) -> Iterator[str]:
    """Reasons that are written where a complaint is made."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in COMPLAINTS and node.args:
            yield constant(node.args[0])


def replies() -> Iterator[str]:
    """Reasons of what the gateway says by itself: first of a pair with a text."""
    for name in ("replies.py", "activation.py"):
        tree = ast.parse((ROOT / "operator/shoal_operator/gateway" / name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Tuple) and len(node.elts) == 2:
                yield constant(node.elts[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refused" and len(node.args) > 1:
                yield constant(node.args[1])
    yield from (each.value for each in Unavailable if each is not Unavailable.COLD)


def said() -> set[str]:
    words = {word for name in OF_CONSTANTS for word in constants(ROOT / name)}
    for path in SOURCES:
        if not str(path.relative_to(ROOT)).startswith(ELSEWHERE):
            words.update(literals(path))
    return (words | set(replies())) - {""}


def documented() -> set[str]:
    """Words of the first column of the tables of reasons."""
    tables = PAGE.split("## Reasons: well", 1)[1]
    rows = [row.split("|")[1] for row in tables.splitlines() if row.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`(\w+)`", row)}


def test_each_reason_is_explained() -> None:
    assert len(said()) > 80
    assert said() <= documented(), f"docs/conditions.md lacks {sorted(said() - documented())}"


def test_nothing_is_explained_that_is_never_said() -> None:
    text = "\n".join(path.read_text() for path in SOURCES)
    unsaid = {word for word in documented() if f'"{word}"' not in text}
    assert not unsaid, f"docs/conditions.md explains {sorted(unsaid)}, which nothing says"

"""A field of the world is written by one module, two at most; those of a wish by state/wish alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import shoal_operator

from .writers import Write, entities, writers, writes

OPERATOR = Path(shoal_operator.__file__).parent
STATE = sorted((OPERATOR / "state").rglob("*.py"))
KNOWN = entities(path for path in STATE if path.parent.name == "world" or path.name == "ledger.py")
MOST = 2
WISH = {
    "Model.target": "how many",
    "Model.refusal": "why no more",
    "Model.asked_at": "for whom",
    "Model.asked_until": "for whom",
    "Model.crowded_until": "how many",
    "Model.fallback": "which content",
    "Model.last_good": "which content",
    "Model.last_good_failures": "which content",
    "Model.last_good_retry_at": "which content",
    "Model.artifact_seen": "what is known of it",
    "Model.vouched": "what is known of it",
    "Model.failure": "how it went",
    "Model.failures": "how it went",
    "Model.retry_at": "how it went",
    "Service.refused": "of which models no pod takes a copy",
    "Service.cold": "which models want none",
    "Service.hot": "which models want several",
}


def all_writes() -> Iterator[Write]:
    for path in sorted(OPERATOR.rglob("*.py")):
        source = path.read_text()
        if "state" in path.parts or "state.world.entities" in source:
            yield from writes(source, str(path.relative_to(OPERATOR)), KNOWN)


def test_the_entities_are_found() -> None:
    assert {"Model", "Copy", "Pod", "Service", "World", "Scale", "Stats", "Ledger", "Account"} <= KNOWN.keys()
    assert WISH.keys() <= {f"{name}.{field}" for name, fields in KNOWN.items() for field in fields}


def test_no_field_is_written_in_more_than_two_modules() -> None:
    wrong = {field: sorted(modules) for field, modules in writers(all_writes()).items() if len(modules) > MOST}
    assert not wrong


def test_what_a_model_wants_is_written_by_its_wish_alone() -> None:
    found = writers(all_writes())
    wrong = {field: sorted(found[field]) for field in WISH if any("state/wish/" not in each for each in found[field])}
    assert not wrong
    assert not [field for field in WISH if not found[field]], "written by nobody: the reader has missed it"


def test_fields_are_not_written_by_names_that_only_run_time_knows() -> None:
    for path in STATE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name):
                assert node.id not in ("setattr", "delattr", "vars"), f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ("def f(model): model.target = 1", "Model.target"),
        ("def f(model): model.target += 1", "Model.target"),
        ("def f(model): model.target, x = 1, 2", "Model.target"),
        ("def f(ctx: Context, key): ctx.world.models[key].target = 1", "Model.target"),
        ("def f(ctx: Context, key): ctx.world.models.get(key).target = 1", "Model.target"),
        ("def f(it: Model): it.target = 1", "Model.target"),
        ("def f(anything): anything.target = 1", "Model.target"),
        ("def f(service): service.cold.pop(1)", "Service.cold"),
        ("def f(service): del service.cold[1]", "Service.cold"),
        ("def f(service): service.cold[1] = None", "Service.cold"),
        ("def f(service):\n cold = service.cold\n cold.clear()", "Service.cold"),
        ("def f(service):\n for x in (service.cold, service.hot):\n  x.pop(1)", "Service.hot"),
        ("def f(world): world.stored.setdefault(1, []).append(2)", "World.stored"),
        ("def f(world: World, keys): world.asked -= keys", "World.asked"),
        ("def f(service): service.stats.loads += 1", "Stats.loads"),
    ],
)
def test_a_write_is_seen_in_whatever_form(source: str, field: str) -> None:
    assert field in writers(writes(source, "planted.py", KNOWN))


@pytest.mark.parametrize(
    "source",
    [
        "def f(model): return model.target",
        "def f(model): target = model.target",
        "def f(service): return service.cold.get(1)",
        "def f(pod): pod.ledger.close(1)",
        "class Other:\n def f(self): self.target = 1",
    ],
)
def test_what_writes_nothing_is_no_writer(source: str) -> None:
    assert not list(writes(source, "planted.py", KNOWN))

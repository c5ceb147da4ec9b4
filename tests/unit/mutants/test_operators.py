"""The mutation check's own rules: what is changed, how, and what is left alone."""

import ast
from collections import Counter

import pytest

from tests.mutants.__main__ import ROOT, targets
from tests.mutants.operators import mutated, mutations
from tests.mutants.sample import sample


def changes(body: str, parameters: str = "x, y, z") -> set[str]:
    source = f"def f({parameters}):\n" + "\n".join(f"    {line}" for line in body.splitlines())
    return {f"{m.operator}: {m.before} -> {m.after}" for m in mutations(source)}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return x < y", {"boundary: x < y -> x <= y", "comparison: x < y -> x >= y"}),
        ("return x >= y", {"boundary: x >= y -> x > y", "comparison: x >= y -> x < y"}),
        ("return x is y", {"comparison: x is y -> x is not y"}),
        ("return x not in y", {"comparison: x not in y -> x in y"}),
        ("return x and y", {"and/or: x and y -> x or y"}),
        ("return not x", {"negation: not x -> x"}),
        ("return -x", {"negation: -x -> x"}),
        ("return x + y", {"arithmetic: x + y -> x - y"}),
        ("return x | y", {"arithmetic: x | y -> x & y"}),
        ("return 7", {"boundary: 7 -> 8"}),
        ("return True", {"constant: True -> False"}),
        ("return min(x, y)", {"swapped function: min(x, y) -> max(x, y)"}),
        ("return sorted(x, key=y)", {"swapped function: sorted(x, key=y) -> list(x)"}),
        ("x.add(y)", {"dropped call: x.add(y) -> pass"}),
        ("x.y = z", {"stale value: x.y = z -> pass"}),
        ("x[y] = z", {"stale value: x[y] = z -> pass"}),
        ("x = y", {"stale value: x = y -> pass"}),
        ("x.y += z", {"stale value: x.y += z -> pass", "arithmetic: x.y += z -> x.y -= z"}),
        ("del x[y]", {"stale value: del x[y] -> pass"}),
        ("if x:\n    return", {"swapped branch: x -> not x", "swapped branch: return -> pass"}),
        ("if x is y:\n    z()", {"comparison: x is y -> x is not y", "dropped call: z() -> pass"}),
        ("return [a for a in x if y]", {"swapped branch: y -> not y"}),
        ("for a in x:\n    continue", {"swapped branch: continue -> break"}),
        (
            "match x:\n    case int():\n        y()",
            {"dropped case: case int(): y() -> case int(): pass", "dropped call: y() -> pass"},
        ),
    ],
)
def test_each_operator(body: str, expected: set[str]) -> None:
    assert changes(body) == expected


def test_an_await_is_dropped_and_so_is_what_it_waits_for() -> None:
    found = {f"{m.operator}: {m.before} -> {m.after}" for m in mutations("async def f(x):\n    await x()")}
    assert found == {"dropped call: await x() -> pass", "dropped await: await x() -> x()"}


@pytest.mark.parametrize(
    "body",
    [
        '"""A docstring of 3 lines."""',
        'raise ValueError(f"{x + 1}")',
        "assert x < y",
        "log.info(x)",
        'return f"{x + 1}"',
        'return "a" + x',
        "a: int | None = x",
        "a = x",  # the first value of a name: without it there is none
    ],
)
def test_what_is_left_alone(body: str) -> None:
    assert changes(body) == set()


def test_types_and_decorators_are_left_alone() -> None:
    source = "from a import b\nKind = int | str\n@b(frozen=True)\nclass A:\n    x: int | None\n"
    assert mutations(source) == []


def test_a_mutant_differs_in_one_place_and_keeps_its_lines() -> None:
    source = "def f(x):\n    if x < 3:\n        return x + 1\n    return 0\n"
    texts = {ast.unparse(ast.parse(source))}
    for mutation in mutations(source):
        tree = mutated(source, mutation.index)
        texts.add(ast.unparse(tree))
        returns = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Return)]
        assert sorted(returns) == [3, 4]
    assert len(texts) == 1 + len(mutations(source))


def test_a_key_names_the_function_and_survives_edits_elsewhere() -> None:
    source = "class A:\n    def f(self):\n        def inner():\n            return 1 + 1\n        return inner\n"
    keys = [mutation.key for mutation in mutations(source)]
    assert keys == [
        "A.f | arithmetic: 1 + 1 -> 1 - 1",
        "A.f | boundary: 1 -> 2",
        "A.f | boundary: 1 -> 2 #2",
    ]
    assert [mutation.key for mutation in mutations("import os\n\nX = 3 * os.n\n\n\n" + source)][-3:] == keys


def test_every_mutation_of_the_program_compiles_and_has_a_key_of_its_own() -> None:
    for path, source in targets(ROOT).items():
        found = mutations(source)
        twice = [key for key, count in Counter(m.key for m in found).items() if count > 1]
        assert not twice, path
        for mutation in found[len(source) % 7 :: 200]:
            compile(mutated(source, mutation.index), path, "exec")


def test_a_sample_is_repeatable_and_leaves_no_file_out() -> None:
    places = {"large": list(range(1000)), "small": [1], "none": []}
    chosen = sample(places, 50, seed=3)
    assert chosen == sample(places, 50, seed=3)
    assert chosen != sample(places, 50, seed=4)
    assert ("small", 1) in chosen
    assert len(set(chosen)) == 50
    assert len(sample(places, 5000, seed=1)) == 1001

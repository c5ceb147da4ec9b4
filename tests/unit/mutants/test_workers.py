"""The processes that run mutants, which a mutant may end."""

import os
import signal
from pathlib import Path

from tests.mutants import __main__ as check
from tests.mutants.operators import Mutation

ROOT = Path(__file__).parents[3]


def test_a_worker_that_was_ended_is_one_crash_and_works_on() -> None:
    worker = check.Worker(ROOT)
    worker.preload(["json"])
    os.kill(worker._process.pid, signal.SIGKILL)
    assert worker.do({"preload": []}) == {"ended": "crash"}
    assert worker.do({"preload": []}) == {}
    worker.end()


def test_at_least_one_test_and_no_more_than_the_time_allows() -> None:
    costs = {"a": 3.0, "b": 1.0, "c": 1.0}
    assert check.affordable(["a", "b"], costs, 2.0) == ["a"]
    assert check.affordable(["b", "c", "a"], costs, 2.0) == ["b", "c"]
    assert check.affordable([], costs, 2.0) == []


def test_units_come_first_then_one_seed_of_each_scene() -> None:
    scene = "tests/simulation/test_simulation.py::test_x"
    costs = {f"{scene}[0]": 5.0, f"{scene}[1]": 4.0, "tests/unit/state/t.py::a": 2.0, "tests/unit/state/t.py::b": 1.0}
    known = {"costs": costs, "failed": [], "calls": {test: ["f.py::g"] for test in costs}}
    mutation = Mutation(index=0, operator="o", function="g", line=1, before="a", after="b", nth=1)
    assert check.tests_of(check.Mutant("f.py", mutation), known) == [
        "tests/unit/state/t.py::b",
        "tests/unit/state/t.py::a",
        f"{scene}[1]",
    ]

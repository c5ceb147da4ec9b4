"""Runs tests in forked children of one process that has everything but the project imported: a mutant costs its tests.

``python -m tests.mutants.worker``, started by `tests.mutants.__main__` in a copy of the checkout, reads a job a line
from standard input and answers each with a line. A job: ``{"preload": [module, ...]}``, or ``Run`` as an object.
"""

import ctypes
import dataclasses
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from .operators import mutated

_MEMORY_BYTES = 6 << 30
"""A mutant that collects without end must not take the machine with it."""
_HERE = os.getcwd() + os.sep
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG: an interrupted check leaves no mutant running
OWN = ("shoal_", "tests", "benchmarks", "conftest", "__main__")
"""Packages that a child imports itself: what a mutant changes must not be there before it."""


@dataclass(frozen=True, slots=True)
class Run:
    """``module``, ``path``, ``index``: the mutation, none with ``path`` empty; ``paths``: what pytest collects;
    ``tests``: node ids in the order to run, all with none; ``trace``: say which functions below ``traced`` each test
    calls; ``cpu_seconds``, ``wall_seconds``: after which it is ended."""

    paths: list[str]
    tests: list[str]
    cpu_seconds: int
    wall_seconds: float
    module: str = ""
    path: str = ""
    index: int = 0
    traced: list[str] = dataclasses.field(default_factory=list)


class _Mutant(importlib.abc.MetaPathFinder):
    """Imports one module from its changed syntax tree; nothing is written anywhere."""

    def __init__(self, module: str, path: str, index: int) -> None:
        with open(path) as file:
            source = file.read()
        self._module = module
        self._loader = _Loader(module, path, compile(mutated(source, index), path, "exec", dont_inherit=True))

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if name != self._module:
            return None
        return importlib.util.spec_from_file_location(name, self._loader.path, loader=self._loader)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, module: str, path: str, code: CodeType) -> None:
        super().__init__(module, path)
        self._code = code

    def get_code(self, _: str) -> CodeType:
        return self._code

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102  # it is the project's own module, changed in one place


class _Tests:
    """A pytest plugin: runs the wanted tests in the wanted order, and remembers what each called and cost."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.calls: dict[str, list[str]] = {}
        self.costs: dict[str, float] = {}
        self.failed: list[str] = []
        self.passed = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._run.tests:
            known = {item.nodeid: item for item in items}
            items[:] = [known[name] for name in self._run.tests if name in known]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        begin = time.process_time()
        seen: set[CodeType] = set()
        with _calls_seen(seen) if self._run.traced else _nothing():
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
        self.costs[item.nodeid] = time.process_time() - begin
        if self._run.traced:
            self.calls[item.nodeid] = sorted(set(self._named(seen)))
        elif any(report.failed for report in reports):
            # A test that fails only now and then, on a busy machine, has not noticed the mutant.
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        return True

    def _named(self, seen: set[CodeType]) -> Iterator[str]:
        for code in seen:
            path = code.co_filename.removeprefix(_HERE)  # none at all where code was made of a string
            if path in self._run.traced:
                yield f"{path}::{code.co_qualname.split('.<locals>')[0]}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call":
            self.passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append(f"{report.nodeid} (cannot be imported)")


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _calls_seen(seen: set[CodeType]) -> Iterator[None]:
    # Calls only: following lines would make the simulation ten times slower.
    def note(frame: FrameType, event: str, argument: object) -> None:
        seen.add(frame.f_code)

    threading.settrace(note)
    sys.settrace(note)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)


def _child(run: Run, answer: int) -> None:
    """Never returns."""
    os.setsid()
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    resource.setrlimit(resource.RLIMIT_CPU, (run.cpu_seconds, run.cpu_seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    result: dict[str, Any]
    try:
        if run.path:
            sys.meta_path.insert(0, _Mutant(run.module, run.path, run.index))
        tests = _Tests(run)
        stop = [] if run.traced else ["-x"]
        code = pytest.main([*run.paths, *stop, "-q", "-p", "no:cacheprovider", "--timeout=120"], plugins=[tests])
        result = {
            "code": int(code),
            "failed": tests.failed,
            "passed": tests.passed,
            "costs": tests.costs,
            "calls": tests.calls,
            "modules": [name for name in sys.modules if not name.startswith(OWN)] if run.traced else [],
        }
    except BaseException:
        result = {"code": -1, "failed": [traceback.format_exc(limit=-3)], "passed": 0}
    with os.fdopen(answer, "w") as pipe:
        json.dump(result, pipe)
    os._exit(0)


def _forked(run: Run) -> dict[str, Any]:
    """The child's answer, or ``{"ended": "timeout" | "crash"}``."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(run, writer)
    os.close(writer)
    pieces: list[bytes] = []
    deadline = time.monotonic() + run.wall_seconds
    while (left := deadline - time.monotonic()) > 0 and select.select([reader], [], [], left)[0]:
        if not (piece := os.read(reader, 1 << 16)):
            break
        pieces.append(piece)
    os.close(reader)
    late = time.monotonic() >= deadline
    # The child and all it started. It may not have made its own group yet, but then it has nothing to end.
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    try:
        answer: dict[str, Any] = json.loads(b"".join(pieces))
    except ValueError:
        out_of_time = late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
        return {"ended": "timeout" if out_of_time else "crash"}
    return answer


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        answer: dict[str, Any] = {}
        if "preload" in job:
            for name in job["preload"]:
                try:
                    importlib.import_module(name)
                except Exception:  # noqa: S112  # what cannot be imported early is imported by the child
                    continue
        else:
            answer = _forked(Run(**job))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

"""Changes the program in one place at a time and sees whether a test notices: ``make mutants N=20 SEED=1``.

No library does this as we need it: mutmut keeps its copy and its state below the checkout, takes no sample, leaves
decorated functions alone and has no operator for a dropped call, await or assignment; cosmic-ray changes files of the
checkout and starts pytest anew for each mutant; mutatest ended before Python 3.11.

The checkout is copied first, so that it may be edited meanwhile. One run without a mutant tells which test calls which
function and what it costs; it is kept in ~/.cache/shoal/mutants until a file changes. A mutant is then run against the
tests that call its function, the cheapest first, then the simulation, until one fails.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any

from .operators import Mutation, mutations
from .sample import sample
from .worker import Run

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = Path.home() / ".cache" / "shoal" / "mutants"
LEAST_KILLED = 0.9
ROOTS = ("operator", "agent", "api")
TARGETS = (
    "operator/shoal_operator/state/**/*.py",
    "operator/shoal_operator/placement/**/*.py",
    "operator/shoal_operator/gateway/tables.py",
    "agent/shoal_agent/sync.py",
    "agent/shoal_agent/cache.py",
    "agent/shoal_agent/storage/budget.py",
    "agent/shoal_agent/storage/disk.py",
    "agent/shoal_agent/storage/fetching.py",
)
SIMULATION = "tests/simulation"
TESTS = (
    SIMULATION,
    *(f"tests/unit/{room}" for room in ("state", "placement", "containment", "gateway", "agents", "status")),
)
TESTS_OF_AGENT = ("tests/unit/agent",)
SIMULATION_SEEDS = 8  # of the plainest simulation; the others run a part of it each, one at least
UNIT_SECONDS = 20.0
"""CPU of the unit tests that a mutant has to survive, the cheapest first: some functions are called by all."""
SIMULATION_SECONDS = 60.0
"""The same of simulations (as they cost while calls are traced, about twice as much), one seed of each."""


@dataclass(frozen=True, slots=True)
class Mutant:
    file: str
    mutation: Mutation

    @property
    def key(self) -> str:
        return f"{self.file} | {self.mutation.key}"


@dataclass(frozen=True, slots=True)
class Result:
    """``how``: killed, timeout, survived or equivalent; ``by``: the test that failed; ``tests``: how many were run."""

    mutant: Mutant
    how: str
    by: str
    tests: int
    seconds: float


class Worker:
    """A process that forks a child a run. For one thread at a time."""

    def __init__(self, copy: Path) -> None:
        self._copy = copy
        self._preloaded: dict[str, Any] = {}
        self._process = self._started()

    def _started(self) -> "subprocess.Popen[str]":
        path = [str(self._copy), *(str(self._copy / root) for root in (*ROOTS, "runtimes/mlserver/plugin"))]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.worker"],
            cwd=self._copy,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path),
                "PYTHONHASHSEED": "0",
                "PYTHONDONTWRITEBYTECODE": "1",
                "SHOAL_SIMULATION_SEEDS": str(SIMULATION_SEEDS),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def preload(self, modules: list[str]) -> None:
        self._preloaded = {"preload": modules}
        self.do(self._preloaded)

    def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """The answer; ``{"ended": "crash"}`` where a mutant has ended the worker itself, which is started anew."""
        answer = self._said(job)
        if answer is None:
            self.end()
            self._process = self._started()
            self._said(self._preloaded or {"preload": []})
            return {"ended": "crash"}
        return answer

    def _said(self, job: dict[str, Any]) -> dict[str, Any] | None:
        try:
            self._pipe(self._process.stdin).write(json.dumps(job) + "\n")
            self._pipe(self._process.stdin).flush()
        except BrokenPipeError:
            return None
        answer = self._pipe(self._process.stdout).readline()
        return dict(json.loads(answer)) if answer else None

    def end(self) -> None:
        self._process.kill()  # and with it the child that it may be waiting for
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # what it was not told any more
            self._pipe(self._process.stdin).close()
        self._pipe(self._process.stdout).close()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


class Workers:
    """One for each processor."""

    def __init__(self, copy: Path, count: int) -> None:
        self._all = [Worker(copy) for _ in range(count)]
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._all:
            self._free.put(worker)

    def do(self, job: dict[str, Any]) -> dict[str, Any]:
        worker = self._free.get()
        try:
            return worker.do(job)
        finally:
            self._free.put(worker)

    def preload(self, modules: list[str]) -> None:
        for worker in self._all:
            worker.preload(modules)

    def map(self, function: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
        with ThreadPoolExecutor(len(self._all)) as pool:
            return list(pool.map(function, values))

    def end(self) -> None:
        for worker in self._all:
            worker.end()


def copied(to: Path) -> None:
    """The checkout's files, committed or not, but what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)


def targets(copy: Path) -> dict[str, str]:
    """Path → source."""
    paths = sorted({path for pattern in TARGETS for path in copy.glob(pattern)})
    return {str(path.relative_to(copy)): path.read_text() for path in paths}


def learned(copy: Path, workers: Workers, sources: dict[str, str], folders: tuple[str, ...]) -> dict[str, Any]:
    """``calls``: test → functions; ``costs``: test → CPU seconds; ``modules``; ``failed``: without a mutant."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for root in (*ROOTS, "tests") for path in (copy / root).rglob("*.py")):
        if "component" in path.parts:
            continue
        if HERE.name not in path.parts or path.name in ("worker.py", "__main__.py"):
            digest.update(path.read_bytes())
    CACHE.mkdir(parents=True, exist_ok=True)

    def one(folder: str) -> dict[str, Any]:
        kept = CACHE / f"{digest.hexdigest()}-{Path(folder).name}.json"
        if kept.exists():
            return dict(json.loads(kept.read_text()))
        run = Run([folder], [], cpu_seconds=900, wall_seconds=3600, traced=list(sources))
        answer = workers.do(asdict(run))
        say(
            f"{folder}: {answer.get('passed')} passed, {len(answer.get('failed', ()))} failed {answer.get('ended', '')}"
        )
        if not answer.get("costs") or answer["code"] not in (0, 1):  # 1: some failed
            raise SystemExit(f"the tests in {folder} do not run without a mutant: {answer}")
        kept.write_text(json.dumps(answer))
        return answer

    known: dict[str, Any] = {"calls": {}, "costs": {}, "modules": [], "failed": []}
    for answer in workers.map(one, folders):
        known["calls"] |= answer["calls"]
        known["costs"] |= answer["costs"]
        known["modules"] += [name for name in answer["modules"] if name not in known["modules"]]
        known["failed"] += answer["failed"]
    return known


def folders_for(mutants: Iterable[Mutant]) -> tuple[str, ...]:
    """The tests that these mutants need: operator and agent have nothing in common."""
    of_agent = {mutant.file.startswith("agent/") for mutant in mutants}
    return (TESTS if False in of_agent else ()) + (TESTS_OF_AGENT if True in of_agent else ())


def tests_of(mutant: Mutant, known: dict[str, Any]) -> list[str]:
    """Those that call the mutant's function, else (a constant, a class's defaults) all of its part; the cheapest first,
    and the simulation last, one seed of each of its scenes."""
    costs = {test: cost for test, cost in known["costs"].items() if test not in known["failed"]}
    function = f"{mutant.file}::{mutant.mutation.function}"
    found = [test for test in costs if function in known["calls"][test]]
    if not found:
        of_agent = mutant.file.startswith("agent/")
        found = [test for test in costs if test.startswith(TESTS_OF_AGENT) == of_agent]
    units: list[str] = []
    scenes: dict[str, str] = {}
    for test in sorted(found, key=costs.__getitem__):
        if test.startswith(SIMULATION):
            scenes.setdefault(re.sub(r"\[\d+\]$", "", test), test)
        else:
            units.append(test)
    return affordable(units, costs, UNIT_SECONDS) + affordable(scenes.values(), costs, SIMULATION_SECONDS)


def affordable(tests: Iterable[str], costs: dict[str, float], seconds: float) -> list[str]:
    """The first of them that cost no more than that together, but one at least."""
    chosen: list[str] = []
    for test in tests:
        if chosen and seconds < costs[test]:
            break
        chosen.append(test)
        seconds -= costs[test]
    return chosen


def tried(mutant: Mutant, known: dict[str, Any], workers: Workers) -> Result:
    tests = tests_of(mutant, known)
    cpu = sum(known["costs"][test] for test in tests)
    module = mutant.file.removesuffix(".py").split("/", 1)[1].replace("/", ".").removesuffix(".__init__")
    run = Run(
        paths=list(dict.fromkeys(test.split("::")[0] for test in tests)),
        tests=tests,
        # Of what the tests take, with room for another machine's mood: what hangs is ended, what is slow is not.
        cpu_seconds=int(20 + 4 * cpu),
        wall_seconds=120 + 20 * cpu,
        module=module,
        path=mutant.file,
        index=mutant.mutation.index,
    )
    begin = time.monotonic()
    answer = workers.do(asdict(run))
    seconds = time.monotonic() - begin
    if "ended" in answer:
        how, by = ("timeout", "") if answer["ended"] == "timeout" else ("killed", "the process crashed")
    elif answer["code"] == 0 and answer["passed"]:
        how, by = "survived", ""
    elif answer["failed"] or answer["code"] not in (0, 5):
        how, by = "killed", (answer["failed"] or ["pytest does not start"])[0]
    else:
        raise RuntimeError(f"{mutant.key}: no test ran: {answer}")
    say(f"{how:9} {seconds:5.1f} s  {mutant.file}:{mutant.mutation.line}  {mutant.mutation.key}  {by}")
    return Result(mutant, how, by, len(tests), seconds)


def equivalents() -> dict[str, str]:
    """Key of a mutant → why it is none."""
    lines = [line for line in (HERE / "equivalent.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {key: why for key, _, why in (line.rpartition(" | ") for line in lines)}


def report(
    results: list[Result], known: dict[str, Any], stale: list[str], command: str, total: int
) -> tuple[str, bool]:
    """The results as Markdown, and whether enough were killed."""
    counts = {how: [r.how for r in results].count(how) for how in ("killed", "timeout", "survived", "equivalent")}
    counted = len(results) - counts["equivalent"]
    share = (counts["killed"] + counts["timeout"]) / counted if counted else 1.0
    lines = [
        "# Mutation check",
        "",
        f"`{command}`, {date.today()}: {len(results)} of {total} mutants tried, {share:.1%} of {counted} killed "
        f"({counts['killed']} by a failing test, {counts['timeout']} by time); {counts['survived']} survived, "
        f"{counts['equivalent']} are equivalent (tests/mutants/equivalent.txt).",
        "",
    ]
    if known["failed"]:
        lines += ["These tests fail without any mutant, and were left out:", *(f"- {t}" for t in known["failed"]), ""]
    if stale:
        lines += ["These lines of equivalent.txt fit no mutation any more:", *(f"- {key}" for key in stale), ""]
    survivors = sorted((r for r in results if r.how == "survived"), key=lambda r: r.mutant.key)
    if survivors:
        lines += ["| survivor | what was changed | tests that ran |", "|---|---|---|"]
        for result in survivors:
            m = result.mutant.mutation
            change = f"{m.key}".replace("|", "\\|")
            lines.append(f"| {result.mutant.file}:{m.line} | `{change}` | {result.tests} |")
        lines += [""]
    return "\n".join(lines), share >= LEAST_KILLED


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Are the tests able to fail?")
    parser.add_argument("-n", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--minutes", type=float, default=math.inf, help="none is begun later than that")
    parser.add_argument("--only", default="", help="in files whose path contains this")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, help="write the report here too")
    given = parser.parse_args()
    explained = equivalents()
    with tempfile.TemporaryDirectory(prefix="shoal-mutants-") as folder:
        copy = Path(folder)
        copied(copy)
        sources = targets(copy)
        places = {file: [Mutant(file, mutation) for mutation in mutations(text)] for file, text in sources.items()}
        keys = {mutant.key for found in places.values() for mutant in found}
        wanted = {file: found for file, found in places.items() if given.only in file}
        mutants = [mutant for _, mutant in sample(wanted, given.n, given.seed)]
        if not mutants:
            raise SystemExit(f"no file of {', '.join(TARGETS)} contains {given.only!r} in its path")
        workers = Workers(copy, given.workers)
        try:
            known = learned(copy, workers, sources, folders_for(mutants))
            workers.preload(known["modules"])

            until = time.monotonic() + 60 * given.minutes

            def one(mutant: Mutant) -> Result | None:
                if time.monotonic() > until:
                    return None
                if mutant.key in explained:
                    return Result(mutant, "equivalent", explained[mutant.key], 0, 0.0)
                return tried(mutant, known, workers)

            results = [result for result in workers.map(one, mutants) if result is not None]
        finally:
            workers.end()
    only = f" ONLY={given.only}" if given.only else ""
    command = f"make mutants N={given.n} SEED={given.seed}{only}"
    total = sum(map(len, wanted.values()))
    text, enough = report(results, known, sorted(explained.keys() - keys), command, total)
    print(text)
    if given.results:
        given.results.write_text(text)
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())

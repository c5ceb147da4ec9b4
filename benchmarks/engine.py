"""What one model's change and what all models' changes cost: ``python -m benchmarks.engine`` (part of make bench-plan).

State, placement and the gateway's tables exactly as the operator runs them, without the edges: agents that do at once
what they are told. Nothing may do work for all models because one has changed, so the costs of one should not grow with
the others; and what concerns all of them is done in pieces, so the longest turn should not either. Each size runs in a
process of its own (``engine_size.py``), with ``--before FOLDER`` also with another commit's checkout.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from . import common

SIZES: Final = tuple((models, pods) for models in (10_000, 30_000, 100_000) for pods in (60, 600))
AIM_TURN_MS: Final = 50.0
AIM_DECISION_MS: Final = 2.0
PHASES: Final = {
    "apply": "all applied at once",
    "restart": "end of recovery",
    "tight": "the same, memory for half",
    "unusable": "the service unusable and usable",
    "policy": "another policy",
    "join": "a pod joins",
    "rebuild": "rebuilt after an error",
    "delete": "all deleted",
    "cold": "cold requests",
}


def measure(models: int, pods: int, tree: Path) -> common.Json:
    """One size with the operator of that checkout; see ``engine_size.measure``."""
    command = [sys.executable, "-m", "benchmarks.engine_size", f"{models}x{pods}"]
    environment = os.environ | {"PYTHONPATH": f"{tree / 'operator'}:{tree / 'api'}"}
    # From here, so that the benchmark itself is this one.
    done = subprocess.run(command, cwd=common.REPOSITORY, env=environment, check=True, capture_output=True, text=True)
    found: common.Json = json.loads(done.stdout)
    return found


def text(result: common.Json) -> str:
    before = result.get("before")
    parts = [
        common.heading("State and placement: one change, and all changes, among many models", result["context"]),
        "CPU of the operator's core, which is one thread, garbage collections included: an event or a piece of work,"
        " and the gateway's tables that follow from it. Nothing else of the operator runs during a turn.\n",
    ]
    if before is not None:
        parts.append(f"Before: commit {before}, measured in the same run.\n")
    titles = " | ".join(PHASES.values())
    parts.append(f"\nLongest turn, ms:\n\n| | | {titles} |\n" + "|---" * (len(PHASES) + 2) + "|\n")
    for size in result["sizes"]:
        for when, found in _versions(size):
            turns = " | ".join(f"{found[phase]['longest_ms']:.1f}" if phase in found else "" for phase in PHASES)
            parts.append(f"| {_size(size)} | {when} | {turns} |\n")
    titles = (
        "all applied, us a model | end of recovery, us a model | one more model, us | one deleted, us"
        " | routes sent, the service unusable and usable | cold: decision, ms | cold decisions/s"
        " | cold request in all, ms | kB a model"
    )
    parts.append(f"\nCosts:\n\n| | | {titles} |\n" + "|---" * 11 + "|\n")
    for size in result["sizes"]:
        for when, found in _versions(size):
            figures = (
                f"{1e6 * found['apply']['seconds'] / size['models']:.0f}",
                f"{1e6 * found['restart']['seconds'] / size['models']:.0f}",
                f"{found['one_more_us']:.0f}",
                f"{found['deleted_us']:.0f}",
                f"{found['unusable']['routes']:,}",
                f"{found['decision_us'] / 1e3:.2f}",
                f"{found['decisions_a_second']:.0f}",
                f"{found['cold_us'] / 1e3:.2f}",
                f"{found['bytes_a_model'] / 1e3:.1f}",
            )
            parts.append(f"| {_size(size)} | {when} | {' | '.join(figures)} |\n")
    return "".join(parts)


def _versions(size: common.Json) -> list[tuple[str, common.Json]]:
    return [(when, size[when]) for when in ("before", "now") if when in size]


def _size(size: common.Json) -> str:
    return f"{size['models']:,} on {size['pods']:,} pods"


def _commit(tree: Path) -> str:
    done = subprocess.run(["git", "-C", str(tree), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()[:7]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure state and placement.")
    parser.add_argument("--before", type=Path, help="a checkout of another commit, to be measured in the same run")
    parser.add_argument(
        "--before-models", type=int, default=10_000, help="measure that up to so many models: it may be slow"
    )
    parser.add_argument("--sizes", nargs="*", help="MODELSxPODS ...; else all")
    options = parser.parse_args(arguments)
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes] if options.sizes else SIZES
    result: common.Json = {"context": common.context(), "sizes": []}
    if options.before is not None:
        result["before"] = _commit(options.before)
    for models, pods in sizes:
        found: common.Json = {"models": models, "pods": pods}
        for when, tree in (("before", options.before), ("now", common.REPOSITORY)):
            if tree is not None and (when == "now" or models <= options.before_models):
                print(f"{models:,} models on {pods:,} pods, {when}", flush=True)
                found[when] = measure(models, pods, tree)
        result["sizes"].append(found)
        files = common.write("engine", result, text(result))  # what there is so far
    print(text(result))
    for file in files:
        print(f"written: {file.relative_to(common.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What every benchmark needs: open-loop load by vegeta, CPU of a process, medians with spread, results with context."""

import asyncio
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
VEGETA = REPOSITORY / ".local" / "bin" / "vegeta"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One request of a load; vegeta sends the targets in turn."""

    url: str
    host: str
    body: Path


@dataclass(frozen=True, slots=True)
class Attack:
    """What a load measured. Latencies in milliseconds; ``rate`` is answered requests per second."""

    requests: int
    rate: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    failed: int
    codes: dict[str, int]  # answers by status code; 0: none came
    answers: str  # status codes and the first errors, for the message when something failed
    results: Path  # vegeta's own file, with every answer


async def attack(
    targets: list[Target], folder: Path, *, seconds: float, rate: int = 0, workers: int = 16, patience: float = 30.0
) -> Attack:
    """Send ``rate`` requests per second whatever comes back; 0: as many as ``workers`` connections take. Each is given
    up after ``patience`` seconds.

    ``results`` is overwritten by the next attack with this folder. Raises RuntimeError when vegeta is missing.
    """
    if not VEGETA.exists():
        raise RuntimeError(f"{VEGETA} is missing: make tools builds it")
    file = folder / "targets.txt"
    file.write_text(
        "\n\n".join(
            f"POST {each.url}\nHost: {each.host}\nContent-Type: application/json\n@{each.body}" for each in targets
        )
    )
    pace = ["-rate", str(rate)] + (["-max-workers", str(workers)] if rate == 0 else [])
    output = folder / "attack.bin"
    limit = ["-timeout", f"{patience}s", "-output", str(output)]
    await _run(str(VEGETA), "attack", "-targets", str(file), "-duration", f"{seconds}s", *limit, *pace)
    report = json.loads(await _run(str(VEGETA), "report", "-type=json", str(output)))
    latencies = report["latencies"]
    sent = report["requests"]
    good = report["status_codes"].get("200", 0)
    answers = f"{report['status_codes']} {report['errors'][:3]}"
    return Attack(
        requests=sent,
        rate=report["throughput"],
        mean=latencies["mean"] / 1e6,
        p50=latencies["50th"] / 1e6,
        p90=latencies["90th"] / 1e6,
        p95=latencies["95th"] / 1e6,
        p99=latencies["99th"] / 1e6,
        max=latencies["max"] / 1e6,
        failed=sent - good,
        codes=report["status_codes"],
        answers=answers,
        results=output,
    )


async def _run(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {errors.decode(errors='replace')[:500]}")
    return output


def cpu_seconds(pid: int) -> float:
    """CPU time that the process's threads had, to the nanosecond (schedstat; /proc/PID/stat counts ticks of 10 ms)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def vegeta_version() -> str:
    """As pinned in cluster/tools; the binary was built without a version of its own."""
    return module_version(r"github\.com/tsenart/vegeta\S*")


def module_version(module: str) -> str:
    """The version of a Go module that cluster/tools pins; ``module``: a pattern of its name."""
    found = re.search(rf"{module} v(\S+)", (REPOSITORY / "cluster" / "tools" / "go.mod").read_text())
    return found.group(1) if found else "?"


def spread(values: list[float]) -> Json:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def context(installed: str | None = None, **versions: str) -> Json:
    """Command, commit and machine: what someone needs to judge the figures, or to repeat them. ``installed``: the
    commit that the cluster runs, when it was not built from this checkout just now."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python -m " + " ".join(["benchmarks." + Path(sys.argv[0]).stem, *sys.argv[1:]]),
        "commit": installed or _git("rev-parse", "HEAD") + (" with uncommitted changes" if changed else ""),
        "machine": {
            "cpu": cpu,
            "cores": os.cpu_count(),
            "memory_gib": round(memory / 2**30, 1),
            "kernel": platform.release(),
            "load_before": [round(value, 2) for value in os.getloadavg()],
        },
        "versions": {"python": platform.python_version(), **versions},
    }


def write(name: str, result: Json, text: str) -> list[Path]:
    """results/<name>-<date>.json and .md; a second run of a day replaces the first."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{result['context']['date'][:10]}"
    files = [RESULTS / f"{stem}.json", RESULTS / f"{stem}.md"]
    files[0].write_text(json.dumps(result, indent=1) + "\n")
    files[1].write_text(text)
    return files


def heading(title: str, about: Json) -> str:
    machine = about["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"# {title}\n\n"
        f"`{about['command']}` at {about['date']}, commit {about['commit']}.\n"
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, Linux {machine['kernel']},"
        f" load average {machine['load_before'][0]} before; {versions}.\n"
        "Client, servers and Envoy share these cores.\n\n"
    )


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()

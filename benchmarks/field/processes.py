"""Memory and processor time of a process and all that it started, from /proc."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.common import cpu_seconds

_MIB = 2**20


def memory(pid: int) -> float:
    """MiB, with what several of them share counted once (PSS)."""
    return sum(_field(each, "smaps_rollup", "Pss:") for each in family(pid)) * 1024 / _MIB


def resident(pid: int) -> float:
    """MiB (RSS), soon: for looking many times a second."""
    return sum(_field(each, "status", "VmRSS:") for each in family(pid)) * 1024 / _MIB


def used_seconds(pid: int) -> dict[int, float]:
    """Of a processor, so far, by process."""
    used: dict[int, float] = {}
    for each in family(pid):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            used[each] = cpu_seconds(each)
    return used


def spent(pid: int, before: Mapping[int, float]) -> float:
    """Seconds since; without those of processes that ended since."""
    return sum(used - before.get(each, 0.0) for each, used in used_seconds(pid).items())


def family(pid: int) -> Iterator[int]:
    """The process, its children and theirs."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            parent = _field(int(entry.name), "status", "PPid:")
            children.setdefault(parent, []).append(int(entry.name))
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        yield each
        waiting += children.get(each, [])


def _field(pid: int, file: str, name: str) -> int:
    """0 for a process that has ended."""
    try:
        text = Path(f"/proc/{pid}/{file}").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(name)), 0)

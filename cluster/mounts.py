"""Removes mounts and control groups that pods leave behind."""

import contextlib
import os
from pathlib import Path

from cluster.commands import run
from cluster.progress import wait_until

_CGROUPS = Path("/sys/fs/cgroup")
_POD_GROUP = "kubepods"


def below(folder: Path) -> list[str]:
    """The mount points below a folder, innermost first."""
    prefix = f"{folder}/"
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point.startswith(prefix):
            points.append(point)
    return points[::-1]


def unmount_below(folder: Path) -> None:
    """Unmount everything below a folder, lazily where it is busy."""
    for point in below(folder):
        if run(["umount", point], check=False).returncode != 0:
            run(["umount", "-l", point], check=False)


def pod_processes(group_name: str = _POD_GROUP) -> list[int]:
    """The processes in the pods' control groups."""
    found: set[int] = set()
    for group in _groups(group_name):
        for folder, _, _ in os.walk(group):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split())
    return sorted(found - {0})


def remove_groups(name: str = _POD_GROUP) -> None:
    """Remove control groups, the pods' or a node's; the kernel needs a moment after the last process has gone."""

    def gone() -> bool:
        for group in _groups(name):
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        return not _groups(name)

    wait_until(f"removing the control groups {name}", gone, seconds=10)


def make_groups(name: str) -> None:
    """A control group for a node, below which its kubelet makes those of its pods."""
    for parent in _hierarchies():
        (parent / name).mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # empty ones take no process
            if (parent / setting).exists() and not (parent / name / setting).read_text().strip():
                (parent / name / setting).write_text((parent / setting).read_text())


def _hierarchies() -> list[Path]:
    """One folder per controller with cgroup v1, one in all with v2."""
    if (_CGROUPS / "cgroup.procs").exists():
        return [_CGROUPS]
    return [folder for folder in _CGROUPS.iterdir() if not folder.is_symlink() and (folder / "cgroup.procs").exists()]


def _groups(name: str) -> list[Path]:
    candidates = [_CGROUPS / name, *(_CGROUPS.glob(f"*/{name}"))]
    return [group for group in candidates if group.is_dir()]

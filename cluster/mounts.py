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


def pod_processes() -> list[int]:
    """The processes in the pods' control groups."""
    found: set[int] = set()
    for group in _pod_groups():
        for folder, _, _ in os.walk(group):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split())
    return sorted(found - {0})


def remove_pod_groups() -> None:
    """Remove the pods' control groups; the kernel needs a moment after the last process has gone."""

    def gone() -> bool:
        for group in _pod_groups():
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        return not _pod_groups()

    wait_until("removing the pods' control groups", gone, seconds=10)


def _pod_groups() -> list[Path]:
    """One folder per controller with cgroup v1, one in all with v2."""
    candidates = [_CGROUPS / _POD_GROUP, *(_CGROUPS.glob(f"*/{_POD_GROUP}"))]
    return [group for group in candidates if group.is_dir()]

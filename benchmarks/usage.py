"""CPU and memory of the cluster's containers and programs, and what the API server and etcd counted.

Read from the kernel's control groups and from /proc: on the local cluster all of it runs on this machine.
"""

import os
import re
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster import layout, processes

from .common import Json, cpu_seconds

PROGRAMS: Final = ("kube-apiserver", "etcd")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_PODS: Final = "kubepods"
_LINE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds so far, and memory now: resident and not file cache, in MiB."""

    cpu: float
    memory: float


def of_pods(pods: Iterable[dict[str, Any]]) -> dict[str, Used]:
    """By container's name, summed over the pods."""
    total: dict[str, Used] = {}
    for pod in pods:
        status = pod["status"]
        for container in [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]:
            identity = str(container.get("containerID", "")).rpartition("/")[2]
            used = _container(identity) if identity else None
            if used is not None:
                before = total.get(container["name"], Used(0.0, 0.0))
                total[container["name"]] = Used(before.cpu + used.cpu, before.memory + used.memory)
    return total


def of_programs() -> dict[str, Used]:
    """The API server and etcd, which are processes of this machine."""
    found = {}
    for name in PROGRAMS:
        pid = processes.pid_of(name)
        if pid is not None:
            found[name] = of_process(pid)
    return found


def of_process(pid: int) -> Used:
    """A process: its threads' CPU, and its anonymous memory."""
    line = next(
        (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("RssAnon")), "0 0"
    )
    return Used(cpu_seconds(pid), int(line.split()[1]) / 1024)


def machine() -> float:
    """CPU seconds that all processes of the machine have used."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq = (int(field) for field in fields[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own() -> float:
    """CPU seconds of this process and of the children that it has waited for."""
    times = os.times()
    return sum(times[:4])


def since(now: dict[str, Used], before: dict[str, Used]) -> Json:
    """CPU seconds used in between, memory now, and how much it grew."""
    nothing = Used(0.0, 0.0)
    return {
        name: {
            "cpu_seconds": round(used.cpu - before.get(name, nothing).cpu, 2),
            "memory_mib": round(used.memory, 1),
            "memory_growth_mib": round(used.memory - before.get(name, nothing).memory, 1),
        }
        for name, used in now.items()
    }


def etcd() -> dict[str, float]:
    """Bytes of its database (with history, and in use), bytes that clients sent it, and puts."""
    with urllib.request.urlopen(f"http://127.0.0.1:{layout.ETCD_PORT}/metrics", timeout=10) as answer:
        values = {name: value for name, _, value in samples(answer.read().decode())}
    return {
        "database_bytes": values["etcd_mvcc_db_total_size_in_bytes"],
        "database_in_use_bytes": values["etcd_mvcc_db_total_size_in_use_in_bytes"],
        "received_bytes": values["etcd_network_client_grpc_received_bytes_total"],
        "puts": values["etcd_mvcc_put_total"],
    }


def api_writes(metrics: str) -> dict[str, float]:
    """Writes that the API server answered, by ``VERB resource/subresource``, from its /metrics."""
    counts: dict[str, float] = {}
    for name, written, value in samples(metrics):
        if name != "apiserver_request_total":
            continue
        found = labels(written)
        if found.get("verb") in {"POST", "PUT", "PATCH", "APPLY", "DELETE"}:
            what = found.get("resource", "") + (f"/{found['subresource']}" if found.get("subresource") else "")
            key = f"{found['verb']} {what} {found.get('code', '')}"
            counts[key] = counts.get(key, 0.0) + value
    return counts


def difference(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """What grew, and by how much."""
    return {key: value - before.get(key, 0.0) for key, value in now.items() if value != before.get(key, 0.0)}


def samples(text: str) -> Iterable[tuple[str, str, float]]:
    """Name, labels as written, and value of each line of Prometheus' text format."""
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is not None:
            yield found.group(1), found.group(2) or "", float(found.group(3))


def labels(written: str) -> dict[str, str]:
    """Labels by name, of what ``samples`` gives."""
    return dict(re.findall(r'(\w+)="([^"]*)"', written))


def _container(identity: str) -> Used | None:
    """Control groups of version 1 (a tree per controller) or 2 (one tree)."""
    cpu = _find(_CGROUPS / "cpuacct" / _PODS, identity) or _find(_CGROUPS / _PODS, identity)
    if cpu is None:
        return None
    usage = cpu / "cpuacct.usage"
    if usage.exists():
        memory = _find(_CGROUPS / "memory" / _PODS, identity)
        counted = dict(line.split() for line in (memory / "memory.stat").read_text().splitlines()) if memory else {}
        return Used(int(usage.read_text()) / 1e9, int(counted.get("total_rss", 0)) / 2**20)
    stat = dict(line.split() for line in (cpu / "cpu.stat").read_text().splitlines())
    counted = dict(line.split() for line in (cpu / "memory.stat").read_text().splitlines())
    return Used(int(stat["usage_usec"]) / 1e6, int(counted["anon"]) / 2**20)


def _find(root: Path, identity: str) -> Path | None:
    """The container's group: its folder is named after it, at most three below (class of service, pod)."""
    if not root.is_dir():
        return None
    for folder, names, _ in os.walk(root):
        for name in names:
            if identity in name:
                return Path(folder) / name
    return None

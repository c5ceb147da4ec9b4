"""Says of each further node what runs, and what was done to it."""

from collections.abc import Iterator
from pathlib import Path

from cluster import processes
from cluster.nodes import machine, wiring
from cluster.nodes.node import Node, present


def lines() -> Iterator[str]:
    for node in present():
        yield f"{node.name} (zone {node.zone}, {node.address}, pods {node.pod_network}): {_power(node)}"
        for name in processes.recorded():
            if name.startswith(node.prefix) and name != node.machine:
                yield f"  {name.removeprefix(node.prefix)}: {state(name)}"


def state(name: str) -> str:
    """Whether a recorded program runs."""
    pid = processes.pid_of(name)
    if pid is None:
        return "not running"
    return f"{'frozen' if _stopped(pid) else 'running'} as {pid}"


def _power(node: Node) -> str:
    if machine.init(node) is None:
        return "off"
    return "on, cut off" if wiring.is_cut(node) else "on"


def _stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False

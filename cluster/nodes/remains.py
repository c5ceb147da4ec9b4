"""Removes what further nodes leave on the machine, whatever became of the command that made them."""

from cluster import mounts, processes
from cluster.nodes import wiring
from cluster.nodes.node import every


def end() -> None:
    """End the processes that hold nodes' namespaces, also those that nothing recorded; with them goes all inside."""
    for node in every():
        processes.kill_all(processes.pids_whose_command_names(node.state))


def clear() -> None:
    """Remove cables, routes and control groups of nodes that have ended."""
    for node in every():
        processes.kill_all(mounts.pod_processes(node.name))
        mounts.remove_groups(node.name)
        wiring.disconnect(node)
    wiring.remove_switch()

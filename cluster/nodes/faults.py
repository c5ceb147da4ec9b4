"""Hurts a further node, for tests and for people, and makes it well again."""

import signal
from collections.abc import Callable
from typing import Final

from cluster import ownership, processes
from cluster.nodes import lifecycle, machine, wiring
from cluster.nodes.node import Node, named
from cluster.progress import ClusterError, say


def perform(what: str, name: str) -> None:
    """Do one of the FAULTS to a node, by its name or zone."""
    with ownership.alone():
        node = named(name)
        if what not in _WITHOUT_POWER and machine.init(node) is None:
            raise ClusterError(f"{node.name} is off: python -m cluster node on {node.name}")
        FAULTS[what](node)
        say(f"{node.name}: {what}")


def _heal(node: Node) -> None:
    wiring.heal(node)
    processes.send(f"{node.prefix}kubelet", signal.SIGCONT)


def _freeze_kubelet(node: Node) -> None:
    if not processes.send(f"{node.prefix}kubelet", signal.SIGSTOP):
        raise ClusterError(f"the kubelet of {node.name} does not run: python -m cluster node on {node.name}")


def _on(node: Node) -> None:
    processes.send(f"{node.prefix}kubelet", signal.SIGCONT)
    lifecycle.switch_on(node)


FAULTS: Final[dict[str, Callable[[Node], None]]] = {
    "cut": wiring.cut,
    "heal": _heal,
    "off": lifecycle.switch_off,
    "on": _on,
    "freeze-kubelet": _freeze_kubelet,
}
_WITHOUT_POWER = ("on", "off")

"""The switch between the nodes, and each node's cable to it. The first node is everybody's router."""

import json

from cluster import network
from cluster.commands import run
from cluster.layout import NODES_BRIDGE, NODES_ROUTER_IP
from cluster.nodes.node import Node

_PREFIX = 24


def connect(node: Node, init: int) -> None:
    """Lay the cable to the switch, which is there, or plug it in again; ``init``: the process that holds the node's
    namespaces."""
    inside = ("nsenter", "-t", str(init), "-n", "--")
    if run([*inside, "ip", "link", "show", "eth0"], check=False).returncode != 0:
        run(["ip", "link", "delete", node.link], check=False)  # one that led to what the node was before
        run(["ip", "link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", str(init)])
    run(["ip", "link", "set", node.link, "master", NODES_BRIDGE])
    run(["ip", "link", "set", node.link, "up"])
    run([*inside, "ip", "link", "set", "eth0", "address", node.hardware_address])
    run([*inside, "ip", "address", "replace", f"{node.address}/{_PREFIX}", "dev", "eth0"])
    run([*inside, "ip", "link", "set", "eth0", "up"])
    run([*inside, "ip", "route", "replace", "default", "via", NODES_ROUTER_IP])
    run(["ip", "route", "replace", node.pod_network, "via", node.address])


def cut(node: Node) -> None:
    """Pull the cable: nothing arrives, and nobody is told so."""
    run(["ip", "link", "set", node.link, "down"], check=False)


def heal(node: Node) -> None:
    run(["ip", "link", "set", node.link, "up"])


def is_cut(node: Node) -> bool:
    """Whether the cable is pulled; also while the node is off and has none."""
    found = _link(node)
    return not found or "UP" not in found[0].get("flags", [])


def disconnect(node: Node) -> None:
    """Take the cable and the way to the node's pods away."""
    run(["ip", "route", "delete", node.pod_network, "via", node.address], check=False)
    run(["ip", "link", "delete", node.link], check=False)


def remove_switch() -> None:
    network.remove_forwarding(NODES_BRIDGE)
    run(["ip", "link", "delete", NODES_BRIDGE], check=False)


def ensure_switch() -> None:
    """Once, before nodes start side by side: two at a time would each add its rules."""
    if run(["ip", "link", "show", NODES_BRIDGE], check=False).returncode != 0:
        run(["ip", "link", "add", NODES_BRIDGE, "type", "bridge"], check=False)
    run(["ip", "address", "replace", f"{NODES_ROUTER_IP}/{_PREFIX}", "dev", NODES_BRIDGE])
    run(["ip", "link", "set", NODES_BRIDGE, "up"])
    network.ensure_forwarding(NODES_BRIDGE)


def _link(node: Node) -> list[dict[str, list[str]]]:
    answer = run(["ip", "-j", "link", "show", "dev", node.link], check=False)
    if answer.returncode != 0 or not answer.stdout.strip():
        return []
    found: list[dict[str, list[str]]] = json.loads(answer.stdout)
    return found

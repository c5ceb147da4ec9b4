"""Finds an address of a NodePort that this machine reaches without a port-forward."""

import socket
import time

from demo import kubernetes
from demo.failure import DemoError

_CONNECT_TIMEOUT_SECONDS = 2.0
_ATTEMPTS_SECONDS = 60.0


def of_node_port(port: int) -> str:
    """``<address>:<port>`` that accepts a connection: loopback first, then every node's addresses.

    Raises DemoError when none does within a minute.
    """
    deadline = time.monotonic() + _ATTEMPTS_SECONDS
    candidates = ["127.0.0.1", *_node_addresses()]
    while time.monotonic() < deadline:
        for address in candidates:
            if _accepts(address, port):
                return f"{address}:{port}"
        time.sleep(0.5)
    raise DemoError(f"NodePort {port} answers on none of {', '.join(candidates)}; is a firewall in between?")


def _node_addresses() -> list[str]:
    nodes = kubernetes.get("nodes")["items"]
    found = [entry for node in nodes for entry in node["status"].get("addresses", [])]
    found.sort(key=lambda entry: entry["type"] != "ExternalIP")
    return [entry["address"] for entry in found if entry["type"] in ("ExternalIP", "InternalIP")]


def _accepts(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=_CONNECT_TIMEOUT_SECONDS):
            return True
    except OSError:
        return False

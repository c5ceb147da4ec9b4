"""Ports for the servers that tests start: free, never given twice, and out of the way of outgoing connections."""

import random
import socket
from typing import Final

_RANGE: Final = range(12_000, 30_000)
"""Between those of Kubernetes' own programs and its node ports, below those that the kernel takes for outgoing
connections (/proc/sys/net/ipv4/ip_local_port_range): a port between being given and being bound is nobody else's."""
_given: set[int] = set()
_random = random.Random()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has on ``host``, and that no other call in this process was given.

    Raises OSError when a thousand tries found none.
    """
    for _ in range(1000):
        port = _random.choice(_RANGE)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError(f"no free port on {host} among {_RANGE}")

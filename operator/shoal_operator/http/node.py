"""Whose addresses probes and ``kubectl port-forward`` come from. Others of the cluster's pods cannot have them."""

import contextlib
import ipaddress
from collections.abc import Callable
from pathlib import Path

_IPV4_ROUTES, _IPV6_ROUTES = Path("/proc/net/route"), Path("/proc/net/ipv6_route")


def is_loopback(address: str) -> bool:
    """The kubelet lets port-forward in by the pod's own loopback."""
    return address.startswith("127.") or address == "::1"


def nodes(host_ip: str) -> Callable[[str], bool]:
    """Whether an address is loopback or this pod's node: its own (``host_ip``), or, as bridges have it, the gateway of
    the pod's default route."""
    own = {host_ip, *gateways()} - {""}
    return lambda address: is_loopback(address) or address in own


def gateways(ipv4: Path = _IPV4_ROUTES, ipv6: Path = _IPV6_ROUTES) -> frozenset[str]:
    """Of the default routes, as Linux lists them; without them none."""
    found = set()
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in ipv4.read_text().splitlines()[1:]:
            _, destination, gateway, *_ = line.split()
            if int(destination, 16) == 0 and int(gateway, 16) != 0:
                found.add(str(ipaddress.IPv4Address(bytes.fromhex(gateway)[::-1])))
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in ipv6.read_text().splitlines():
            destination, length, _, _, gateway, *_ = line.split()
            if int(destination, 16) == 0 and int(length, 16) == 0 and int(gateway, 16) != 0:
                found.add(str(ipaddress.IPv6Address(bytes.fromhex(gateway))))
    return frozenset(found)

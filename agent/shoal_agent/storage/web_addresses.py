"""Which addresses a web server may have that the agent asks.

Whoever writes a storageUri has the agent ask from inside the cluster: what is not public is refused unless the chart
allows it, and what nobody keeps models on is refused always: this pod itself (its model server's management has no
login), the node's link, where clouds keep credentials, and what is no host's address.
"""

import ipaddress
import socket
from dataclasses import dataclass
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from . import STORAGE_ACCESS_DENIED, StorageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")))
"""Where clouds tell machines their credentials, beside the link's own addresses: AWS over IPv6, Alibaba, Azure."""
_TRANSLATED: Final = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: an IPv4 address is in the last four bytes."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """``private``: addresses that are not public. ``loopback``: for servers on this machine, as tests have."""

    private: bool = False
    loopback: bool = False

    def refuse(self, address: Address, host: str) -> None:
        """Raises StorageError (StorageAccessDenied) for an address that is not asked; ``host`` is what was written."""
        meant = _meant(address)
        if meant.is_loopback and self.loopback:
            return
        if (
            meant.is_loopback
            or meant.is_link_local
            or meant.is_multicast
            or meant.is_unspecified
            or meant.is_reserved
            or meant in _METADATA
        ):
            raise StorageError(
                STORAGE_ACCESS_DENIED,
                f"{host} is an address of this pod or of its node's link, or nobody's: no model is fetched from there. "
                "Copy the artifact to a store, or to a web server.",
            )
        if not self.private and not meant.is_global:
            raise StorageError(
                STORAGE_ACCESS_DENIED,
                f"{host} is no public address, and only those are asked (Helm value agent.artifacts.privateAddresses "
                "allows others). Copy the artifact to a store, or to a public server.",
            )

    def refuse_written(self, host: str) -> None:
        """The same for an address that is written out, which no resolver is asked for."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return
        self.refuse(address, host)


PUBLIC: Final = Allowed()


class Checked(AbstractResolver):
    """Names whose every address is allowed: one that is both would be a way round."""

    def __init__(self, resolver: AbstractResolver, allowed: Allowed) -> None:
        self._resolver, self._allowed = resolver, allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            self._allowed.refuse(ipaddress.ip_address(each["host"].partition("%")[0]), host)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def _meant(address: Address) -> Address:
    """The IPv4 address that one of IPv6 leads to, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(address.packed[-4:])
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour or address

"""A user's or runtime's probes and hooks of the model server: which can pass here. Pure.

Where the server listens is Shoal's to say. A probe that asks elsewhere (another port than the server has here, a port
by a name that the container has no more, TLS) would never pass, and the kubelet would end the server for it, again and
again.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from shoal_operator.server_profile import Ports

Object = Mapping[str, Any]

KINDS = ("livenessProbe", "startupProbe")
"""Those that a user may write; readiness is Shoal's own."""


def that_can_pass(probe: Object, ports: Ports, written: Iterable[Object]) -> dict[str, Any] | None:
    """The probe or hook with its port as a number; None where nobody answers. ``written``: the container's ports as the
    user has them. What runs a program, or asks another host, is left as it is."""
    for kind in ("httpGet", "tcpSocket", "grpc"):
        asked = probe.get(kind)
        if not isinstance(asked, Mapping) or asked.get("host"):
            continue
        port = _number(asked.get("port"), ports, written)
        if port not in ports.by_name().values() or str(asked.get("scheme") or "HTTP").upper() != "HTTP":
            return None
        return {**probe, kind: {**asked, "port": port}}
    return dict(probe)


def _number(port: Any, ports: Ports, written: Iterable[Object]) -> Any:
    """Of a name, what it stands for: Shoal's own names come first, as they do in the pod."""
    named = {str(each["name"]): each.get("containerPort") for each in written if each.get("name")}
    return {**named, **ports.by_name()}.get(port, port) if isinstance(port, str) else port

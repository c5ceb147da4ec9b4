"""Where a node's programs keep what is theirs, and the names and addresses they go by.

The first node's place is that of the cluster itself; a further node has a folder of its own for everything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster import layout


@dataclass(frozen=True)
class Place:
    """One node. ``prefix`` begins the names of its programs' records and logs, ``suffix`` ends its certificates'."""

    node: str
    zone: str
    address: str
    api_address: str
    pod_network: str
    state: Path
    run: Path
    config: Path
    prefix: str = ""
    suffix: str = ""
    max_pods: int = layout.MAX_PODS
    kubelet_settings: Mapping[str, object] = field(default_factory=dict)
    kubelet_flags: Mapping[str, object] = field(default_factory=dict)
    enter: tuple[str, ...] = ()

    @property
    def containerd_root(self) -> Path:
        return self.state / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def kubelet_root(self) -> Path:
        return self.state / "kubelet"

    @property
    def pod_logs(self) -> Path:
        return self.state / "pod-logs"

    @property
    def cni(self) -> Path:
        return self.config / "cni"


FIRST = Place(
    node=layout.NODE_NAME,
    zone="a",
    address=layout.NODE_IP,
    api_address="127.0.0.1",
    pod_network=layout.POD_NETWORK,
    state=layout.STATE,
    run=layout.RUN,
    config=layout.CONFIG,
)

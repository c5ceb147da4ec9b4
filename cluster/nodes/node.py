"""What a further node is called, and where it and its pods are."""

from dataclasses import dataclass
from pathlib import Path

from cluster.layout import NODE_IP, RUN, STATE
from cluster.place import Place
from cluster.progress import ClusterError

_ZONES = "abcdefgh"
MOST = len(_ZONES)
_FOLDER = STATE / "nodes"
_MAX_PODS = 110
_MEMORY_OFFERED = 4 * 1024**3
_MEMORY_LEFT = 2 * 1024**3


@dataclass(frozen=True)
class Node:
    """A further node, by its number: 1 is in zone b."""

    number: int

    @property
    def zone(self) -> str:
        return _ZONES[self.number]

    @property
    def name(self) -> str:
        """What Kubernetes calls it; its control group too."""
        return f"shoal-{self.zone}"

    @property
    def prefix(self) -> str:
        """How the names of its programs' records and logs begin."""
        return f"node-{self.zone}-"

    @property
    def machine(self) -> str:
        """The record of the process that holds its namespaces."""
        return f"{self.prefix}machine"

    @property
    def link(self) -> str:
        """Its cable's end at the switch."""
        return f"shoaln-{self.zone}"

    @property
    def address(self) -> str:
        return f"10.250.0.{10 + self.number}"

    @property
    def hardware_address(self) -> str:
        """The same after every start, so that nobody remembers a wrong one."""
        return f"02:00:0a:fa:00:{10 + self.number:02x}"

    @property
    def pod_network(self) -> str:
        return f"10.244.{3 + self.number}.0/24"

    @property
    def state(self) -> Path:
        """What is on its disk."""
        return _FOLDER / self.zone

    @property
    def run(self) -> Path:
        """What it forgets when it is switched off."""
        return RUN / "nodes" / self.zone

    def place(self, init: int) -> Place:
        """For programs of the node; ``init``: the process that holds its namespaces."""
        return Place(
            node=self.name,
            zone=self.zone,
            address=self.address,
            api_address=NODE_IP,
            pod_network=self.pod_network,
            state=self.state,
            run=self.run,
            config=self.state / "config",
            prefix=self.prefix,
            suffix=f"-{self.zone}",
            max_pods=_MAX_PODS,
            kubelet_settings={
                "cgroupRoot": f"/{self.name}",
                # Every kubelet sees the whole machine: without this, each node would offer all of its memory.
                "systemReserved": {"memory": str(max(_memory() - _MEMORY_OFFERED, _MEMORY_LEFT))},
            },
            kubelet_flags={"node-labels": f"topology.kubernetes.io/zone={self.zone}"},
            enter=("nsenter", "-t", str(init), "-n", "-m", "-p", "--wd=/", "--"),
        )


def further(count: int) -> list[Node]:
    """The further nodes of a cluster of so many."""
    if not 1 <= count <= MOST:
        raise ClusterError(f"NODES={count}: a cluster here has 1 to {MOST} nodes")
    return [Node(number) for number in range(1, count)]


def present() -> list[Node]:
    """Those that were made and not removed, switched off or not."""
    return [node for node in every() if node.state.exists()]


def every() -> list[Node]:
    """All that there may be."""
    return further(MOST)


def named(name: str) -> Node:
    """A node by its name or zone. Raises ClusterError when there is none."""
    found = [node for node in present() if name in (node.name, node.zone)]
    if not found:
        there = ", ".join(node.name for node in present()) or "none: make cluster NODES=3"
        raise ClusterError(f"{name} is no further node of this cluster; there are: {there}")
    return found[0]


def _memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ClusterError("/proc/meminfo has no line MemTotal")

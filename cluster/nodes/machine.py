"""Switches a node on and off: a process that holds network, mount and process namespaces, and a control group.

When that process is killed, the kernel ends every process of the node, pods included, and drops its mounts and its
end of the cable.
"""

import shutil
import signal

from cluster import mounts, processes
from cluster.layout import RUN, STATE
from cluster.nodes.node import Node
from cluster.processes import Program
from cluster.progress import ClusterError, wait_until

_START_SECONDS = 20.0
_READY = "switched-on"
_PRIVATE = {
    # The kubelet's socket for device plug-ins, CNI's results, the shims' sockets: the same path in every program.
    "/var/lib/kubelet": "var-lib-kubelet",
    "/var/lib/cni": "var-lib-cni",
    "/var/log/containers": "var-log-containers",
    "/run/containerd": "run-containerd",
}
_SCRIPT = (
    """
set -e
state=$1 run=$2 all_state=$3 all_run=$4
shift 4
# The copies of the first node's mounts would keep its pods' volumes busy.
awk '{print $5}' /proc/self/mountinfo | grep -E "^($all_state|$all_run)/" | tac | while read -r mount; do
  umount -l "$(printf %b "$mount")" || true
done
while (($#)); do
  mkdir -p "$1" "$2"
  mount --bind "$2" "$1"
  shift 2
done
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
if [[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]]; then
  echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
fi
touch "$run/"""
    + _READY
    + """"
# A shell, because the first process of the namespace inherits orphans and has to reap them.
while :; do sleep 1000 & wait $!; done
"""
)
_NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation", "private")


def init(node: Node) -> int | None:
    """The process that holds a node's namespaces; None while it is off."""
    return processes.pid_of(node.machine)


def switch_on(node: Node) -> int:
    """Start a node's namespaces unless they are there; the process that holds them."""
    running = init(node)
    if running is not None and (node.run / _READY).exists():
        return running
    switch_off(node)
    shutil.rmtree(node.run, ignore_errors=True)
    node.run.mkdir(parents=True)
    node.state.mkdir(parents=True, exist_ok=True)
    mounts.remove_groups(node.name)
    mounts.make_groups(node.name)
    binds = [word for target, name in _PRIVATE.items() for word in (target, str(_private(node, name)))]
    script = ("bash", "-c", _SCRIPT, "shoal-node", str(node.state), str(node.run), str(STATE), str(RUN), *binds)
    processes.start(Program(node.machine, script, enter=("unshare", *_NAMESPACES, "--")))

    def ready() -> bool:
        if not processes.running(node.machine):
            raise ClusterError(f"{node.name} does not start:\n{processes.tail(node.machine)}")
        return (node.run / _READY).exists()

    wait_until(f"switching {node.name} on", ready, _START_SECONDS, interval=0.02)
    started = init(node)
    if started is None:
        raise ClusterError(f"{node.name} ended at once:\n{processes.tail(node.machine)}")
    return started


def switch_off(node: Node) -> None:
    """End every process of a node at once, as without power; what is on its disk stays."""
    processes.send(node.machine, signal.SIGKILL)
    processes.kill_recorded(node.prefix)
    processes.kill_all(processes.pids_whose_command_names(node.state))


def _private(node: Node, name: str) -> str:
    return f"{node.run if name.startswith('run-') else node.state}/{name}"

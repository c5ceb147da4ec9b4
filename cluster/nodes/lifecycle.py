"""Brings a cluster to the number of nodes that is asked for, beside the first one, which is left alone."""

import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor

from cluster import binaries, certificates, mounts, network, node_programs, ownership, processes
from cluster.commands import run
from cluster.layout import NODE_NAME, ZONE_LABEL
from cluster.lifecycle import kubectl, launch
from cluster.nodes import image_store, machine, metrics, policies, wiring
from cluster.nodes.node import Node, further, present
from cluster.place import FIRST, Place
from cluster.progress import ClusterError, say, step, wait_until

_BRIDGE = "cni0"
_READY_SECONDS = 120.0
_FIGURES_SECONDS = 60.0
_DRAIN_SECONDS = 120
_KUBECTL_SECONDS = "20s"


def converge(count: int) -> None:
    """So many nodes, zones and enforced policies where they are several; nothing of it where it is one."""
    wanted = further(count)
    surplus = [node for node in present() if node not in wanted]
    if not wanted and not surplus and policies.NAME not in processes.recorded():
        return
    with ownership.alone():
        _remove(surplus)
        if not wanted:
            _remove_what_several_share()
            return
        with step(f"nodes {', '.join(node.name for node in wanted)}"):
            _ensure_what_several_share()
            with ThreadPoolExecutor(len(wanted)) as side_by_side:
                list(side_by_side.map(switch_on, wanted))
            wait_until("waiting for the metrics server's figures", metrics.answers, _FIGURES_SECONDS)


def switch_on(node: Node) -> None:
    """Start a node, or what of it does not run, and wait until Kubernetes calls it Ready."""
    certificates.ensure_node(node.name, node.address, f"-{node.zone}")
    init = machine.switch_on(node)
    place = node.place(init)
    wiring.connect(node, init)
    network.write_cni_configuration(place, _BRIDGE)
    if not processes.running(f"{node.prefix}containerd"):
        image_store.ensure(place)
    launch(node_programs.containerd(place), lambda: _containerd_answers(place))
    kubernetes = binaries.ensure(binaries.KUBERNETES)
    policies.ensure_rules(place)
    launch(node_programs.kube_proxy(kubernetes, place))
    launch(policies.agent(place))
    kubelet = node_programs.kubelet(kubernetes, place)

    def ready() -> bool:
        processes.start(kubelet)  # again, where it came before containerd's part for Kubernetes was there
        with contextlib.suppress(ClusterError):
            return is_ready(node.name)
        return False

    try:
        wait_until(f"waiting for {node.name} to be Ready", ready, _READY_SECONDS)
    except ClusterError as failure:
        raise ClusterError(f"{failure}\n{processes.tail(kubelet.name)}") from None


def switch_off(node: Node) -> None:
    """As without power: the cable first, since a machine without power does not say that its connections end."""
    wiring.cut(node)
    machine.switch_off(node)


def is_ready(name: str) -> bool:
    """Whether Kubernetes calls a node Ready."""
    condition = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    return kubectl("get", "node", name, "-o", condition) == "True"


def _containerd_answers(place: Place) -> bool:
    return run(["ctr", "--address", place.containerd_socket, "version"], check=False).returncode == 0


def _ensure_what_several_share() -> None:
    wiring.ensure_switch()
    label(NODE_NAME, f"{ZONE_LABEL}={FIRST.zone}")
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=shoal-cluster")
    kubectl(*apply, "-f", str(policies.MANIFEST))
    launch(policies.agent(FIRST))
    policies.ensure_rules(FIRST)
    metrics.ensure()


def _remove_what_several_share() -> None:
    with step("removing what only several nodes need"):
        metrics.remove()
        policies.remove_rules()
        kubectl("delete", "-f", str(policies.MANIFEST), "--ignore-not-found", f"--timeout={_KUBECTL_SECONDS}")
        label(NODE_NAME, f"{ZONE_LABEL}-")
        wiring.remove_switch()
        processes.stop(policies.NAME)  # last: its record says that there is something to remove


def label(node: str, word: str) -> None:
    kubectl("label", "node", node, word, "--overwrite")


def _remove(nodes: list[Node]) -> None:
    """Take nodes away as one does with a node in use: its pods go elsewhere first."""
    for node in nodes:
        with contextlib.suppress(ClusterError):  # Kubernetes may not know it
            kubectl("cordon", node.name)
    for node in nodes:
        with step(f"removing {node.name}"):
            _drain(node)
            switch_off(node)
            gone = ("--ignore-not-found", f"--timeout={_KUBECTL_SECONDS}")
            left = ("--all-namespaces", f"--field-selector=spec.nodeName={node.name}", "--force", "--grace-period=0")
            kubectl("delete", "pods", *left, *gone)
            kubectl("delete", "node", node.name, *gone)
            wiring.disconnect(node)
            mounts.remove_groups(node.name)
            for folder in (node.run, node.state):
                shutil.rmtree(folder, ignore_errors=True)


def _drain(node: Node) -> None:
    """A node that does not answer is not waited for: its pods end with it."""
    try:
        if machine.init(node) is None or wiring.is_cut(node) or not is_ready(node.name):
            return
        how = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--timeout={_DRAIN_SECONDS}s")
        kubectl("drain", node.name, *how, timeout=_DRAIN_SECONDS + 30)
    except ClusterError as failure:
        say(f"{node.name} is removed with pods on it: {str(failure).splitlines()[-1]}")

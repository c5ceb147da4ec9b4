"""NetworkPolicies that are enforced: each node's packet filter asks a program of that node about new connections.

kube-network-policies would install such rules itself, through nftables' queue, which not every kernel has; what
iptables does is the same. A connection is judged twice, where it leaves a pod and where it arrives. Where the program
does not run, everything is let through, as on a cluster without it.
"""

from pathlib import Path

from cluster import binaries, certificates
from cluster.commands import run
from cluster.configuration import program
from cluster.network import COMMENT, POLICY_CHAIN
from cluster.node_programs import kubeconfig_of
from cluster.place import FIRST, Place
from cluster.processes import Program

NAME = "network-policies"
MANIFEST = Path(__file__).resolve().parent / "manifests" / "network-policies.yaml"
_QUEUE = "98"
_HOOK = ("POSTROUTING", "-m", "comment", "--comment", COMMENT, "-j", POLICY_CHAIN)
"""After a Service's address was replaced by a pod's, before anything replaces the sender's."""


def agent(place: Place) -> Program:
    """The program that judges, on one node."""
    certificates.ensure_user(NAME)
    kubeconfig = kubeconfig_of(place, NAME)
    binary = binaries.ensure(binaries.NETWORK_POLICIES) / NAME
    flags = {"kubeconfig": kubeconfig, "node": place.node, "queue": _QUEUE}
    return program(f"{place.prefix}{NAME}", binary, flags, (kubeconfig,), place.enter)


def ensure_rules(place: Place) -> None:
    """Hand new connections from and to a node's pods to its program."""
    filter_ = _filter(place)
    if run([*filter_, "-C", *_HOOK], check=False).returncode == 0:
        return
    run([*filter_, "-N", POLICY_CHAIN], check=False)
    run([*filter_, "-F", POLICY_CHAIN])
    # The node itself: the kubelet's probes and hooks.
    run([*filter_, "-A", POLICY_CHAIN, "-m", "owner", "--uid-owner", "0", "-j", "RETURN"])
    run([*filter_, "-A", POLICY_CHAIN, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "RETURN"])
    for direction in ("-s", "-d"):
        ask = ("-j", "NFQUEUE", "--queue-num", _QUEUE, "--queue-bypass")
        run([*filter_, "-A", POLICY_CHAIN, direction, place.pod_network, *ask])
    run([*filter_, "-A", *_HOOK])


def remove_rules() -> None:
    """From the first node; those of a further one end with it."""
    filter_ = _filter(FIRST)
    for words in (("-D", *_HOOK), ("-F", POLICY_CHAIN), ("-X", POLICY_CHAIN)):
        run([*filter_, *words], check=False)


def _filter(place: Place) -> list[str]:
    return [*place.enter, "iptables", "-w", "-t", "mangle"]

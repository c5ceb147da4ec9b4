"""The metrics server: what `kubectl top` shows and autoscalers of cpu and memory go by.

A process of the first node, as CoreDNS is; the API server finds it through a Service with an address of ours.
"""

import contextlib
from pathlib import Path

from cluster import binaries, certificates, processes
from cluster.configuration import program
from cluster.layout import NODE_IP, PKI
from cluster.lifecycle import kubectl, launch
from cluster.node_programs import kubeconfig_of
from cluster.place import FIRST
from cluster.processes import Program
from cluster.progress import ClusterError

NAME = "metrics-server"
_MANIFEST = Path(__file__).resolve().parent / "manifests" / "metrics-server.yaml"
_PORT = "4443"
_API = "v1beta1.metrics.k8s.io"
_SECONDS = "20s"


def ensure() -> None:
    """Start it, and make the API server ask it."""
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=shoal-cluster", "-f", str(_MANIFEST))
    launch(_server())


def answers() -> bool:
    """Whether it has figures."""
    with contextlib.suppress(ClusterError):
        return '"items":[{' in kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes")
    return False


def remove() -> None:
    """First from the API: one that nobody answers for would keep every namespace from being deleted."""
    kubectl("delete", "apiservice", _API, "--ignore-not-found", f"--timeout={_SECONDS}")
    kubectl("delete", "-f", str(_MANIFEST), "--ignore-not-found", f"--timeout={_SECONDS}")
    processes.stop(NAME)


def _server() -> Program:
    certificates.ensure_user(NAME)
    kubeconfig = kubeconfig_of(FIRST, NAME)
    flags = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": NODE_IP,
        "secure-port": _PORT,
        "cert-dir": PKI / "self-signed",
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-use-node-status-port": "true",
        "kubelet-certificate-authority": certificates.crt("ca"),
        "metric-resolution": "10s",
        "kubelet-request-timeout": "5s",  # it wants less than the resolution
    }
    return program(NAME, binaries.ensure(binaries.METRICS_SERVER) / NAME, flags, (kubeconfig,))

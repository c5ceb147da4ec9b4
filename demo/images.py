"""Which images the local cluster holds right now, so that a rebuilt image under the same tag restarts what runs it."""

import hashlib
import subprocess
from typing import Final

from cluster import layout
from demo import kubernetes, settings

_CONTAINERD_NAMESPACE: Final = "k8s.io"


def digest(*names: str) -> str:
    """One short hash of the named images' digests (parts of their references); empty on a cluster that is not ours."""
    if settings.foreign_kubeconfig() is not None:
        return ""
    ctr = ["ctr", f"--address={layout.CONTAINERD_SOCKET}", f"--namespace={_CONTAINERD_NAMESPACE}", "images", "ls"]
    listed = subprocess.run(ctr, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    # Columns: reference, type, digest.
    found = sorted(" ".join(line.split()[:3]) for line in listed if any(name in line.split()[0] for name in names))
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]


def restart_model_servers_if_rebuilt(namespace: str, server: str) -> None:
    """Roll the namespace's model-server pods when agent or server image changed since the last call.

    ``server``: the server's image, or a part of its name.
    """
    known = settings.WORK / f"images-of-{namespace}"
    now = digest("/shoal-agent:", server)
    if known.exists() and known.read_text() != now:
        selector = "serving.kserve.io/inferenceservice"
        found = kubernetes.kubectl("get", "deployments", "-n", namespace, "-l", selector, "-o", "name").split()
        for deployment in found:
            kubernetes.kubectl("rollout", "restart", deployment, "-n", namespace)
            kubernetes.kubectl("rollout", "status", deployment, "-n", namespace, "--timeout=300s", timeout=330)
    known.write_text(now)

"""Kills one container's process, as a crash would: no grace, no signal handler.

On the local cluster the container's own processes are on this machine, so containerd sends SIGKILL. On another
cluster the best that kubectl can do is SIGTERM to the container's first process.
"""

import subprocess
from pathlib import Path
from typing import Any, Final

from cluster import layout
from demo import kubernetes, settings

_CONTAINERD_NAMESPACE: Final = "k8s.io"


def container_status(pod: dict[str, Any], container: str) -> dict[str, Any]:
    """A container's (or native sidecar's) status in a pod as the API server has it."""
    status = pod["status"]
    every = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    found: dict[str, Any] = next(entry for entry in every if entry["name"] == container)
    return found


def kill(pod: dict[str, Any], container: str) -> None:
    """End a container's process; the kubelet restarts it."""
    if settings.foreign_kubeconfig() is not None:
        where = ["-n", pod["metadata"]["namespace"], pod["metadata"]["name"], "-c", container]
        kubernetes.kubectl("exec", *where, "--", "sh", "-c", "kill 1")
        return
    identity = container_status(pod, container)["containerID"].removeprefix("containerd://")
    ctr = ["ctr", f"--address={Path(layout.CONTAINERD_SOCKET)}", f"--namespace={_CONTAINERD_NAMESPACE}"]
    subprocess.run([*ctr, "tasks", "kill", "--signal=SIGKILL", identity], check=True, capture_output=True, timeout=30)

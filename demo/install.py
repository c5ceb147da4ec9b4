"""Cluster, images and chart: what both the demo and the end-to-end tests stand on."""

import hashlib
import json
import subprocess
import sys
from typing import Final

from demo import addresses, images, kubernetes, settings
from demo.failure import DemoError

_CHART: Final = settings.CHECKOUT / "charts" / "shoal"
_CRDS: Final = settings.CHECKOUT / "crds"
_HELM_TIMEOUT: Final = "300s"
# The tag of an image does not change when `make images` rebuilds it; the pods should be replaced all the same.
_IMAGE_ANNOTATION: Final = r"shoal\.dev/image"


def make(*targets: str) -> None:
    """Run make targets of this checkout with their output shown. Raises DemoError when one fails."""
    _shown("make", "--no-print-directory", *targets)


def build_images(*names: str) -> None:
    """`make image-<name>` for each, side by side. Raises DemoError when one fails."""
    _shown(sys.executable, "-m", "cluster", "images", *names)


def _shown(*command: str) -> None:
    done = subprocess.run(command, cwd=settings.CHECKOUT, check=False)
    if done.returncode != 0:
        raise DemoError(f"{' '.join(command)} exited with {done.returncode}; its output is above")


def chart(*more: str) -> None:
    """Install or upgrade the chart, with the gateway on a NodePort so that no port-forward is needed.

    ``more`` are further ``--set`` arguments of helm. Nothing is done when the release that runs came from the same
    chart, values and images.
    """
    values = [
        "--set=gateway.service.type=NodePort",
        "--set=agent.artifacts.keepFreePercent=1",  # the local cluster's kubelet evicts nobody
        "--set=modelMesh.podsPerRuntime=1",  # two cores run all of it
        f"--set=gateway.service.nodePort={settings.GATEWAY_NODE_PORT}",
        f"--set-string=operator.podAnnotations.{_IMAGE_ANNOTATION}={images.digest('/shoal-operator:')}",
        f"--set-string=gateway.podAnnotations.{_IMAGE_ANNOTATION}={images.digest('/envoy:')}",
        *more,
    ]
    description = f"inputs {_digest(values)}"
    if _deployed() == description and _rolled_out():
        return
    _helm(
        "upgrade",
        "--install",
        settings.RELEASE,
        str(_CHART),
        "--create-namespace",
        *values,
        f"--description={description}",
        "--wait",
        f"--timeout={_HELM_TIMEOUT}",
    )


def gateway() -> str:
    """``host:port`` of the gateway from this machine."""
    return addresses.of_node_port(settings.GATEWAY_NODE_PORT)


def _helm(*arguments: str) -> str:
    command = [kubernetes.program("helm"), *arguments, f"--namespace={settings.SYSTEM_NAMESPACE}"]
    return kubernetes.run(*command, timeout=360)


def _digest(values: list[str]) -> str:
    """A hash of all that decides what an upgrade would change."""
    digest = hashlib.sha256("\n".join(values).encode())
    for folder in (_CHART, _CRDS):
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(str(file.relative_to(settings.CHECKOUT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _deployed() -> str:
    """The description that the running release was given; empty when there is none."""
    try:
        history = json.loads(_helm("history", settings.RELEASE, "--max=1", "--output=json"))
    except DemoError:
        return ""
    last = history[-1] if history else {}
    return str(last.get("description", "")) if last.get("status") == "deployed" else ""


def _rolled_out() -> bool:
    names = [f"deployment/{settings.RELEASE}-{part}" for part in ("operator", "gateway")]
    try:
        for name in names:
            kubernetes.kubectl("rollout", "status", name, "-n", settings.SYSTEM_NAMESPACE, "--timeout=60s")
    except DemoError:
        return False
    return True

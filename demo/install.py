"""Cluster, images and chart: what both the demo and the end-to-end tests stand on."""

import subprocess

from demo import addresses, images, kubernetes, settings
from demo.failure import DemoError

_HELM_TIMEOUT = "300s"
# The tag of an image does not change when `make images` rebuilds it; the pods should be replaced all the same.
_IMAGE_ANNOTATION = r"shoal\.dev/image"


def make(*targets: str) -> None:
    """Run make targets of this checkout with their output shown. Raises DemoError when one fails."""
    done = subprocess.run(["make", "--no-print-directory", *targets], cwd=settings.CHECKOUT, check=False)
    if done.returncode != 0:
        raise DemoError(f"make {' '.join(targets)} exited with {done.returncode}; its output is above")


def chart() -> None:
    """Install or upgrade the chart, with the gateway on a NodePort so that no port-forward is needed."""
    kubernetes.run(
        kubernetes.program("helm"),
        "upgrade",
        "--install",
        settings.RELEASE,
        str(settings.CHECKOUT / "charts" / "shoal"),
        f"--namespace={settings.SYSTEM_NAMESPACE}",
        "--create-namespace",
        "--set=gateway.service.type=NodePort",
        f"--set=gateway.service.nodePort={settings.GATEWAY_NODE_PORT}",
        f"--set-string=operator.podAnnotations.{_IMAGE_ANNOTATION}={images.digest('/shoal-operator:')}",
        f"--set-string=gateway.podAnnotations.{_IMAGE_ANNOTATION}={images.digest('/envoy:')}",
        "--wait",
        f"--timeout={_HELM_TIMEOUT}",
        timeout=360,
    )


def gateway() -> str:
    """``host:port`` of the gateway from this machine."""
    return addresses.of_node_port(settings.GATEWAY_NODE_PORT)

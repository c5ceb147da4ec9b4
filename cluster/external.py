"""A cluster that the user brings (kind, cloud): checked, never changed."""

import os
from collections.abc import Sequence
from pathlib import Path

from cluster import binaries, images
from cluster.commands import find, run
from cluster.image_list import Image
from cluster.layout import KUBECONFIG
from cluster.progress import ClusterError, say


def kubeconfig() -> Path | None:
    """The kubeconfig that SHOAL_KUBECONFIG names, if any."""
    named = os.environ.get("SHOAL_KUBECONFIG", "")
    if not named:
        return None
    path = Path(named).expanduser().resolve()
    if path == KUBECONFIG:
        return None
    if not path.exists():
        raise ClusterError(f"SHOAL_KUBECONFIG names {path}, which does not exist")
    return path


def verify(config: Path) -> None:
    """Fail unless the cluster answers; say which one it is."""
    found = find("kubectl") or binaries.ensure(binaries.KUBERNETES) / "kubectl"
    asked = run([found, f"--kubeconfig={config}", "--request-timeout=10s", "version"], check=False)
    if asked.returncode != 0:
        raise ClusterError(f"the cluster of {config} does not answer:\n{asked.stderr.strip()}")
    server = next((line for line in asked.stdout.splitlines() if line.startswith("Server")), "")
    say(f"the cluster of {config} answers ({server.strip()})")


def explain_loading(built: Sequence[Image]) -> None:
    """Say how images reach a cluster that is not ours."""
    say("images are built; bring them into your cluster in one of these ways:")
    for image in built:
        tag = image.tag()
        print(f"  kind load image-archive {images.archive(image, image.digest())}")
        print(f"  buildah push {tag} docker://REGISTRY/{tag.partition('/')[2]}")

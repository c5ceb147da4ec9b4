"""Names, sizes and paths of the demo, in one place so that the commands it prints match what it did."""

import os
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent
LOCAL: Final = CHECKOUT / ".local"
WORK: Final = LOCAL / "demo"
ENVIRONMENT_FILE: Final = LOCAL / "demo.env"

RELEASE: Final = "shoal"
SYSTEM_NAMESPACE: Final = "shoal-system"
NAMESPACE: Final = "shoal-demo"
S3_NAMESPACE: Final = "shoal-demo-s3"
INFERENCE_SERVICE: Final = "demo"
PODS: Final = 3

GATEWAY_NODE_PORT: Final = 30080
S3_NODE_PORT: Final = 30070
BUCKET: Final = "models"
MODEL_MEMORY: Final = "16Mi"

ATTACK_SECONDS: Final = 20
ATTACK_RATE: Final = 100
READY_TIMEOUT_SECONDS: Final = 600.0


def foreign_kubeconfig() -> Path | None:
    """The cluster that SHOAL_KUBECONFIG names; None: the local one that `make cluster` runs."""
    given = os.environ.get("SHOAL_KUBECONFIG")
    return Path(given) if given else None


def kubeconfig() -> Path:
    """The kubeconfig that every command of the demo and of the end-to-end tests uses."""
    return foreign_kubeconfig() or LOCAL / "kubeconfig"

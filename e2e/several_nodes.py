"""Further nodes beside the one that the cluster has: brought up for a module, hurt by its tests, taken away again."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from demo import install, kubernetes, predictions, settings
from e2e.space import ROW, Space

COUNT: Final = 3
_PROBE_SECONDS: Final = 3.0


@contextmanager
def several_nodes() -> Iterator[list[str]]:
    """The names of all nodes while there are several."""
    try:
        install.make("cluster", f"NODES={COUNT}")
        yield sorted(item["metadata"]["name"] for item in kubernetes.get("nodes")["items"])
    finally:
        install.make("cluster", "NODES=1")


def hurt(what: str, node: str) -> None:
    """One of `python3 -m cluster node …`: cut, heal, off, on."""
    command = [sys.executable, "-m", "cluster", "node", what, node]
    subprocess.run(command, cwd=settings.CHECKOUT, check=True, capture_output=True, timeout=180)


def node_of(pod: dict[str, Any]) -> str:
    return str(pod["spec"].get("nodeName", ""))


def ready(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def is_ready(pod: dict[str, Any]) -> bool:
        conditions = pod["status"].get("conditions", [])
        return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)

    return [pod for pod in pods if is_ready(pod)]


def node_is_ready(name: str) -> bool:
    conditions = kubernetes.get("node", name)["status"]["conditions"]
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def all_answer(space: Space, answers: dict[str, float]) -> bool:
    """Whether every model gives its own answer within seconds, each on a connection of its own."""
    for name, right in answers.items():
        try:
            with predictions.http_client(space.target(), _PROBE_SECONDS) as client:
                response = client.post(predictions.v2_path(name), json=predictions.v2_body(ROW))
        except httpx.HTTPError:
            return False
        if response.status_code != 200:
            return False
        assert predictions.v2_answer(response.json()) == right, f"{name} was answered by another model"
    return True

"""Whose an owned object is, when a user edits the label that says so."""

from typing import Any

from shoal_operator.kube import KubeError
from shoal_operator.state.values import ServiceKey
from shoal_operator.workloads.applier import Applier


class Api:
    """Takes every apply, as the API server would."""

    def __init__(self) -> None:
        self.version = 10

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        if method != "PATCH":
            raise KubeError(404, "NotFound", path)
        self.version += 1
        return live(body["metadata"]["labels"], self.version)


def live(labels: dict[str, str], version: int) -> dict[str, Any]:
    meta = {"namespace": "ns", "name": "models", "uid": "u", "resourceVersion": str(version), "labels": labels}
    owner = {"uid": "isvc", "controller": True}
    return {"kind": "Service", "metadata": {**meta, "ownerReferences": [owner]}, "spec": {"type": "ExternalName"}}


def manifest() -> dict[str, Any]:
    labels = {"serving.kserve.io/inferenceservice": "models", "app.kubernetes.io/managed-by": "shoal"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "ns", "name": "models", "labels": labels},
        "spec": {"type": "ExternalName"},
    }


async def test_an_edited_owner_label_is_put_right() -> None:
    applier = Applier(Api())
    await applier.apply(manifest(), "isvc")
    labels = {"serving.kserve.io/inferenceservice": "someone-else", "app.kubernetes.io/managed-by": "shoal"}
    assert applier.seen(live(labels, 20)) == ServiceKey("ns", "models")


async def test_as_applied_is_nothing_to_do() -> None:
    applier = Applier(Api())
    await applier.apply(manifest(), "isvc")
    assert applier.seen(live(manifest()["metadata"]["labels"], 11)) is None

"""Whose an owned object is when a user edits its label, and what the API server's refusals come to."""

from typing import Any

import pytest
from shoal_operator.kube import KubeError
from shoal_operator.manifests.cluster.applier import PATIENCE_SECONDS, Applier, Refused
from shoal_operator.manifests.cluster.lost import CALM_SECONDS, OwnerGone
from shoal_operator.manifests.cluster.owned import object_key
from shoal_operator.state.world.values import ServiceKey
from shoal_operator.work_queue import Retry


class Api:
    """Takes every apply, as the API server would."""

    def __init__(self, error: KubeError | None = None) -> None:
        self.version = 10
        self.error = error
        self.tried = 0

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        if method != "PATCH":
            raise KubeError(404, "NotFound", path)
        self.tried += 1
        if self.error is not None:
            raise self.error
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


@pytest.mark.parametrize(
    "error",
    [
        KubeError(422, "Invalid", "spec.type: Unsupported value"),
        KubeError(400, "BadRequest", "quantities must match"),
        KubeError(500, "InternalError", "failed to create typed patch object (...): .spec.tpe: field not declared"),
    ],
)
async def test_what_cannot_be_is_sent_once_until_it_changes(error: KubeError) -> None:
    api = Api(error)
    applier = Applier(api)
    for _ in range(3):
        with pytest.raises(Refused, match="The API server refuses Service models") as caught:
            await applier.apply(manifest(), "isvc")
        assert caught.value.final
    assert api.tried == 1
    changed = manifest()
    changed["spec"]["externalName"] = "other"
    with pytest.raises(Refused):
        await applier.apply(changed, "isvc")
    assert api.tried == 2
    applier.forget(ServiceKey("ns", "models"))
    api.error = None
    await applier.apply(changed, "isvc")
    assert api.tried == 3


async def test_a_refusal_that_others_may_lift_is_tried_again() -> None:
    api = Api(KubeError(403, "Forbidden", "exceeded quota"))
    applier = Applier(api)
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await applier.apply(manifest(), "isvc")
        assert not caught.value.final
    assert api.tried == 2


async def test_a_trouble_that_should_pass_is_said_when_it_lasts() -> None:
    api, now = Api(KubeError(500, "InternalError", "failed calling webhook")), [0.0]
    applier = Applier(api, clock=lambda: now[0])
    with pytest.raises(Retry):
        await applier.apply(manifest(), "isvc")
    now[0] = PATIENCE_SECONDS
    with pytest.raises(Refused, match="failed calling webhook") as caught:
        await applier.apply(manifest(), "isvc")
    assert not caught.value.final
    api.error = KubeError(0, "TimeoutError", "no answer")  # away altogether: nobody could be told
    with pytest.raises(Retry):
        await applier.apply(manifest(), "isvc")
    api.error = None
    await applier.apply(manifest(), "isvc")
    api.error = KubeError(500, "InternalError", "failed calling webhook")
    now[0] = 1000.0
    changed = manifest()
    changed["spec"]["externalName"] = "other"
    with pytest.raises(Retry):  # patience begins anew
        await applier.apply(changed, "isvc")


class Owners(Api):
    """Knows of an InferenceService as well."""

    def __init__(self) -> None:
        super().__init__()
        self.owner: dict[str, Any] | None = {"uid": "isvc"}

    async def request(self, method: str, path: str, *, body: Any = None, **options: Any) -> dict[str, Any]:
        if method == "GET" and path.endswith("/namespaces/ns/inferenceservices/models") and self.owner is not None:
            return {"metadata": self.owner}
        return await super().request(method, path, body=body, **options)


async def test_what_is_deleted_again_and_again_is_made_again_with_growing_pauses() -> None:
    api, now = Owners(), 0.0
    applier = Applier(api, lambda: now)
    await applier.apply(manifest(), "isvc")
    waits = []
    for _ in range(10):
        assert applier.gone(object_key(manifest())) == ServiceKey("ns", "models")
        try:
            await applier.apply(manifest(), "isvc")
            waits.append(0.0)
        except Retry as retry:
            waits.append(retry.after)
            now += retry.after
            await applier.apply(manifest(), "isvc")
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    now += CALM_SECONDS
    applier.gone(object_key(manifest()))
    await applier.apply(manifest(), "isvc")
    assert api.tried == 12


@pytest.mark.parametrize("owner", [None, {"uid": "another"}, {"uid": "isvc", "deletionTimestamp": "2026-11-28"}])
async def test_nothing_is_made_again_for_an_owner_that_is_gone(owner: dict[str, Any] | None) -> None:
    api = Owners()
    applier = Applier(api)
    await applier.apply(manifest(), "isvc")
    api.owner = owner
    applier.gone(object_key(manifest()))
    with pytest.raises(OwnerGone):
        await applier.apply(manifest(), "isvc")
    assert api.tried == 1

"""Claims of models in the pods of an InferenceService, by a real API server: when its Deployment changes."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from shoal_api.messages import CopyFailure, FailureStage, content_digest
from shoal_operator.manifests.volume_claims import Noted, noted
from shoal_operator.state.world.entities import Model
from shoal_operator.state.world.events import Event, Kind, Listed, ModelGone, ModelSeen
from shoal_operator.state.world.values import ModelKey, ModelSpec
from shoal_operator.volume_claims import admission, reader
from shoal_operator.volume_claims.room import VolumeClaims

from tests.component.apiserver.server import ApiServer
from tests.unit.status.model_views import view

from .bench import RUNTIME, SETTINGS, Bench, Object, bench, service
from .conftest import CountingKube, until, watch_owned

pytestmark = pytest.mark.component


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(reader, "REFRESH_SECONDS", 0.5)
    monkeypatch.setattr(admission, "BATCH_SECONDS", 0.5)
    monkeypatch.setattr(admission, "INTERVAL_SECONDS", 1.0)


class Claims:
    """The room with a world that is no more than its models."""

    def __init__(self, kube: CountingKube) -> None:
        self._models: dict[ModelKey, Model] = {}
        self.room = VolumeClaims(kube, self._world, self._models.get)
        self.bench: Bench

    def _world(self, event: Event) -> None:
        if isinstance(event, ModelSeen):
            self._models[event.spec.key] = Model(event.spec)
        elif isinstance(event, ModelGone):
            self._models.pop(event.key, None)

    def listed(self) -> None:
        for kind in (Kind.MODEL, Kind.SERVICE):
            self.room.handle(Listed(kind))

    def name(self, model: str, uri: str) -> None:
        spec = ModelSpec(
            self.bench.namespace, model, model, 1, "iris", uri, "sklearn", None, content_digest(uri, "sklearn")
        )
        self.room.handle(ModelSeen(spec))

    def unname(self, model: str) -> None:
        self.room.handle(ModelGone(ModelKey(self.bench.namespace, model), model))

    def claim(self, name: str, mode: str = "ReadOnlyMany", **spec: Any) -> None:
        """A PersistentVolumeClaim, bound as its controller would have it."""
        path = f"/api/v1/namespaces/{self.bench.namespace}/persistentvolumeclaims"
        body = {
            "metadata": {"name": name},
            "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}, **spec},
        }
        assert self.bench.server.request("POST", path, body).ok
        self.phase(name, "Bound", mode)

    def replicas(self) -> int:
        found = self.bench.deployment()
        assert found is not None
        replicas: int = found["spec"]["replicas"]
        return replicas

    def phase(self, name: str, phase: str, mode: str = "ReadOnlyMany") -> None:
        path = f"/api/v1/{{ns}}/persistentvolumeclaims/{name}/status"
        self.bench.patch(path, {"status": {"phase": phase, "accessModes": [mode]}})

    def delete(self, name: str) -> None:
        """It stays until no pod uses it, as its finalizer has it."""
        path = f"/api/v1/namespaces/{self.bench.namespace}/persistentvolumeclaims/{name}"
        self.bench.patch(path.replace(f"namespaces/{self.bench.namespace}", "{ns}"), _PROTECTED)
        assert self.bench.server.request("DELETE", path).ok

    def run_pods(self) -> None:
        """What a Deployment's controller says once all pods are of its present template."""
        found = self.bench.deployment()
        assert found is not None
        count = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas", "readyReplicas"), 1)
        status = {"observedGeneration": found["metadata"]["generation"], **count}
        self.bench.patch("/apis/apps/v1/{ns}/deployments/iris-predictor/status", {"status": status})

    def mounted(self) -> list[str]:
        found = self.bench.deployment()
        volumes = found["spec"]["template"]["spec"]["volumes"] if found is not None else ()
        return [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]

    def noted(self) -> Noted:
        """What the Deployment says of its claims, also to an operator that starts."""
        found = self.bench.deployment()
        return noted(found) if found is not None else Noted()

    def template(self) -> Object:
        """What pods are replaced for a change of."""
        found = self.bench.deployment()
        assert found is not None
        template: Object = found["spec"]["template"]
        return template

    def generation(self) -> int:
        found = self.bench.deployment()
        assert found is not None
        generation: int = found["metadata"]["generation"]
        return generation

    def reason(self, uri: str) -> str:
        failure = CopyFailure(stage=FailureStage.STORAGE, reason="ClaimNotMounted", message="x", attempts=1)
        spec = ModelSpec(self.bench.namespace, "m", "m", 1, "iris", uri, "sklearn", None, "")
        seen = view(failure=failure, spec=spec)
        found = self.room.explained(seen).failure
        assert found is not None
        return found.reason


_PROTECTED: Object = {"metadata": {"finalizers": ["kubernetes.io/pvc-protection"]}}


@asynccontextmanager
async def claims(server: ApiServer, kube: CountingKube) -> AsyncIterator[Claims]:
    made = Claims(kube)
    async with bench(server, kube, SETTINGS, made.room) as made.bench:
        made.listed()
        yield made


async def test_a_model_names_a_claim_and_pods_mount_it_once_it_is_bound(server: ApiServer, kube: CountingKube) -> None:
    async with claims(server, kube) as c:
        c.bench.apply(service())
        await c.bench.settled()
        c.run_pods()
        c.name("m", "pvc://models/m")
        await until(lambda: c.reason("pvc://models/m") == "ClaimNotFound")
        before = c.generation()
        await asyncio.sleep(1.5)
        assert c.generation() == before, "no pod is replaced for what is not there"
        c.claim("models")
        await until(lambda: c.mounted() == ["models"])
        assert c.reason("pvc://models/m") == "MountingClaim"
        c.run_pods()
        await until(lambda: c.reason("pvc://models/m") == "ClaimNotMounted")
        await c.bench.settled()


async def test_many_claims_are_one_rollout_and_what_is_not_needed_any_more_none(
    server: ApiServer, kube: CountingKube
) -> None:
    async with claims(server, kube) as c:
        for name in ("a", "b", "c"):
            c.claim(name)
        c.bench.apply(service())
        await c.bench.settled()
        c.run_pods()
        before = c.generation()
        for name in ("a", "b", "c"):
            c.name(name, f"pvc://{name}/m")
        await until(lambda: c.mounted() == ["a", "b", "c"])
        assert c.generation() == before + 1
        c.run_pods()
        await until(lambda: c.noted().proven == ("a", "b", "c"))
        template = c.template()
        c.unname("b")
        await asyncio.sleep(2)
        await c.bench.settled()
        assert c.template() == template
        before = c.generation()
        c.bench.apply(service(priorityClassName="system-node-critical"))
        await until(lambda: c.mounted() == ["a", "c"])
        assert c.generation() == before + 1


async def test_a_claim_that_is_deleted_leaves_the_pods_so_that_it_can_go(server: ApiServer, kube: CountingKube) -> None:
    async with claims(server, kube) as c:
        c.claim("models")
        c.name("m", "pvc://models/m")
        c.bench.apply(service())
        await until(lambda: c.mounted() == ["models"])
        c.run_pods()
        await until(lambda: c.noted().proven == ("models",))
        c.delete("models")
        await until(lambda: c.mounted() == [])
        assert c.reason("pvc://models/m") == "ClaimNotMountable"


async def test_what_is_declared_is_there_from_the_start_and_complained_of_where_it_cannot_be(
    server: ApiServer, kube: CountingKube
) -> None:
    async with claims(server, kube) as c:
        c.claim("mine", "ReadWriteOnce")
        declared = service()
        declared["metadata"]["annotations"] = {"shoal.dev/claims": "mine,missing"}
        c.bench.apply(declared)
        await until(lambda: c.mounted() == ["mine"])
        await until(lambda: c.bench.told.degraded is not None)
        assert c.bench.told.degraded is not None
        assert c.bench.told.degraded.reason == "ClaimNotFound"
        c.run_pods()
        c.claim("missing", "ReadWriteMany")
        await until(lambda: c.mounted() == ["mine", "missing"])
        await until(lambda: c.bench.told.degraded is None)


async def test_what_is_declared_and_there_replaces_no_pods(server: ApiServer, kube: CountingKube) -> None:
    async with claims(server, kube) as c:
        c.claim("mine")
        declared = service()
        declared["metadata"]["annotations"] = {"shoal.dev/claims": "mine,missing"}
        c.bench.apply(declared)
        await until(lambda: c.bench.deployment() is not None)
        await c.bench.settled()
        assert (c.mounted(), c.generation()) == (["mine"], 1), "it was looked up before any pod was made"


async def test_a_claim_that_a_policy_refuses_keeps_no_pods_from_being_scaled(
    server: ApiServer, kube: CountingKube
) -> None:
    async with claims(server, kube) as c:
        c.claim("good")
        c.claim("forbidden")
        c.bench.apply(service(minReplicas=1, maxReplicas=4))
        await c.bench.settled()
        c.run_pods()
        c.name("m", "pvc://good/m")
        await until(lambda: c.mounted() == ["good"])
        c.run_pods()
        with no_pods_that_mount("forbidden", c):
            c.name("n", "pvc://forbidden/m")
            await until(lambda: c.reason("pvc://forbidden/m") == "ClaimNotMountable")
            c.bench.controller.set_replicas(c.bench.namespace, "iris", 3, "load")
            await until(lambda: c.replicas() == 3)
            assert c.mounted() == ["good"]
            assert c.bench.told.problem is None
            assert c.bench.told.degraded is None

            # By its own word it is told, and scaled all the same.
            declared = service(minReplicas=1, maxReplicas=4)
            declared["metadata"]["annotations"] = {"shoal.dev/claims": "forbidden"}
            c.bench.apply(declared)
            await until(lambda: _refused(c))
            c.bench.controller.set_replicas(c.bench.namespace, "iris", 2, "no load")
            await until(lambda: c.replicas() == 2)
            assert c.mounted() == ["good"]
        c.bench.apply(service(minReplicas=1, maxReplicas=4))
        await until(lambda: c.bench.told.problem is None)


def _refused(c: Claims) -> bool:
    said = c.bench.told.degraded or c.bench.told.problem
    return said is not None and said.reason == "WorkloadRefused" and "no such volumes here" in said.message


@contextmanager
def no_pods_that_mount(claim: str, c: Claims) -> Iterator[None]:
    """As an administrator may have it."""
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    has = f"has(v.persistentVolumeClaim) && v.persistentVolumeClaim.claimName == '{claim}'"
    policy = {
        "metadata": {"name": "claims"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [
                {
                    "expression": f"!object.spec.template.spec.volumes.exists(v, {has})",
                    "message": "no such volumes here",
                }
            ],
        },
    }
    binding = {"metadata": {"name": "claims"}, "spec": {"policyName": "claims", "validationActions": ["Deny"]}}
    assert c.bench.server.request("POST", path, policy).ok
    assert c.bench.server.request("POST", f"{path[:-3]}ybindings", binding).ok
    try:
        end = time.monotonic() + 60
        while c.bench.server.request("POST", *_probe(c, claim)).ok:  # until it holds
            assert time.monotonic() < end
            time.sleep(0.2)
        yield
    finally:
        for each in (path, f"{path[:-3]}ybindings"):
            assert c.bench.server.request("DELETE", f"{each}/claims").ok


def _probe(c: Claims, claim: str) -> tuple[str, Object, dict[str, str]]:
    labels = {"app": "probe"}
    spec = {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}],
    }
    body = {
        "metadata": {"name": "probe"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }
    return f"/apis/apps/v1/namespaces/{c.bench.namespace}/deployments", body, {"dryRun": "All"}


async def test_a_restarted_operator_in_the_middle_of_a_trial_takes_no_good_claim_out(
    server: ApiServer, kube: CountingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claims(server, kube) as c:
        for name in ("good", "bad"):
            c.claim(name)
        c.name("m", "pvc://good/m")
        seen = c.bench.apply(service())
        await until(lambda: c.mounted() == ["good"])
        c.run_pods()
        await until(lambda: c.noted().proven == ("good",))
        c.name("n", "pvc://bad/m")
        await until(lambda: c.mounted() == ["bad", "good"])  # and no pod starts with it
        await c.bench.settled()
    monkeypatch.setattr(admission, "TRIAL_SECONDS", 3.0)
    again = Claims(kube)
    again.bench = Bench(server, kube, c.bench.namespace, SETTINGS, again.room)
    controller = again.bench.controller
    controller.runtime_seen(RUNTIME)
    controller.runtimes_listed()
    controller.inference_service_seen(seen)
    again.name("m", "pvc://good/m")
    again.name("n", "pvc://bad/m")
    again.listed()
    tasks = [
        asyncio.create_task(controller.run()),
        asyncio.create_task(watch_owned(kube, c.bench.namespace, controller)),
    ]
    await until(lambda: c.mounted() == ["good"], 30)
    assert again.reason("pvc://bad/m") == "ClaimNotMountable"
    assert again.reason("pvc://good/m") == "MountingClaim"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_restarted_operator_replaces_no_pods_whatever_it_knows_of_models_yet(
    server: ApiServer, kube: CountingKube
) -> None:
    async with claims(server, kube) as c:
        c.claim("models")
        c.name("m", "pvc://models/m")
        seen = c.bench.apply(service())
        await until(lambda: c.mounted() == ["models"])
        c.run_pods()
        await c.bench.settled()
        before = c.generation()
        again = Claims(kube)
        again.bench = Bench(server, kube, c.bench.namespace, SETTINGS, again.room)
        controller = again.bench.controller
        controller.runtime_seen(RUNTIME)
        controller.runtimes_listed()
        controller.autoscalers_listed()
        controller.inference_service_seen(seen)
        task = asyncio.create_task(controller.run())
        await asyncio.sleep(2)
        again.listed()  # and no model names it any more
        await asyncio.sleep(2)
        task.cancel()
        assert (c.generation(), c.mounted()) == (before, ["models"])

"""The workload controller against a real API server: what is applied, what is put right, and that idling is quiet."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from shoal_operator import workloads as controller_module
from shoal_operator.manifests.settings import WorkloadSettings
from shoal_operator.replicas.pod_counts import Scaled
from shoal_operator.state.world.events import Event, ServiceGone, ServiceSeen
from shoal_operator.state.world.values import ServiceSpec
from shoal_operator.workloads import WorkloadController

from tests.component.apiserver.server import ApiServer

from .conftest import CountingKube, until, watch_owned

pytestmark = pytest.mark.component

Object = dict[str, Any]

SETTINGS = WorkloadSettings(operator_namespace="shoal-system", agent_image="shoal-agent:test")
_names = count()

RUNTIME: Object = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ClusterServingRuntime",
    "metadata": {"name": "shoal-mlserver"},
    "spec": {
        "multiModel": True,
        "protocolVersions": ["v1", "v2"],
        "supportedModelFormats": [{"name": "sklearn", "version": "1", "autoSelect": True}],
        "builtInAdapter": {"serverType": "mlserver", "memBufferBytes": 134217728},
        "containers": [{"name": "mlserver", "image": "mlserver:1.7.1"}],
    },
}


def service(name: str = "iris", **predictor: Any) -> Object:
    resources = {"limits": {"memory": "512Mi", "cpu": "100m"}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"sklearn": {"resources": resources}, **predictor}},
    }


class Bench:
    """One namespace with a running controller, and what the state was told."""

    def __init__(self, server: ApiServer, kube: CountingKube, namespace: str, settings: WorkloadSettings) -> None:
        self.server, self.kube, self.namespace = server, kube, namespace
        self.events: list[Event] = []
        self.scaled: list[Scaled] = []
        self.ca = "certificate one"
        self.controller = WorkloadController(
            kube, settings, ca_pem=lambda: self.ca, on_event=self.events.append, on_scaled=self.scaled.append
        )

    def apply(self, obj: Object) -> Object:
        reply = self.server.apply(obj, namespace=self.namespace)
        assert reply.ok, reply.message
        self.controller.inference_service_seen(reply.body)
        return reply.body

    def get(self, path: str) -> Object | None:
        reply = self.server.request("GET", path.format(ns=f"namespaces/{self.namespace}"))
        return reply.body if reply.ok else None

    def deployment(self, name: str = "iris") -> Object | None:
        return self.get(f"/apis/apps/v1/{{ns}}/deployments/{name}-predictor")

    def patch(self, path: str, patch: Object, *, strategic: bool = False) -> None:
        content = "application/strategic-merge-patch+json" if strategic else "application/merge-patch+json"
        url = path.format(ns=f"namespaces/{self.namespace}")
        reply = self.server.request("PATCH", url, patch, {"fieldManager": "someone"}, content)
        assert reply.ok, reply.message

    @property
    def told(self) -> ServiceSpec:
        seen = [event for event in self.events if isinstance(event, ServiceSeen)]
        assert seen
        return seen[-1].spec

    async def settled(self) -> None:
        """Nothing is queued, and nothing is written any more."""
        for _ in range(200):
            before = len(self.kube.writes)
            await asyncio.sleep(0.4)
            if self.controller.pending == 0 and len(self.kube.writes) == before:
                return
        raise AssertionError("the controller does not come to rest")


@asynccontextmanager
async def bench(server: ApiServer, kube: CountingKube, settings: WorkloadSettings = SETTINGS) -> AsyncIterator[Bench]:
    namespace = f"bench-{next(_names)}"
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    running = Bench(server, kube, namespace, settings)
    tasks = [
        asyncio.create_task(running.controller.run()),
        asyncio.create_task(watch_owned(kube, namespace, running.controller)),
    ]
    running.controller.runtime_seen(RUNTIME)
    running.controller.runtimes_listed()
    try:
        yield running
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results


async def test_applies_all_objects_once_and_is_quiet_then(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service(minReplicas=3))
        assert b.told.capacity_bytes == 512 << 20  # the state knows at once, before anything is applied
        await b.settled()
        deployment = b.deployment()
        assert deployment is not None
        assert deployment["spec"]["replicas"] == 3
        for path in (
            "/api/v1/{ns}/services/iris",
            "/api/v1/{ns}/services/iris-predictor",
            "/apis/policy/v1/{ns}/poddisruptionbudgets/iris-predictor",
            "/apis/networking.k8s.io/v1/{ns}/networkpolicies/iris-predictor",
            "/api/v1/{ns}/configmaps/shoal-ca",
        ):
            assert b.get(path) is not None, path
        writes = len(kube.writes)
        assert writes == 7, kube.writes
        b.controller.resync()
        b.controller.inference_service_seen(service() | {"metadata": deployment["metadata"] | {"name": "other"}})
        b.controller.inference_service_gone(b.namespace, "other", deployment["metadata"]["uid"])
        await b.settled()
        assert len(kube.writes) == writes, kube.writes[writes:]


async def test_a_restarted_operator_changes_nothing(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        obj = b.apply(service())
        await b.settled()
        before = b.deployment()
        again = WorkloadController(kube, SETTINGS, ca_pem=lambda: b.ca, on_event=lambda _: None)
        again.runtime_seen(RUNTIME)
        again.runtimes_listed()
        again.autoscalers_listed()
        again.inference_service_seen(obj)
        task = asyncio.create_task(again.run())
        await until(lambda: again.pending == 0)
        task.cancel()
        after = b.deployment()
        assert before is not None
        assert after is not None
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("path", "edit"),
    [
        ("/apis/apps/v1/{ns}/deployments/iris-predictor", {"spec": {"replicas": 7}}),
        ("/apis/apps/v1/{ns}/deployments/iris-predictor", {"metadata": {"labels": {"component": "mine"}}}),
        ("/apis/apps/v1/{ns}/deployments/iris-predictor", {"metadata": {"ownerReferences": None}}),
        ("/api/v1/{ns}/services/iris", {"spec": {"externalName": "elsewhere.example.com"}}),
        ("/apis/policy/v1/{ns}/poddisruptionbudgets/iris-predictor", {"spec": {"maxUnavailable": "50%"}}),
        ("/api/v1/{ns}/configmaps/shoal-ca", {"data": {"ca.crt": "mine"}}),
        ("/api/v1/{ns}/configmaps/iris-shoal-storage", {"data": {"storage.json": "{}"}}),
    ],
)
async def test_an_edit_of_an_owned_field_is_put_right(
    server: ApiServer, kube: CountingKube, path: str, edit: Object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller_module, "REFRESH_SECONDS", 0.5)
    async with bench(server, kube) as b:
        b.apply(service())
        await b.settled()
        good = b.get(path)
        assert good is not None
        b.patch(path, edit)

        def right() -> bool:
            now = b.get(path)
            return now is not None and _wish(now) == _wish(good)

        await until(right, 10)
        await b.settled()


async def test_a_field_of_others_is_left_alone(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service())
        await b.settled()
        path = "/apis/apps/v1/{ns}/deployments/iris-predictor"
        b.patch(path, {"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}})
        await b.settled()
        deployment = b.deployment()
        assert deployment is not None
        assert deployment["spec"]["template"]["metadata"]["annotations"]["restarted"] == "now"


async def test_an_external_autoscaler_owns_the_replicas(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service(minReplicas=2))
        await b.settled()
        external = service(minReplicas=2)
        external["metadata"]["annotations"] = {"serving.kserve.io/autoscalerClass": "external"}
        b.apply(external)
        await b.settled()
        deployment = b.deployment()
        assert deployment is not None
        assert deployment["spec"]["replicas"] == 2  # giving the field up must not reset it to 1
        b.patch("/apis/apps/v1/{ns}/deployments/iris-predictor/scale", {"spec": {"replicas": 5}})
        b.controller.resync()
        await b.settled()
        deployment = b.deployment()
        assert deployment is not None
        assert deployment["spec"]["replicas"] == 5


async def test_a_deleted_object_is_made_again(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service())
        await b.settled()
        server.request("DELETE", f"/api/v1/namespaces/{b.namespace}/services/iris")
        await until(lambda: b.get("/api/v1/{ns}/services/iris") is not None)


@pytest.mark.parametrize("how", ["at once", "in the foreground", "made anew"])
async def test_nothing_is_made_again_for_an_owner_whose_end_no_watch_has_told(
    server: ApiServer, kube: CountingKube, how: str
) -> None:
    """Its watch is silent; the garbage collector takes what it owned, as often as that is made again."""
    async with bench(server, kube) as b:
        obj = service()
        if how == "in the foreground":
            obj["metadata"]["finalizers"] = ["test.example.com/waits"]
        b.apply(obj)
        await b.settled()
        assert b.deployment() is not None
        path = f"/apis/serving.kserve.io/v1beta1/namespaces/{b.namespace}/inferenceservices/iris"
        assert server.request("DELETE", path).ok
        if how == "made anew":
            assert server.apply(service(), namespace=b.namespace).ok
        writes = len(kube.writes)
        for _ in range(3):
            server.request("DELETE", f"/apis/apps/v1/namespaces/{b.namespace}/deployments/iris-predictor")
            await asyncio.sleep(0.7)
        assert b.deployment() is None
        assert [path for _, path in kube.writes[writes:] if "deployments" in path] == []
        await until(lambda: isinstance(b.events[-1], ServiceGone))
        if how == "made anew":
            found = server.request("GET", path)
            b.controller.inference_service_seen(found.body)
            assert b.told.uid == found.body["metadata"]["uid"]


async def test_what_is_no_longer_rendered_is_deleted(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        obj = b.apply(service())
        await b.settled()
    settings = WorkloadSettings("shoal-system", "shoal-agent:test", network_policy=False)
    b.controller = WorkloadController(kube, settings, ca_pem=lambda: b.ca, on_event=b.events.append)
    tasks = [
        asyncio.create_task(b.controller.run()),
        asyncio.create_task(watch_owned(kube, b.namespace, b.controller)),
    ]
    b.controller.runtime_seen(RUNTIME)
    b.controller.runtimes_listed()
    b.controller.inference_service_seen(obj)
    await until(lambda: b.get("/apis/networking.k8s.io/v1/{ns}/networkpolicies/iris-predictor") is None)
    assert b.deployment() is not None
    for task in tasks:
        task.cancel()


async def test_a_foreign_object_in_the_way_is_reported_and_kept(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        services = f"/api/v1/namespaces/{b.namespace}/services"
        mine = {"metadata": {"name": "iris"}, "spec": {"ports": [{"port": 80}]}}
        assert server.request("POST", services, mine).ok
        b.apply(service())
        await until(lambda: b.told.problem is not None)
        assert b.told.problem is not None
        assert b.told.problem.reason == "WorkloadRefused"
        assert "Service iris" in b.told.problem.message
        found = b.get("/api/v1/{ns}/services/iris")
        assert found is not None
        assert found["spec"]["type"] == "ClusterIP"
        server.request("DELETE", f"{services}/iris")
        await until(lambda: b.told.problem is None, 30)  # heals without anybody touching the InferenceService


async def test_a_refusal_by_the_api_server_is_told_and_heals(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service(nodeSelector={"disk": "not a label value!"}))
        await until(lambda: b.told.problem is not None)
        assert b.told.problem is not None
        assert "nodeSelector" in b.told.problem.message
        b.apply(service(nodeSelector={"disk": "ssd"}))
        await until(lambda: b.told.problem is None)
        await until(lambda: b.deployment() is not None)


async def test_quota_that_refuses_pods_is_told(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service())
        await b.settled()
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: q"}
        path = "/apis/apps/v1/{ns}/deployments/iris-predictor/status"
        b.patch(path, {"status": {"conditions": [failure]}})
        await until(lambda: b.told.problem is not None and "exceeded quota" in b.told.problem.message)
        b.patch(path, {"status": {"replicas": 1, "conditions": [failure]}})
        await until(lambda: b.told.problem is None and b.told.degraded is not None)
        b.patch(path, {"status": {"replicas": 1, "conditions": []}})
        await until(lambda: b.told.degraded is None)


async def test_storage_secrets_are_mounted_without_being_read(
    server: ApiServer, kube: CountingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller_module, "REFRESH_SECONDS", 0.5)
    async with bench(server, kube) as b:
        core = f"/api/v1/namespaces/{b.namespace}"
        annotations = {"serving.kserve.io/s3-endpoint": "s3.example.com:9000", "unrelated": "x"}
        secret = {
            "metadata": {"name": "s3-credentials", "annotations": annotations},
            "stringData": {"AWS_SECRET_ACCESS_KEY": "do-not-leak"},
        }
        generated = {"metadata": {"name": "sa-token", "annotations": {"kubernetes.io/service-account.name": "models"}}}
        account = {
            "metadata": {"name": "models"},
            "secrets": [{"name": "sa-token"}, {"name": "s3-credentials"}],
        }
        assert server.request("POST", f"{core}/secrets", secret).ok
        assert server.request("POST", f"{core}/secrets", generated).ok
        assert server.request("POST", f"{core}/serviceaccounts", account).ok
        b.apply(service(serviceAccountName="models"))
        await b.settled()
        deployment, config = b.deployment(), b.get("/api/v1/{ns}/configmaps/iris-shoal-storage")
        assert deployment is not None
        assert config is not None
        volumes = [
            v["secret"]["secretName"] for v in deployment["spec"]["template"]["spec"]["volumes"] if "secret" in v
        ]
        assert volumes == ["s3-credentials"]
        assert json.loads(config["data"]["storage.json"])["secrets"] == [
            {"name": "s3-credentials", "annotations": {"serving.kserve.io/s3-endpoint": "s3.example.com:9000"}}
        ]
        assert "do-not-leak" not in json.dumps([deployment, config])
        writes = len(kube.writes)
        await asyncio.sleep(1.5)
        assert len(kube.writes) == writes  # refreshed, and nothing written
        changed = {"metadata": {"annotations": {"serving.kserve.io/s3-endpoint": "other:9000"}}}
        b.patch("/api/v1/{ns}/secrets/s3-credentials", changed)
        b.ca = "certificate two"

        def told() -> bool:
            storage = b.get("/api/v1/{ns}/configmaps/iris-shoal-storage")
            ca = b.get("/api/v1/{ns}/configmaps/shoal-ca")
            assert storage is not None
            assert ca is not None
            return "other:9000" in storage["data"]["storage.json"] and ca["data"]["ca.crt"] == "certificate two"

        await until(told)
        same = b.deployment()
        assert same is not None
        assert same["metadata"]["generation"] == deployment["metadata"]["generation"]  # no rollout


async def test_gone_service_is_told_and_its_namespace_cleaned(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        obj = b.apply(service())
        await b.settled()
        b.controller.inference_service_gone(b.namespace, "iris", obj["metadata"]["uid"])
        assert isinstance(b.events[-1], ServiceGone)
        await until(lambda: b.get("/api/v1/{ns}/configmaps/shoal-ca") is None)


async def test_beside_kserve_only_annotated_services_are_taken(server: ApiServer, kube: CountingKube) -> None:
    settings = WorkloadSettings("shoal-system", "shoal-agent:test", require_model_mesh=True)
    async with bench(server, kube, settings) as b:
        b.apply(service("theirs"))
        ours = service("ours")
        ours["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "ModelMesh"}
        b.apply(ours)
        await b.settled()
        assert b.deployment("theirs") is None
        assert b.deployment("ours") is not None
        assert [event.spec.name for event in b.events if isinstance(event, ServiceSeen)] == ["ours"]


async def test_gate_keeps_the_kubelets_conditions(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        pods = f"/api/v1/namespaces/{b.namespace}/pods"
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        uid = server.request("POST", pods, pod).body["metadata"]["uid"]
        b.patch("/api/v1/{ns}/pods/p/status", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        b.controller.set_gate(b.namespace, "p", False, "loading", uid)
        b.controller.set_gate(b.namespace, "p", True, "60 models loaded", uid)

        def conditions() -> dict[str, str]:
            found = b.get("/api/v1/{ns}/pods/p")
            assert found is not None
            return {c["type"]: c["status"] for c in found["status"].get("conditions", [])}

        await until(lambda: conditions().get("shoal.dev/models-placed") == "True")
        assert conditions()["Ready"] == "True"
        b.controller.set_gate(b.namespace, "p", False, "another pod", "another-uid")
        await asyncio.sleep(1)
        assert conditions()["shoal.dev/models-placed"] == "True"


def _wish(obj: Object) -> Object:
    meta = obj["metadata"]
    return {
        "labels": meta.get("labels"),
        "owners": meta.get("ownerReferences"),
        "spec": obj.get("spec"),
        "data": obj.get("data"),
    }


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"dnsPolicy": "Nonsense"}, "dnsPolicy"),  # refused by the API server
        ({"initContainers": [{"image": "busybox"}]}, "name"),  # likewise, as server-side apply says it: with status 500
        ({"terminationGracePeriodSeconds": "x"}, "spec.predictor.terminationGracePeriodSeconds is 'x'"),
        ({"volumes": [{"name": "shoal-models"}]}, "spec.predictor.volumes"),
    ],
)
async def test_what_cannot_be_is_said_once_and_the_pods_go_on(
    server: ApiServer, kube: CountingKube, edit: Object, said: str
) -> None:
    async with bench(server, kube) as b:
        b.apply(service())
        await b.settled()
        b.patch("/apis/apps/v1/{ns}/deployments/iris-predictor/status", {"status": {"replicas": 1}})
        await b.settled()
        before, writes = b.deployment(), len(kube.writes)
        b.apply(service(**edit))
        await until(lambda: b.told.degraded is not None)
        await b.settled()
        assert b.told.degraded is not None
        assert said in b.told.degraded.message
        assert (b.told.problem, b.told.capacity_bytes, b.told.generation) == (None, 512 << 20, 2)
        tried = len(kube.writes) - writes
        assert tried <= 1
        b.controller.resync()  # nothing has changed: it is not sent again
        await b.settled()
        after = b.deployment()
        assert len(kube.writes) - writes == tried
        assert before is not None
        assert after is not None
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        b.apply(service(terminationGracePeriodSeconds=90))
        await until(lambda: b.told.degraded is None)


async def test_an_operator_that_starts_beside_a_broken_spec_knows_what_its_pods_serve(
    server: ApiServer, kube: CountingKube
) -> None:
    async with bench(server, kube) as b:
        b.apply(service())
        await b.settled()
        b.patch("/apis/apps/v1/{ns}/deployments/iris-predictor/status", {"status": {"replicas": 1}})
        broken = b.apply(service(terminationGracePeriodSeconds="x"))
        events: list[Event] = []
        again = WorkloadController(kube, SETTINGS, ca_pem=lambda: b.ca, on_event=events.append)
        again.runtime_seen(RUNTIME)
        again.runtimes_listed()
        again.autoscalers_listed()
        again.inference_service_seen(broken)
        again.owned_object_changed("Deployment", b.namespace, "iris-predictor", b.deployment())
        last = events[-1]
        assert isinstance(last, ServiceSeen)
        assert (last.spec.problem, last.spec.capacity_bytes, last.spec.server_type) == (None, 512 << 20, "mlserver")
        assert last.spec.formats == {"sklearn"}
        assert last.spec.degraded is not None
        assert "terminationGracePeriodSeconds" in last.spec.degraded.message


async def test_an_object_nested_deeper_than_python_can_follow_is_read(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        deep: Object = {}
        for _ in range(700):
            deep = {"a": deep}
        assert server.create(service("deep", affinity=deep), namespace=b.namespace).ok
        path = f"/apis/serving.kserve.io/v1beta1/namespaces/{b.namespace}/inferenceservices"
        found = (await kube.request("GET", path))["items"]
        b.controller.inference_service_seen(found[0])
        await b.settled()
        assert (b.told.name, b.told.problem) == ("deep", None)
        assert "spec.predictor.affinity.a" in b.told.ignored_fields

"""The workload controller against a real API server: what is applied, what is put right, and that idling is quiet."""

import asyncio

import pytest
from shoal_operator import workloads as controller_module
from shoal_operator.manifests.settings import WorkloadSettings
from shoal_operator.state.world.events import ServiceGone, ServiceSeen
from shoal_operator.workloads import WorkloadController

from tests.component.apiserver.server import ApiServer

from .bench import RUNTIME, SETTINGS, Object, bench, service
from .conftest import CountingKube, until, watch_owned

pytestmark = pytest.mark.component


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

"""The workload controller and what it is refused: objects of others, quotas, secrets it may not read, broken specs."""

import asyncio
import json

import pytest
from shoal_operator import workloads as controller_module
from shoal_operator.manifests.cluster import storage_reader
from shoal_operator.state.world.events import Event, ServiceSeen
from shoal_operator.workloads import WorkloadController

from tests.component.apiserver.server import ApiServer

from .bench import RUNTIME, SETTINGS, Object, bench, service
from .conftest import CountingKube, until

pytestmark = pytest.mark.component


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
    monkeypatch.setattr(storage_reader, "REFRESH_SECONDS", 0.5)
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
            source["secret"]["name"]
            for volume in deployment["spec"]["template"]["spec"]["volumes"]
            for source in volume.get("projected", {}).get("sources", ())
            if "secret" in source
        ]
        assert volumes == ["s3-credentials"]
        made = b.get("/api/v1/{ns}/secrets/s3-credentials")
        assert made is not None
        (told,) = json.loads(config["data"]["storage.json"])["secrets"]
        assert told["annotations"] == {"serving.kserve.io/s3-endpoint": "s3.example.com:9000"}
        assert (told["uid"], told["version"]) == (made["metadata"]["uid"], made["metadata"]["resourceVersion"])
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


async def test_a_storage_secret_that_is_not_there_is_told_and_looked_for(
    server: ApiServer, kube: CountingKube, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storage_reader, "LOOK_SECONDS", 0.3)
    monkeypatch.setattr(storage_reader, "SETTLE_SECONDS", 0.1)
    async with bench(server, kube) as b:
        core = f"/api/v1/namespaces/{b.namespace}"
        account = {"metadata": {"name": "models"}, "secrets": [{"name": "s3-credentials"}]}
        assert server.request("POST", f"{core}/serviceaccounts", account).ok
        b.apply(service(serviceAccountName="models"))
        await b.settled()
        await until(lambda: b.told.missing_secrets == ("s3-credentials",))
        assert b.told.problem is None
        assert "could not be looked up" not in caplog.text  # nor is there a storage-config, which few have

        def said() -> Object:
            config = b.get("/api/v1/{ns}/configmaps/iris-shoal-storage")
            assert config is not None
            (secret,) = json.loads(config["data"]["storage.json"])["secrets"]
            return dict(secret)

        assert said()["missing"]
        before = b.deployment()
        labels = {"serving.kserve.io/inferenceservice": "iris", "app.kubernetes.io/managed-by": "shoal"}
        pod = {"metadata": {"name": "p", "labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        assert server.request("POST", f"{core}/pods", pod).ok
        assert server.request("POST", f"{core}/secrets", {"metadata": {"name": "s3-credentials"}}).ok
        await until(lambda: not said()["missing"] and said()["uid"] != "")
        await until(lambda: b.told.missing_secrets == ())
        after = b.deployment()
        assert before is not None
        assert after is not None
        assert after["metadata"]["generation"] == before["metadata"]["generation"]  # mounted already
        # Its kubelet is to look now, and not within a minute or two.

        def touched() -> bool:
            pod = b.get("/api/v1/{ns}/pods/p")
            assert pod is not None
            return "shoal.dev/storage" in (pod["metadata"].get("annotations") or {})

        await until(touched)
        assert server.request("DELETE", f"{core}/secrets/s3-credentials").ok
        b.patch("/apis/apps/v1/{ns}/deployments/iris-predictor/status", {"status": {"replicas": 1}})  # a pod comes
        await until(lambda: b.told.missing_secrets == ("s3-credentials",))


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

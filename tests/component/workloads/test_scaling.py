"""How many pods there are, against a real API server: who decides, what a restart keeps, and who goes first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from shoal_operator import workloads as controller_module
from shoal_operator.workloads import WorkloadController

from tests.component.apiserver.server import ApiServer

from .bench import RUNTIME, SETTINGS, Bench, Object, bench, service
from .conftest import CountingKube, until, watch_owned

pytestmark = pytest.mark.component

DEPLOYMENT = "/apis/apps/v1/{ns}/deployments/iris-predictor"
AUTOSCALERS = "/apis/autoscaling/v2/{ns}/horizontalpodautoscalers"
CLASS = "serving.kserve.io/autoscalerClass"


def replicas(b: Bench) -> int | None:
    deployment = b.deployment()
    return None if deployment is None else int(deployment["spec"]["replicas"])


def annotated(value: str, **predictor: Any) -> Object:
    obj = service(**predictor)
    obj["metadata"]["annotations"] = {CLASS: value}
    return obj


def scale(b: Bench, count: int, manager: str) -> None:
    """As an autoscaler does it: through the scale subresource."""
    path = f"{DEPLOYMENT}/scale".format(ns=f"namespaces/{b.namespace}")
    patch = {"spec": {"replicas": count}}
    reply = b.server.request("PATCH", path, patch, {"fieldManager": manager}, "application/merge-patch+json")
    assert reply.ok, reply.message


def bring_autoscaler(b: Bench, name: str = "mine") -> None:
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "iris-predictor"},
        "maxReplicas": 9,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}],
    }
    spec["metrics"][0]["resource"]["target"]["averageUtilization"] = 60  # type: ignore[index]
    path = AUTOSCALERS.format(ns=f"namespaces/{b.namespace}")
    reply = b.server.request("POST", path, {"metadata": {"name": name}, "spec": spec})
    assert reply.ok, reply.message


@asynccontextmanager
async def restarted(b: Bench, obj: Object) -> AsyncIterator[WorkloadController]:
    """Another operator that finds everything there."""
    b.events.clear()
    again = WorkloadController(
        b.kube, SETTINGS, ca_pem=lambda: b.ca, on_event=b.events.append, on_scaled=b.scaled.append
    )
    again.runtime_seen(RUNTIME)
    again.runtimes_listed()
    again.inference_service_seen(obj)
    tasks = [
        asyncio.create_task(again.run()),
        asyncio.create_task(watch_owned(b.kube, b.namespace, again)),
    ]
    try:
        await until(lambda: again.pending == 0)
        yield again
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_state_decides_between_the_bounds_and_is_told_what_came_of_it(
    server: ApiServer, kube: CountingKube
) -> None:
    async with bench(server, kube) as b:
        b.apply(service(minReplicas=2, maxReplicas=5))
        assert b.told.autoscaled
        await b.settled()
        assert replicas(b) == 2
        template = (b.deployment() or {})["spec"]["template"]
        for wanted, comes in ((4, 4), (9, 5), (1, 2)):
            b.controller.set_replicas(b.namespace, "iris", wanted, f"as {wanted} are needed")
            await until(lambda comes=comes: replicas(b) == comes)  # type: ignore[misc]  # a lambda's default
            await until(lambda: bool(b.scaled))  # of the first: what is taken back meanwhile is not told
        await b.settled()
        assert (b.deployment() or {})["spec"]["template"] == template, "scaling is no rollout"
        assert [(s.before, s.after, s.reason) for s in b.scaled] == [(2, 4, "as 4 are needed")]
        writes = len(kube.writes)
        b.controller.set_replicas(b.namespace, "iris", 1, "said again")
        b.controller.resync()
        await b.settled()
        assert len(kube.writes) == writes


async def test_edits_of_the_replicas_are_put_right_while_state_decides(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service(maxReplicas=5))
        b.controller.set_replicas(b.namespace, "iris", 3, "needed")
        await until(lambda: replicas(b) == 3)
        b.patch(DEPLOYMENT, {"spec": {"replicas": 1}})
        await until(lambda: replicas(b) == 3)
        server.kubectl("scale", "deployment/iris-predictor", "-n", b.namespace, "--replicas=5")
        await until(lambda: replicas(b) == 3)
        server.kubectl("delete", "deployment/iris-predictor", "-n", b.namespace)
        await until(lambda: replicas(b) == 3)
        assert b.told.autoscaled


async def test_a_restart_keeps_the_pods_until_state_has_said(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        obj = b.apply(service(minReplicas=1, maxReplicas=5))
        b.controller.set_replicas(b.namespace, "iris", 4, "busy")
        await until(lambda: replicas(b) == 4)
        await b.settled()
    before = (b.deployment() or {})["metadata"]["generation"]
    async with restarted(b, obj) as again:
        await asyncio.sleep(1)
        again.set_replicas(b.namespace, "iris", 4, "still busy")
        await asyncio.sleep(0.5)
        assert replicas(b) == 4
        assert (b.deployment() or {})["metadata"]["generation"] == before, "not even for a moment"
        assert b.scaled == [], "nothing was scaled, so nothing is told"
        again.set_replicas(b.namespace, "iris", 2, "quiet")
        await until(lambda: replicas(b) == 2)
        assert (b.scaled[-1].before, b.scaled[-1].after) == (4, 2)


async def test_an_autoscaler_that_the_user_brings_is_respected(
    server: ApiServer, kube: CountingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller_module, "REFRESH_SECONDS", 0.5)
    async with bench(server, kube) as b:
        obj = b.apply(service(minReplicas=2, maxReplicas=5))
        await b.settled()
        bring_autoscaler(b)
        await until(lambda: not b.told.autoscaled)
        assert b.told.scaled_by == "HorizontalPodAutoscaler mine decides how many pods there are."
        assert b.told.min_replicas == 2
        await b.settled()
        scale(b, 7, "kube-controller-manager")
        await until(lambda: b.told.min_replicas == 7)
        assert b.told.max_replicas == 7
        b.controller.set_replicas(b.namespace, "iris", 3, "busy")
        b.controller.resync()
        await b.settled()
        assert replicas(b) == 7
        assert b.scaled == []
    async with restarted(b, obj) as again:
        # No watch has told of the autoscaler when the Deployment is looked at first.
        await asyncio.sleep(0.5)
        assert replicas(b) == 7
        assert "mine" in b.told.scaled_by
        b.server.request("DELETE", f"{AUTOSCALERS}/mine".format(ns=f"namespaces/{b.namespace}"))
        await until(lambda: b.told.autoscaled)
        await until(lambda: again.pending == 0)
        assert replicas(b) == 5  # what there was, within the bounds


async def test_whoever_scales_through_the_subresource_is_respected_until_the_user_says_otherwise(
    server: ApiServer, kube: CountingKube
) -> None:
    async with bench(server, kube) as b:
        b.apply(service(minReplicas=2))
        await b.settled()
        scale(b, 4, "my-scaler")
        await until(lambda: b.told.min_replicas == 4)
        assert b.told.scaled_by.startswith("my-scaler has set")
        b.controller.resync()
        await b.settled()
        assert replicas(b) == 4
        b.apply(service(minReplicas=2, serviceAccountName="other"))  # another change must not take it back
        await b.settled()
        assert replicas(b) == 4
        b.apply(annotated("none", minReplicas=2))
        await until(lambda: replicas(b) == 2)
        await until(lambda: b.told.scaled_by == "")
        assert b.told.min_replicas == 2


async def test_our_autoscaler_for_cpu_is_accepted_and_gets_the_replicas(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service(minReplicas=2, maxReplicas=6, scaleMetric="cpu", scaleTarget=55))
        await b.settled()
        assert replicas(b) == 2, "pods start as many as the autoscaler would have them, not as one"
        found = b.get(f"{AUTOSCALERS}/iris-predictor")
        assert found is not None
        (metric,) = found["spec"]["metrics"]
        assert metric["containerResource"]["container"] == "kserve-container"
        assert metric["containerResource"]["target"] == {"type": "Utilization", "averageUtilization": 55}
        assert (found["spec"]["minReplicas"], found["spec"]["maxReplicas"]) == (2, 6)
        assert found["metadata"]["ownerReferences"][0]["kind"] == "InferenceService"
        assert "HorizontalPodAutoscaler iris-predictor" in b.told.scaled_by
        assert not b.told.autoscaled
        scale(b, 5, "kube-controller-manager")
        await until(lambda: b.told.min_replicas == 5)
        await b.settled()
        assert replicas(b) == 5
        b.apply(service(minReplicas=3, maxReplicas=6, scaleMetric="concurrency"))
        await until(lambda: b.get(f"{AUTOSCALERS}/iris-predictor") is None)
        await b.settled()
        assert b.told.autoscaled
        assert replicas(b) == 5, "the pods stay until state has said how many it wants"
        b.controller.set_replicas(b.namespace, "iris", 3, "quiet")
        await until(lambda: replicas(b) == 3)


async def test_there_is_no_pod_until_state_says_so(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        obj = b.apply(service(minReplicas=0))
        await b.settled()
        assert (replicas(b), b.told.idle, b.told.min_replicas) == (0, 600.0, 1)
        for wanted in (1, 0, 1):
            b.controller.set_replicas(b.namespace, "iris", wanted, "asked for" if wanted else "not used")
            await until(lambda wanted=wanted: replicas(b) == wanted)  # type: ignore[misc]  # a lambda's default
        await b.settled()
        async with restarted(b, obj) as again:
            assert replicas(b) == 1, "what there is stays until state has said"
            again.set_replicas(b.namespace, "iris", 0, "not used")
            await until(lambda: replicas(b) == 0)


async def test_our_autoscaler_never_has_none_and_the_step_there_and_back_is_ours(
    server: ApiServer, kube: CountingKube
) -> None:
    async with bench(server, kube) as b:
        b.apply(service(minReplicas=0, maxReplicas=6, scaleMetric="cpu"))
        await b.settled()
        found = b.get(f"{AUTOSCALERS}/iris-predictor")
        assert found is not None
        assert (found["spec"]["minReplicas"], found["spec"]["maxReplicas"]) == (1, 6)
        assert (replicas(b), b.told.idle) == (0, 600.0)
        b.controller.set_replicas(b.namespace, "iris", 1, "a request waits")
        await until(lambda: replicas(b) == 1)
        scale(b, 4, "kube-controller-manager")
        await until(lambda: b.told.min_replicas == 4)
        b.controller.resync()
        await b.settled()
        assert replicas(b) == 4
        b.controller.set_replicas(b.namespace, "iris", 0, "not used")
        await until(lambda: replicas(b) == 0)
        bring_autoscaler(b)
        await until(lambda: b.told.idle is None)
        assert "mine" in b.told.scaled_by


async def test_ours_gives_way_to_an_autoscaler_of_the_users(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service(maxReplicas=6, scaleMetric="memory"))
        await until(lambda: b.get(f"{AUTOSCALERS}/iris-predictor") is not None)
        bring_autoscaler(b)
        await until(lambda: b.get(f"{AUTOSCALERS}/iris-predictor") is None)
        await b.settled()
        assert b.get(f"{AUTOSCALERS}/mine") is not None
        assert "mine" in b.told.scaled_by


async def test_an_edit_of_our_autoscaler_is_put_right(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service(maxReplicas=6, scaleMetric="memory"))
        await b.settled()
        path = f"{AUTOSCALERS}/iris-predictor"
        b.patch(path, {"spec": {"maxReplicas": 100}, "metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}})
        await until(lambda: (b.get(path) or {})["spec"]["maxReplicas"] == 6)
        await b.settled()


async def test_the_pod_to_drop_is_named_before_there_are_fewer(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.apply(service(maxReplicas=3))
        b.controller.set_replicas(b.namespace, "iris", 3, "busy")
        await until(lambda: replicas(b) == 3)
        await b.settled()
        pod = {"metadata": {"name": "iris-predictor-x"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        pods = f"/api/v1/namespaces/{b.namespace}/pods"
        uid = server.request("POST", pods, pod).body["metadata"]["uid"]
        before = len(kube.writes)
        b.controller.set_deletion_cost(b.namespace, "iris-predictor-x", -10, uid)
        b.controller.set_replicas(b.namespace, "iris", 2, "quiet")
        await until(lambda: replicas(b) == 2)
        written = [path.rsplit("/", 1)[1] for _, path in kube.writes[before:]]
        assert written.index("iris-predictor-x") < written.index("iris-predictor")
        found = b.get("/api/v1/{ns}/pods/iris-predictor-x")
        assert found is not None
        assert found["metadata"]["annotations"] == {"controller.kubernetes.io/pod-deletion-cost": "-10"}
        b.controller.set_deletion_cost(b.namespace, "iris-predictor-x", 5, "of another pod")
        b.controller.set_replicas(b.namespace, "iris", 1, "quieter")
        await until(lambda: replicas(b) == 1)
        again = b.get("/api/v1/{ns}/pods/iris-predictor-x")
        assert again is not None
        assert again["metadata"]["annotations"] == found["metadata"]["annotations"]

"""The pods that a ServingRuntime's models share, against a real API server: whose they are, and when they go."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from shoal_operator.manifests.groups import GroupSettings, group_key, group_object
from shoal_operator.manifests.runtimes import Runtime
from shoal_operator.state.world.events import ServiceGone
from shoal_operator.workloads import WorkloadController

from tests.component.apiserver.server import PATHS, ApiServer

from .bench import RUNTIME, SETTINGS, Bench, Object, bench, service
from .conftest import CountingKube, until, watch_owned

pytestmark = pytest.mark.component

NAME = "runtime.shoal-mlserver"
LIMITS = {"limits": {"memory": "512Mi", "cpu": "100m"}}
WITH_MEMORY = {**RUNTIME["spec"], "containers": [{"name": "mlserver", "image": "mlserver:1.7.1", "resources": LIMITS}]}


@pytest.fixture(autouse=True)
def _nothing_is_left(server: ApiServer) -> Iterator[None]:
    """The runtime is the cluster's, which other tests share."""
    yield
    server.request("DELETE", f"{PATHS['ClusterServingRuntime']}/shoal-mlserver")


def group(b: Bench, server: ApiServer) -> Object:
    """The group of a runtime that is there; the controller knows both."""
    reply = server.apply({**RUNTIME, "spec": WITH_MEMORY})
    assert reply.ok, reply.message
    b.controller.runtime_seen(reply.body)
    made = group_object(b.namespace, Runtime.read(reply.body), GroupSettings(pods=2))
    b.controller.inference_service_seen(made)
    return made


async def test_its_objects_are_its_runtimes_and_it_is_quiet_then(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        made = group(b, server)
        await b.settled()
        deployment = b.deployment(NAME)
        assert deployment is not None
        assert deployment["spec"]["replicas"] == 2
        (owner,) = deployment["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("ClusterServingRuntime", "shoal-mlserver")
        assert b.get(f"/api/v1/{{ns}}/services/{NAME}") is None
        assert b.told.key == group_key(b.namespace, "shoal-mlserver")
        writes = len(kube.writes)
        b.controller.inference_service_seen(made)
        b.controller.resync()
        await b.settled()
        assert len(kube.writes) == writes


async def test_what_nobody_needs_is_removed(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        made = group(b, server)
        b.apply(service("beside"))
        await b.settled()
        b.controller.released(group_key(b.namespace, "shoal-mlserver"))
        assert isinstance(b.events[-1], ServiceGone)
        await until(lambda: b.deployment(NAME) is None)
        await until(lambda: b.get(f"/apis/policy/v1/{{ns}}/poddisruptionbudgets/{NAME}-predictor") is None)
        assert b.deployment("beside") is not None
        b.controller.inference_service_seen(made)
        await until(lambda: b.deployment(NAME) is not None)


async def test_an_operator_that_starts_removes_what_nobody_needs_any_more(
    server: ApiServer, kube: CountingKube
) -> None:
    async with bench(server, kube) as b:
        group(b, server)
        b.apply(service("beside"))
        await b.settled()
        for name in (NAME, "beside"):  # the operator before it is no more
            key = group_key(b.namespace, "x")._replace(name=name)
            b.controller._services.pop(key)
            b.controller._applier.forget(key)
        again = WorkloadController(kube, SETTINGS, ca_pem=lambda: b.ca, on_event=lambda _: None)
        again.runtime_seen(RUNTIME)
        again.runtimes_listed()
        tasks = [asyncio.create_task(again.run()), asyncio.create_task(watch_owned(kube, b.namespace, again))]
        await until(lambda: len(again._applier.services()) == 2)
        again.groups_known()
        await until(lambda: b.deployment(NAME) is None)
        assert b.deployment("beside") is not None, "its InferenceService's end is not ours to say"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_pods_that_an_inference_service_has_no_use_for_any_more_go(server: ApiServer, kube: CountingKube) -> None:
    """It went over to deploymentMode ModelMesh: nobody's end takes its former pods along."""
    async with bench(server, kube) as b:
        b.apply(service())
        await b.settled()
        assert b.deployment() is not None
        b.controller.released(group_key(b.namespace, "x")._replace(name="iris"))
        await until(lambda: b.deployment() is None)


async def test_modelmeshs_service_is_there_while_a_namespace_needs_it(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube, replace(SETTINGS, modelmesh_service=True)) as b:
        b.apply(service("beside"))
        await b.settled()
        path = "/api/v1/{ns}/services/modelmesh-serving"
        assert b.get(path) is None, "only for ModelMesh's"
        group(b, server)
        await until(lambda: b.get(path) is not None)
        found = b.get(path)
        assert found is not None
        assert found["spec"]["externalName"] == "shoal-gateway.shoal-system.svc.cluster.local"
        b.controller.released(group_key(b.namespace, "shoal-mlserver"))
        seen = b.controller._services[group_key(b.namespace, "x")._replace(name="beside")]
        b.controller.inference_service_gone(b.namespace, "beside", seen.uid)
        await until(lambda: b.get(path) is None)

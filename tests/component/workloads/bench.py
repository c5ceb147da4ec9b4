"""A running workload controller in a namespace of a real API server, and what the state was told by it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from shoal_operator.manifests.settings import WorkloadSettings
from shoal_operator.replicas.pod_counts import Scaled
from shoal_operator.state.world.events import Event, ServiceSeen
from shoal_operator.state.world.values import ServiceSpec
from shoal_operator.volume_claims.room import VolumeClaims
from shoal_operator.workloads import WorkloadController

from tests.component.apiserver.server import ApiServer

from .conftest import CountingKube, watch_owned

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

    def __init__(
        self,
        server: ApiServer,
        kube: CountingKube,
        namespace: str,
        settings: WorkloadSettings,
        claims: VolumeClaims | None,
    ) -> None:
        self.server, self.kube, self.namespace = server, kube, namespace
        self.events: list[Event] = []
        self.scaled: list[Scaled] = []
        self.ca = "certificate one"
        self.controller = WorkloadController(
            kube,
            settings,
            ca_pem=lambda: self.ca,
            on_event=self.events.append,
            on_scaled=self.scaled.append,
            claims=claims,
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
async def bench(
    server: ApiServer,
    kube: CountingKube,
    settings: WorkloadSettings = SETTINGS,
    claims: VolumeClaims | None = None,
) -> AsyncIterator[Bench]:
    namespace = f"bench-{next(_names)}"
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    running = Bench(server, kube, namespace, settings, claims)
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

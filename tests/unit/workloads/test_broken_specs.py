"""Edits that cannot be, over an API that stores whatever it is given: what the state is told, and what goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from shoal_operator import put, workload
from shoal_operator.kube import KubeError
from shoal_operator.state.world.events import Event, ServiceSeen
from shoal_operator.state.world.values import ServiceSpec
from shoal_operator.workloads import WorkloadController

from tests.unit.manifests.objects import LIMITS, SETTINGS, Object

RUNTIME: Object = {
    "metadata": {"name": "shoal-mlserver"},
    "spec": {
        "multiModel": True,
        "supportedModelFormats": [{"name": "sklearn", "autoSelect": True}],
        "builtInAdapter": {"serverType": "mlserver"},
        "containers": [{"name": "mlserver", "image": "mlserver:1"}],
    },
}


class Api:
    """Applies are stored by path; ``refuse`` says no to those of ``refused_kind``."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.applied: list[str] = []
        self.refuse: KubeError | None = None
        self.refused_kind = "deployments"

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> Object:
        if method == "GET" and "horizontalpodautoscalers" in path:
            return {"items": []}
        if method == "GET":
            if path not in self.objects:
                raise KubeError(404, "NotFound", path)
            return self.objects[path]
        assert method == "PATCH"
        self.applied.append(path)
        if self.refuse is not None and self.refused_kind in path:
            raise self.refuse
        version = str(100 + len(self.applied))
        self.objects[path] = {**body, "metadata": {**body["metadata"], "uid": path, "resourceVersion": version}}
        return self.objects[path]


class Bench:
    def __init__(self) -> None:
        self.api, self.events, self.generation = Api(), list[Event](), 0
        self.controller = WorkloadController(self.api, SETTINGS, ca_pem=lambda: "pem", on_event=self.events.append)
        self.controller.runtime_seen(RUNTIME)
        self.controller.runtimes_listed()
        self.controller.autoscalers_listed()

    def apply(self, **predictor: Any) -> None:
        self.generation += 1
        meta = {"name": "iris", "namespace": "demo", "uid": "uid-iris", "generation": self.generation}
        server = {"resources": LIMITS, **predictor.pop("sklearn", {})}
        self.controller.inference_service_seen(
            {"metadata": meta, "spec": {"predictor": {"sklearn": server, **predictor}}}
        )

    def pods_run(self) -> None:
        path, deployment = next((p, o) for p, o in self.api.objects.items() if "deployments" in p)
        assert path
        seen = {**deployment, "status": {"replicas": 1}}
        self.controller.owned_object_changed("Deployment", "demo", "iris-predictor", seen)

    @property
    def told(self) -> ServiceSpec:
        return [event.spec for event in self.events if isinstance(event, ServiceSeen)][-1]

    async def settled(self) -> None:
        for _ in range(400):
            await asyncio.sleep(0.01)
            if not self.controller.pending:
                return
        raise AssertionError("the controller does not come to rest: something is tried again and again")


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    running = Bench()
    task = asyncio.create_task(running.controller.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("edit", [{"sklearn": {"ports": "x"}}, {"terminationGracePeriodSeconds": "x"}, {"timeout": -1}])
async def test_an_edit_that_cannot_be_changes_what_is_said_and_nothing_else(edit: Object) -> None:
    async with bench() as b:
        b.apply()
        await b.settled()
        b.pods_run()
        before, applied = b.told, len(b.api.applied)
        b.apply(**edit)
        await b.settled()
        assert (b.told.problem, b.told.generation) == (None, 2)
        assert b.told.degraded is not None
        assert b.told.degraded.reason == "InvalidSpec"
        assert "spec.predictor" in b.told.degraded.message
        assert (b.told.capacity_bytes, b.told.formats) == (before.capacity_bytes, before.formats)
        assert len(b.api.applied) == applied
        b.apply(minReplicas=2)
        await b.settled()
        assert (b.told.degraded, b.told.generation) == (None, 3)


async def test_without_pods_it_is_a_problem() -> None:
    async with bench() as b:
        b.apply(sklearn={"ports": "x"})
        await b.settled()
        assert b.told.problem is not None
        assert "spec.predictor.sklearn.ports" in b.told.problem.message
        assert b.api.applied == []


async def test_scaling_goes_on_beside_an_edit_that_cannot_be() -> None:
    async with bench() as b:
        b.apply(minReplicas=1, maxReplicas=4)
        await b.settled()
        b.pods_run()
        b.apply(minReplicas=1, maxReplicas=4, sklearn={"ports": "x"})
        await b.settled()
        b.controller.set_replicas("demo", "iris", 3, "busy")
        await b.settled()
        deployment = next(o for p, o in b.api.objects.items() if "deployments" in p)
        assert deployment["spec"]["replicas"] == 3


async def test_a_refusal_for_good_is_said_and_not_repeated() -> None:
    async with bench() as b:
        b.apply()
        await b.settled()
        b.pods_run()
        b.api.refuse = KubeError(422, "Invalid", "spec.template.spec.dnsPolicy: Unsupported value")
        b.apply(dnsPolicy="Nonsense")
        await b.settled()
        applied = len(b.api.applied)
        for _ in range(3):
            b.controller.resync()
            await b.settled()
        assert len(b.api.applied) == applied
        assert b.told.degraded is not None
        assert "dnsPolicy" in b.told.degraded.message


async def test_a_mistake_of_our_own_is_one_services_condition_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With growing pauses; what runs goes on meanwhile."""
    calls = 0

    def broken(*_: object, **__: object) -> list[Object]:
        nonlocal calls
        calls += 1
        raise RuntimeError("not foreseen")

    async with bench() as b:
        b.apply()
        await b.settled()
        b.pods_run()
        for number, name, room in ((2, "render", put), (3, "resolve", workload)):
            calls = 0
            with monkeypatch.context() as patch:
                patch.setattr(room, name, broken)
                b.apply(minReplicas=number)
                await asyncio.sleep(0.3)
                assert 1 <= calls <= 3
                assert b.told.problem is None
                assert b.told.degraded is not None
                assert b.told.degraded.reason == "RenderingFailed"
                assert "not foreseen" in b.told.degraded.message
            await b.settled()
            assert b.told.degraded is None
            assert b.told.min_replicas == number


async def test_a_runtime_that_is_broken_by_an_edit_leaves_its_services_as_they_are() -> None:
    async with bench() as b:
        b.apply()
        await b.settled()
        b.pods_run()
        applied = len(b.api.applied)
        b.controller.runtime_seen({**RUNTIME, "spec": {**RUNTIME["spec"], "containers": "x"}})
        await b.settled()
        assert b.told.problem is None
        assert b.told.degraded is not None
        assert b.told.degraded.reason == "RuntimeInvalid"
        assert "shoal-mlserver" in b.told.degraded.message
        assert len(b.api.applied) == applied
        b.controller.runtime_seen(RUNTIME)
        await b.settled()
        assert b.told.degraded is None


async def test_a_refused_configmap_is_said_too() -> None:
    async with bench() as b:
        b.api.refuse, b.api.refused_kind = KubeError(422, "Invalid", "data: too large"), "configmaps/shoal-ca"
        b.apply()
        await b.settled()
        assert b.told.problem is not None
        assert "ConfigMap shoal-ca" in b.told.problem.message

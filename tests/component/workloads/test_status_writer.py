"""The status writer against a real API server: what is stored, and how few writes it takes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from shoal_api.messages import CopyFailure, FailureStage, content_digest
from shoal_operator.state.world.values import ModelKey, ModelSpec, Problem, ServiceKey, ServiceSpec
from shoal_operator.state.world.views import CopyState, CopyView, ModelView, ServiceView
from shoal_operator.status import budget
from shoal_operator.status.events import FailureEvents
from shoal_operator.status.writer import StatusWriter

from tests.component.apiserver.server import ApiServer
from tests.unit.status.model_views import with_copies

from .conftest import CountingKube, until

pytestmark = pytest.mark.component

Object = dict[str, Any]
_names = count()
LOADED = CopyView("pod-1", "uid-1", CopyState.LOADED, serving=True)


class Bench:
    """A namespace, views that the test sets, and a running writer."""

    def __init__(self, server: ApiServer, kube: CountingKube, namespace: str) -> None:
        self.server, self.kube, self.namespace = server, kube, namespace
        self.models: dict[ModelKey, ModelView] = {}
        self.services: dict[ServiceKey, ServiceView] = {}
        self.events = FailureEvents(kube, "operator-0")
        self.writer = self.new_writer()

    def new_writer(self) -> StatusWriter:
        return StatusWriter(self.kube, model_view=self.models.get, service_view=self.services.get, events=self.events)

    @property
    def status_writes(self) -> int:
        return sum(path.endswith("/status") for _, path in self.kube.writes)

    def add_model(self, name: str, *copies: CopyView) -> ModelView:
        obj: Object = {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "TrainedModel",
            "metadata": {"name": name},
            "spec": {
                "inferenceService": "iris",
                "model": {"storageUri": "s3://b/m", "framework": "sklearn", "memory": "1Mi"},
            },
        }
        reply = self.server.apply(obj, namespace=self.namespace)
        assert reply.ok, reply.message
        return self.set_view(reply.body, *copies)

    def set_view(self, obj: Object, *copies: CopyView) -> ModelView:
        meta = obj["metadata"]
        uri = obj["spec"]["model"]["storageUri"]
        spec = ModelSpec(
            self.namespace,
            meta["name"],
            meta["uid"],
            meta["generation"],
            "iris",
            uri,
            "sklearn",
            1 << 20,
            content_digest(uri, "sklearn"),
        )
        service = ServiceSpec(self.namespace, "iris", "u", 1, 1 << 30, frozenset({"sklearn"}), "mlserver")
        bare = ModelView(spec=spec, service=service, service_ready=True, url="http://iris.example.com", copies=())
        view = with_copies(bare, copies)
        self.models[spec.key] = view
        self.writer.observed_model_status(spec.key, spec.uid, meta["resourceVersion"], obj.get("status"))
        self.writer.model_changed(spec.key)
        return view

    def show(self, view: ModelView) -> None:
        self.models[view.spec.key] = view
        self.writer.model_changed(view.spec.key)

    def stored(self, name: str) -> Object:
        reply = self.server.get("TrainedModel", name, namespace=self.namespace)
        return reply.body if reply.ok else {}

    def ready(self, name: str) -> tuple[str, str] | None:
        for condition in self.stored(name).get("status", {}).get("conditions", []):
            if condition["type"] == "Ready":
                return condition["status"], condition["reason"]
        return None


@asynccontextmanager
async def bench(server: ApiServer, kube: CountingKube) -> AsyncIterator[Bench]:
    namespace = f"status-{next(_names)}"
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    running = Bench(server, kube, namespace)
    running.writer.open()
    tasks = [asyncio.create_task(running.writer.run()), asyncio.create_task(running.events.run())]
    try:
        yield running
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_write_from_apply_to_ready(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        view = b.add_model("m")
        for state in (CopyState.PENDING, CopyState.PULLING, CopyState.LOADING):
            b.show(with_copies(view, [CopyView("pod-1", "uid-1", state, serving=False)]))
            await asyncio.sleep(0.3)
        b.show(with_copies(view, [LOADED], artifact_seen=True))
        await until(lambda: b.ready("m") == ("True", "Loaded"))
        assert b.status_writes == 1
        status = b.stored("m")["status"]
        assert status["url"] == "http://iris.example.com/v2/models/m/infer"
        assert status["observedGeneration"] == 1
        b.writer.model_changed(view.spec.key)
        await asyncio.sleep(0.5)
        assert b.status_writes == 1


async def test_a_state_that_lasts_is_written(
    server: ApiServer, kube: CountingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_SECONDS", "HOLD_SECONDS"):
        monkeypatch.setattr(budget, name, 0.5)
    async with bench(server, kube) as b:
        view = b.add_model("m")
        await until(lambda: b.ready("m") == ("Unknown", "Pending"))
        b.show(with_copies(view, [LOADED]))
        await until(lambda: b.ready("m") == ("True", "Loaded"))
        assert b.status_writes == 2


async def test_nothing_leaves_before_open(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.writer = b.new_writer()
        task = asyncio.create_task(b.writer.run())
        b.add_model("m", LOADED)
        await asyncio.sleep(0.5)
        assert b.ready("m") is None
        b.writer.open()
        await until(lambda: b.ready("m") is not None)
        task.cancel()


async def test_a_restarted_operator_writes_nothing(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        for number in range(20):
            b.add_model(f"m{number}", LOADED)
        await until(lambda: b.status_writes == 20)
        await asyncio.sleep(0.2)
        b.writer = b.new_writer()
        task = asyncio.create_task(b.writer.run())
        b.writer.open()
        for number in range(20):
            b.set_view(b.stored(f"m{number}"), LOADED)
        await asyncio.sleep(1)
        assert b.status_writes == 20
        task.cancel()


async def test_a_foreign_edit_of_the_status_is_put_right(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.add_model("m", LOADED)
        await until(lambda: b.ready("m") is not None)
        edit = {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Mine"}]}}
        reply = server.merge("TrainedModel", "m", edit, subresource="/status", namespace=b.namespace)
        b.set_view(reply.body, LOADED)
        await until(lambda: b.ready("m") == ("True", "Loaded"))


async def test_a_name_used_again_never_gets_the_old_status(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        old = b.add_model("m", LOADED)
        await until(lambda: b.ready("m") is not None)
        server.delete("TrainedModel", "m", namespace=b.namespace)
        failing = CopyFailure(stage=FailureStage.LOAD, reason="LoadFailed", message="of the old model")
        obj = server.apply(
            {
                "apiVersion": "serving.kserve.io/v1alpha1",
                "kind": "TrainedModel",
                "metadata": {"name": "m"},
                "spec": {"inferenceService": "iris", "model": {"storageUri": "s3://b/n", "framework": "sklearn"}},
            },
            namespace=b.namespace,
        ).body
        # The state has not heard of the new object yet, and says something new of the old one.
        b.show(with_copies(old, [CopyView("p", "u", CopyState.FAILED, serving=False, failure=failing)]))
        await asyncio.sleep(1)
        assert b.ready("m") is None
        b.set_view(obj, LOADED)
        await until(lambda: b.ready("m") == ("True", "Loaded"))


async def test_a_failure_is_told_once_as_an_event(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        said = "404 for s3://b/" + "ö" * 900  # an event may be as many bytes long as a condition characters
        failure = CopyFailure(stage=FailureStage.STORAGE, reason="BucketNotFound", message=said)
        failed = CopyView("pod-1", "uid-1", CopyState.FAILED, serving=False, failure=failure)
        view = b.add_model("m", failed)
        await until(lambda: b.ready("m") == ("False", "BucketNotFound"))
        b.show(with_copies(view, [LOADED]))
        await until(lambda: b.ready("m") == ("True", "Loaded"))
        b.show(view)
        await until(lambda: b.ready("m") == ("False", "BucketNotFound"))

        def events() -> list[Object]:
            path = f"/apis/events.k8s.io/v1/namespaces/{b.namespace}/events"
            return list(server.request("GET", path).body["items"])

        await until(lambda: len(events()) > 0)
        await asyncio.sleep(0.5)
        assert [(e["reason"], e["type"], e["regarding"]["name"]) for e in events()] == [
            ("BucketNotFound", "Warning", "m")
        ]
        assert "404" in events()[0]["note"]


async def test_service_status_and_its_counts(
    server: ApiServer, kube: CountingKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(server, kube) as b:
        obj = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "iris"},
            "spec": {"predictor": {"sklearn": {}}},
        }
        meta = server.apply(obj, namespace=b.namespace).body["metadata"]
        spec = ServiceSpec(
            b.namespace, "iris", meta["uid"], 1, 1 << 30, frozenset({"sklearn"}), "mlserver",
            ignored_fields=("spec.transformer",),
        )  # fmt: skip
        view = ServiceView(spec, "http://iris.example.com", 1, 1, 60, 59, 1, gateways=2)
        b.services[spec.key] = view
        b.writer.service_changed(spec.key)
        await until(lambda: "59/60" in server.kubectl("get", "isvc", "iris", "-n", b.namespace))
        assert "True" in server.kubectl("get", "isvc", "iris", "-n", b.namespace)
        for ready in range(40, 60):
            b.services[spec.key] = replace(view, models_ready=ready)
            b.writer.service_changed(spec.key)
            await asyncio.sleep(0.03)
        await asyncio.sleep(0.5)
        assert b.status_writes == 1  # counts at most every 10 s
        b.services[spec.key] = replace(view, spec=replace(spec, problem=Problem("RuntimeNotFound", "none")))
        b.writer.service_changed(spec.key)
        # Ready changed: at once.
        wait = ("wait", "isvc/iris", "-n", b.namespace, "--for=condition=Ready=false", "--timeout=5s")
        await asyncio.to_thread(server.kubectl, *wait)
        assert b.status_writes == 2


async def test_ten_thousand_changes_of_few_models_cost_few_writes(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        views = [b.add_model(f"m{number}", LOADED) for number in range(50)]
        started = time.monotonic()
        for _ in range(200):
            for view in views:
                b.writer.model_changed(view.spec.key)
            await asyncio.sleep(0)
        await until(lambda: b.status_writes == 50)
        await asyncio.sleep(0.5)
        assert b.status_writes == 50
        assert time.monotonic() - started < 10


async def test_kserves_finalizer_lets_go_of_a_deleted_model(server: ApiServer, kube: CountingKube) -> None:
    async with bench(server, kube) as b:
        b.add_model("m", LOADED)
        finalizers = ["trainedmodel.finalizer", "example.com/other"]
        server.merge("TrainedModel", "m", {"metadata": {"finalizers": finalizers}}, namespace=b.namespace)
        server.delete("TrainedModel", "m", namespace=b.namespace)
        b.writer.model_deleting(b.stored("m"))
        await until(lambda: b.stored("m")["metadata"]["finalizers"] == ["example.com/other"])

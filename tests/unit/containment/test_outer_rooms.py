"""One exception at every function of the rooms that render: gateway tables and routes, status, manifests, replicas.

They are told of one InferenceService's affairs at a time. Whatever fails is named and done again, and nobody else's
part is lost; what concerns all of them at once ends the process. The functions are found, not listed.
"""

import asyncio
import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache, wraps
from types import FunctionType
from typing import Any

import pytest
import shoal_operator.gateway
import shoal_operator.manifests
import shoal_operator.replicas
import shoal_operator.status
from shoal_operator import uncaught
from shoal_operator.gateway.tables import GatewayTables
from shoal_operator.gateway.vocabulary import CLUSTER, ROUTES, SCOPE
from shoal_operator.kube import KubeError
from shoal_operator.manifests.settings import WorkloadSettings
from shoal_operator.state.world import events
from shoal_operator.state.world.effects import Effect, ModelStatusChanged, ServiceStatusChanged
from shoal_operator.state.world.values import ModelKey, ServiceKey
from shoal_operator.status.model_status import model_status
from shoal_operator.status.subjects import Subject, Target
from shoal_operator.status.writer import StatusWriter
from shoal_operator.workloads import WorkloadController

from tests.unit.state.world_in_hand import service_spec

from .bugs import Bug, in_groups
from .plant import Plant, play

PURE = {
    shoal_operator.gateway: ("tables", "routes", "clusters", "scopes", "envoy_json"),
    shoal_operator.status: ("model_status", "service_status", "conditions", "entry", "stored", "patches", "budget"),
    shoal_operator.manifests: ("render", "resolve", "runtimes", "former", "annotations", "scaling", "pod_template"),
    shoal_operator.replicas: ("decide", "deployments"),
}
RUNTIME: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ClusterServingRuntime",
    "metadata": {"name": "shoal-mlserver"},
    "spec": {
        "multiModel": True,
        "protocolVersions": ["v2"],
        "supportedModelFormats": [{"name": "sklearn", "version": "1", "autoSelect": True}],
        "builtInAdapter": {"serverType": "mlserver", "memBufferBytes": 134217728},
        "containers": [{"name": "mlserver", "image": "mlserver:1.7.1"}],
    },
}


def functions(*rooms: Any) -> dict[str, tuple[FunctionType, list[tuple[Any, str]]]]:
    """Every function and method of the rooms' pure modules, with all places that hold it."""
    pure, everywhere = [], []
    for room, names in PURE.items():
        for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            module = importlib.import_module(found.name)
            everywhere.append(module)
            if room in rooms and found.name.rpartition(".")[2] in names:
                pure.append(module)
    everywhere += [importlib.import_module(f"shoal_operator.{name}") for name in ("workloads", "workload")]
    held: dict[str, tuple[FunctionType, list[tuple[Any, str]]]] = {}
    for module in pure:
        for value in vars(module).values():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                places = [(each, name) for each in everywhere for name, one in vars(each).items() if one is value]
                held[f"{module.__name__}.{value.__qualname__}"] = (value, places)
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                for name, method in vars(value).items():
                    if inspect.isfunction(method) and method.__module__ == module.__name__ and name[:2] != "__":
                        held[f"{module.__name__}.{method.__qualname__}"] = (method, [(value, name)])
    return held


def watch(patch: pytest.MonkeyPatch, called: Callable[[str], None], *rooms: Any) -> None:
    def told(function: FunctionType, name: str) -> Any:
        @wraps(function)
        def call(*arguments: Any, **more: Any) -> Any:
            called(name)
            return function(*arguments, **more)

        return call

    for name, (function, places) in functions(*rooms).items():
        for holder, attribute in places:
            patch.setattr(holder, attribute, told(function, name))


class Api:
    """Takes everything, and remembers it."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.version = 0

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        if method == "GET":
            if path not in self.objects:
                raise KubeError(404, "NotFound", path)
            return dict(self.objects[path])
        self.version += 1
        if path.endswith("/status"):
            status = next(part["value"] for part in body if part["path"] == "/status")
            self.objects[path] = status
            return {"metadata": {"resourceVersion": str(self.version)}, "status": status}
        meta = {**body["metadata"], "uid": f"o{self.version}", "resourceVersion": str(self.version)}
        self.objects[path] = {**body, "metadata": meta}
        return dict(self.objects[path])


def isvc(name: str) -> dict[str, Any]:
    resources = {"limits": {"memory": "512Mi", "cpu": "100m"}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "ns", "uid": f"u-{name}", "generation": 1, "resourceVersion": "1"},
        "spec": {"predictor": {"minReplicas": 1, "sklearn": {"protocolVersion": "v2", "resources": resources}}},
    }


class Story(Plant):
    """Two InferenceServices, whose routes, statuses and objects are made as the operator makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop.set_exception_handler(uncaught.handler(self.fatal.append))
        self.tables = GatewayTables()
        self.routing: list[Effect] = []
        self.said: list[Any] = []
        self.api = Api()
        self.status = StatusWriter(
            self.api,
            model_view=lambda key: self.core.model(key, "http://a"),
            service_view=lambda key: self.core.service(key, "http://a", 1),
            failed=self._status_failed,
            clock=self.loop.time,
        )
        self.workloads = WorkloadController(
            self.api,
            WorkloadSettings("shoal-system", "agent"),
            ca_pem=lambda: "pem",
            on_event=self.said.append,
            failed=self.core.failed,
        )
        self.workloads._queue._clock = self.loop.time

    def _status_failed(self, target: Target, error: Exception) -> None:
        if target[0] is Subject.SERVICE:
            self.core.failed(ServiceKey(target[1], target[2]), "status", error)
        elif (model := self.core.world.models.get(ModelKey(target[1], target[2]))) is not None:
            self.core.failed(model.spec.service_key, "status", error)

    def _gateway(self, effects: Sequence[Effect]) -> None:
        self.routing += effects
        self.tables.apply(effects)
        super()._gateway(effects)

    def _room(self, effect: Effect) -> None:
        super()._room(effect)
        match effect:
            case ModelStatusChanged(key):
                self.status.model_changed(key)
            case ServiceStatusChanged(key):
                self.status.service_changed(key)

    async def run(self) -> None:
        self.status.open()
        tasks = [asyncio.create_task(self.status.run()), asyncio.create_task(self.workloads.run())]
        self.workloads.runtime_seen(RUNTIME)
        self.workloads.runtimes_listed()
        self.workloads.autoscalers_listed()
        for name in "ab":
            self.workloads.inference_service_seen(isvc(name))
        self.start()
        for name, pods in (("a", 2), ("b", 1)):
            self.service(name, pods, strict=False)
            for number in range(3):
                self.model(f"{name}{number}", name)
        await asyncio.sleep(10)
        self.core.handle(events.ModelGone(ModelKey("ns", "a1"), "uid-a1"))
        self.model("a3", "a", storage_uri="gs://nowhere")
        self.core.handle(events.ServiceSeen(service_spec(name="b", uid="u-b", min_replicas=1, generation=2)))
        await asyncio.sleep(5)
        self.loop.call_soon(self.tables.collect, self.sequence)
        await asyncio.sleep(180)  # with growing pauses everything is done once more
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        self.fatal += [each for each in ended if isinstance(each, Exception)]  # with such a task the process ends

    def check(self) -> None:
        """All is as if nothing had failed."""
        for service, name in (("a", "a0"), ("a", "a2"), ("b", "b0"), ("b", "b1"), ("b", "b2")):
            assert self.serves(service, name), name
        fresh = GatewayTables()
        for effect in self.routing:
            fresh.apply([effect])
        fresh.collect(self.sequence)
        scopes = [{name: held.version for name, held in each.resources[SCOPE].items()} for each in (fresh, self.tables)]
        both = scopes[0].keys() & scopes[1].keys()
        assert {name: scopes[1][name] for name in both} == {name: scopes[0][name] for name in both}
        for name in scopes[1].keys() ^ scopes[0].keys():
            assert name.startswith("~"), "what nobody uses may stay, or have gone, but no model"
        for type_url in (CLUSTER, ROUTES):
            for name, resource in fresh.resources[type_url].items():
                if type_url == ROUTES and f"~{name}" in scopes[0].keys() - scopes[1].keys():
                    continue
                assert self.tables.resources[type_url][name].version == resource.version, name
        for key in self.core.world.models:
            view = self.core.model(key, "http://a")
            stored = self.api.objects[f"/apis/serving.kserve.io/v1alpha1/namespaces/ns/trainedmodels/{key.name}/status"]
            assert view is not None
            assert model_status(view, stored, datetime.now(UTC), "cluster.local") == stored
        for name in "ab":
            path = f"/apis/serving.kserve.io/v1beta1/namespaces/ns/inferenceservices/{name}/status"
            assert [c["status"] for c in self.api.objects[path]["conditions"] if c["type"] == "PredictorReady"] == [
                "True"
            ]
            assert f"/apis/apps/v1/namespaces/ns/deployments/{name}-predictor" in self.api.objects
            told = [event.spec for event in self.said if event.spec.name == name]
            assert told[-1].problem is None
            assert told[-1].degraded is None


AT_ONCE = 5
SHARES = 3


def calls() -> Counter[str]:
    counted: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, lambda name: counted.update((name,)), *PURE)
        _told(counted)
    return counted


def _told(counted: Counter[str]) -> None:
    stories: list[Story] = []
    play(lambda: _run(stories))
    stories[0].check()
    assert not stories[0].fatal


async def _run(stories: list[Story]) -> None:
    stories.append(Story())
    await stories[0].run()


@cache
def groups() -> list[dict[str, int]]:
    return in_groups(calls(), AT_ONCE, seed=7)


def test_the_story_comes_through_most_of_it() -> None:
    """Else the test below would say little."""
    tried = {name for group in groups() for name in group}
    missing = functions(*PURE).keys() - tried
    assert len(tried) > 120
    assert len(missing) < 0.4 * (len(missing) + len(tried)), sorted(missing)


@pytest.mark.parametrize("share", range(SHARES))
def test_one_exception_wherever_there_can_be_one(share: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    wrong = {}
    for group in groups()[share::SHARES]:
        counted: Counter[str] = Counter()
        raised: list[str] = []

        def called(name: str, group: dict[str, int] = group, counted: Any = counted, raised: Any = raised) -> None:
            counted[name] += 1
            if group.get(name) == counted[name]:
                raised.append(name)
                raise Bug(name)

        stories: list[Story] = []
        try:
            with pytest.MonkeyPatch.context() as patch:
                watch(patch, called, *PURE)
                play(lambda stories=stories: _run(stories))  # type: ignore[misc]
            if stories[0].fatal or not raised:
                continue  # loud: the process ends, and a new one begins
            stories[0].check()
            errors = [
                sample.value
                for metric in stories[0].registry.collect()
                for sample in metric.samples
                if sample.name == "shoal_internal_errors_total"
            ]
            assert sum(errors) > 0, "each is counted"
        except Exception as error:
            if not stories:
                continue  # it did not even begin
            wrong[tuple(raised)] = repr(error)[-400:]
    assert not wrong, "\n\n".join(map(str, wrong.items()))


def test_what_no_callback_caught_ends_the_process() -> None:
    """A timer of our own that fails would only be a line in the log."""
    fatal: list[Exception] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(uncaught.handler(fatal.append))
        loop.call_soon(exec, "raise OSError('of a library')", {"__name__": "somebody.elses"})
        await asyncio.sleep(0.01)
        assert not fatal
        loop.call_soon(exec, "raise ValueError('ours')", {"__name__": "shoal_operator.somewhere"})
        await asyncio.sleep(0.01)

    asyncio.run(story())
    assert [str(error) for error in fatal] == ["ours"]

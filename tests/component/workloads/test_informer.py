"""The informers against a real API server: what it sends, and what happens in gaps of the watch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from prometheus_client import CollectorRegistry
from shoal_operator import kube
from shoal_operator.kube import Kube
from shoal_operator.watch import informer
from shoal_operator.watch.informer import Gone, Informers
from shoal_operator.watch.kinds import WATCHED

from tests.component.apiserver.relay import Line, Relay, relay
from tests.component.apiserver.server import ApiServer

from .conftest import until

pytestmark = pytest.mark.component

OURS = {"app.kubernetes.io/managed-by": "shoal"}


class Sink:
    """Notes what it is told; ``there``: kind and name of what it was shown and not taken back."""

    def __init__(self) -> None:
        self.seen_uids: list[tuple[str, str, str]] = []
        self.ends: list[tuple[str, str, str]] = []
        self.there: set[tuple[str, str]] = set()
        self.lists: list[str] = []

    def seen(self, kind: str, obj: Any) -> None:
        meta = obj["metadata"]
        self.seen_uids.append((kind, meta["name"], meta["uid"]))
        self.there.add((kind, meta["name"]))

    def gone(self, kind: str, gone: Gone) -> None:
        self.ends.append((kind, gone.name, gone.uid))
        self.there.discard((kind, gone.name))

    def listed(self, kind: str) -> None:
        self.lists.append(kind)


class Watching:
    """Informers that watch one namespace through a relay."""

    def __init__(self, server: ApiServer, line: Relay, sink: Sink, namespace: str) -> None:
        self.server = server
        self.line = line
        self.sink = sink
        self.namespace = namespace
        self.registry = CollectorRegistry()

    def path(self, prefix: str, plural: str, name: str = "") -> str:
        return f"{prefix}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def make(self, prefix: str, plural: str, name: str, spec: Any, labels: Any = None) -> None:
        body = {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}
        reply = self.server.request("POST", self.path(prefix, plural), body)
        assert reply.ok, reply.message

    def drop(self, prefix: str, plural: str, name: str) -> None:
        reply = self.server.request("DELETE", self.path(prefix, plural, name))
        assert reply.ok, reply.message

    def inference_service(self, name: str, **more: Any) -> None:
        spec = {"predictor": {"sklearn": {}, **more}}
        body = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": name}}
        reply = self.server.create({**body, "spec": spec}, namespace=self.namespace)
        assert reply.ok, reply.message

    def service(self, name: str, labels: Any = None) -> None:
        self.make("/api/v1", "services", name, {"type": "ExternalName", "externalName": "example.com"}, labels)


@asynccontextmanager
async def watching(server: ApiServer, folder: Path, namespace: str) -> AsyncIterator[Watching]:
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    async with relay(server.kubeconfig, folder) as line:
        configuration = Configuration()
        await config.load_kube_config(str(line.kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
        async with ApiClient(configuration) as client:
            found = Watching(server, line, Sink(), namespace)
            informers = Informers(Kube(client), [namespace], found.sink, registry=found.registry)
            task = asyncio.create_task(informers.run())
            try:
                await until(lambda: set(found.sink.lists) == {each.kind for each in WATCHED})
                yield found
                assert not task.done(), "informers go on for ever"
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def settled(watching: Watching, *expected: tuple[str, str]) -> None:
    await until(lambda: watching.sink.there == set(expected), 40)


async def test_only_ours_and_all_autoscalers_are_sent(server: ApiServer, tmp_path: Path) -> None:
    scaled = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 2}
    async with watching(server, tmp_path, "informer-labels") as given:
        for name, labels in (("ours", OURS), ("theirs", {})):
            given.service(name, labels)
            given.make("/apis/autoscaling/v2", "horizontalpodautoscalers", name, scaled, labels)
        kind = "HorizontalPodAutoscaler"
        await settled(given, ("Service", "ours"), (kind, "ours"), (kind, "theirs"))
        # Who takes the label off takes the object out of what is watched: that is told as its end.
        path = given.path("/api/v1", "services", "ours")
        without: Any = {"metadata": {"labels": dict.fromkeys(OURS)}}
        assert server.request("PATCH", path, without, content="application/merge-patch+json").ok
        await settled(given, (kind, "ours"), (kind, "theirs"))
        assert ("Service", "theirs") not in {(kind, name) for kind, name, _ in given.sink.seen_uids}


async def test_what_is_deleted_and_made_while_the_watch_is_away(server: ApiServer, tmp_path: Path) -> None:
    """With the storage compacted meanwhile: nobody can tell any more what happened, and a list has to."""
    async with watching(server, tmp_path, "informer-gap") as given:
        for name in ("kept", "dropped", "again"):
            given.service(name, OURS)
        given.inference_service("isvc")
        everything = [("Service", name) for name in ("kept", "dropped", "again")] + [("InferenceService", "isvc")]
        await settled(given, *everything)
        first = {name: uid for _, name, uid in given.sink.seen_uids}
        lists = len(given.sink.lists)
        given.line.becomes(Line.CUT)
        given.drop("/api/v1", "services", "dropped")
        given.drop("/api/v1", "services", "again")
        given.drop("/apis/serving.kserve.io/v1beta1", "inferenceservices", "isvc")
        given.service("again", OURS)
        given.service("new", OURS)
        server.compact()
        given.line.becomes(Line.OPEN)
        await settled(given, ("Service", "kept"), ("Service", "again"), ("Service", "new"))
        assert sorted(given.sink.ends) == sorted(
            (kind, name, first[name])
            for kind, name in (("Service", "dropped"), ("Service", "again"), ("InferenceService", "isvc"))
        )
        await until(lambda: len(given.sink.lists) > lists)


async def test_a_short_gap_is_made_up_for_without_a_list(server: ApiServer, tmp_path: Path) -> None:
    async with watching(server, tmp_path, "informer-short") as given:
        for name in ("a", "b"):
            given.service(name, OURS)
        await settled(given, ("Service", "a"), ("Service", "b"))
        lists = len(given.sink.lists)
        given.line.becomes(Line.CUT)
        given.drop("/api/v1", "services", "a")
        given.service("c", OURS)
        given.line.becomes(Line.OPEN)
        await settled(given, ("Service", "b"), ("Service", "c"))
        assert len(given.sink.lists) == lists


async def test_a_connection_that_falls_silent(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server that accepts and never answers, and a watch whose other end is gone without a word."""
    monkeypatch.setattr(informer, "SILENCE_SECONDS", 2.0)
    monkeypatch.setattr(kube, "REQUEST_SECONDS", 2.0)
    async with watching(server, tmp_path, "informer-silent") as given:
        given.service("a", OURS)
        await settled(given, ("Service", "a"))
        given.line.becomes(Line.SILENT)
        given.drop("/api/v1", "services", "a")
        given.service("b", OURS)
        await asyncio.sleep(3)
        assert given.sink.there == {("Service", "a")}
        given.line.becomes(Line.OPEN)
        await settled(given, ("Service", "b"))


async def test_an_object_of_a_megabyte(server: ApiServer, tmp_path: Path) -> None:
    async with watching(server, tmp_path, "informer-large") as given:
        large = {"metadata": {"name": "large", "labels": OURS, "annotations": {"a": "x" * 250_000}}}
        spec = {"type": "ExternalName", "externalName": "example.com"}
        assert server.request("POST", given.path("/api/v1", "services"), {**large, "spec": spec}).ok
        given.inference_service("isvc", annotations={"x": "y" * 1_000_000})
        await settled(given, ("Service", "large"), ("InferenceService", "isvc"))

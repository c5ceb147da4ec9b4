"""kopf against a real API server: what concerns us arrives, and of others only their autoscalers."""

import asyncio
from typing import Any

import pytest
from shoal_operator.watch import handlers

from tests.component.apiserver.server import ApiServer

from .conftest import until

pytestmark = pytest.mark.component

OURS = {"app.kubernetes.io/managed-by": "shoal"}


class Sink:
    """Notes the kind and name of all that arrives."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bool]] = []

    def owned(self, kind: str, obj: Any, *, gone: bool) -> None:
        self.seen.append((kind, obj["metadata"]["name"], gone))

    def ignored(self, obj: Any, *, gone: bool) -> None:
        """Not looked at here."""

    model = inference_service = runtime = pod = ignored


async def test_all_autoscalers_and_only_our_other_objects(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": "watched"}})
    services = "/api/v1/namespaces/watched/services"
    autoscalers = "/apis/autoscaling/v2/namespaces/watched/horizontalpodautoscalers"
    external = {"type": "ExternalName", "externalName": "example.com"}
    scaled = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 2}
    for path, spec in ((services, external), (autoscalers, scaled)):
        for name, labels in (("ours", OURS), ("theirs", {})):
            reply = server.request("POST", path, {"metadata": {"name": name, "labels": labels}, "spec": spec})
            assert reply.ok, reply.message
    sink, stop = Sink(), asyncio.Event()
    task = asyncio.create_task(handlers.run(sink, ["watched"], stop))
    try:
        await until(lambda: len(sink.seen) >= 3)
        server.request("DELETE", f"{autoscalers}/theirs")
        await until(lambda: ("HorizontalPodAutoscaler", "theirs", True) in sink.seen)
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)
    assert {(kind, name) for kind, name, _ in sink.seen} == {
        ("Service", "ours"),
        ("HorizontalPodAutoscaler", "ours"),
        ("HorizontalPodAutoscaler", "theirs"),
    }

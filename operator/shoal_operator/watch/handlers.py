"""kopf's part: watch what concerns us, and hand every object on. Handlers only; nothing is decided here.

``on.event`` handlers write nothing and keep no index: 10,000 objects arrive in a few seconds (create and update
handlers would write 20,000 patches). Events are edges and can be lost in a watch gap, so sweep.py lists in between.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import kopf
from shoal_api.names import GROUP, LABEL_INFERENCE_SERVICE, LABEL_MANAGED_BY, MANAGED_BY

Object = Mapping[str, Any]

OWNED = {
    "Deployment": ("apps", "v1", "deployments"),
    "Service": ("", "v1", "services"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies"),
    "HorizontalPodAutoscaler": ("autoscaling", "v2", "horizontalpodautoscalers"),
}
OTHERS_TOO = frozenset({"HorizontalPodAutoscaler"})
"""Kinds of OWNED of which all objects are watched, not only ours: users bring autoscalers for our Deployments."""


class NoDiffs(kopf.DiffBaseStorage):
    """kopf compares each object with what it handled last, for handlers of changes. We have none, and the copies and
    comparisons are a tenth of what 10,000 objects cost."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return cast(kopf.BodyEssence, {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        pass


class Sink(Protocol):
    """Who takes the objects. Called on the event loop; must return at once."""

    def model(self, obj: Object, *, gone: bool) -> None: ...

    def inference_service(self, obj: Object, *, gone: bool) -> None: ...

    def runtime(self, obj: Object, *, gone: bool) -> None: ...

    def pod(self, obj: Object, *, gone: bool) -> None: ...

    def owned(self, kind: str, obj: Object, *, gone: bool) -> None: ...


def registry(sink: Sink) -> kopf.OperatorRegistry:
    """Handlers for everything the operator watches."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**context: Any) -> kopf.ConnectionInfo | None:
        found = kopf.login_with_service_account(**context) or kopf.login_with_kubeconfig(**context)
        return found if isinstance(found, kopf.ConnectionInfo) else None

    def watch(group: str, version: str, plural: str, deliver: Any, labels: dict[str, Any] | None = None) -> None:
        @kopf.on.event(group, version, plural, registry=handlers, labels=labels, id=plural)
        async def seen(event: Any, **_: Any) -> None:
            deliver(event["object"], gone=event["type"] == "DELETED")

    watch(GROUP, "v1alpha1", "trainedmodels", sink.model)
    watch(GROUP, "v1beta1", "inferenceservices", sink.inference_service)
    watch(GROUP, "v1alpha1", "servingruntimes", sink.runtime)
    watch(GROUP, "v1alpha1", "clusterservingruntimes", sink.runtime)
    ours: dict[str, Any] = {LABEL_MANAGED_BY: MANAGED_BY}
    watch("", "v1", "pods", sink.pod, {LABEL_INFERENCE_SERVICE: kopf.PRESENT, **ours})
    for kind, (group, version, plural) in OWNED.items():

        def deliver(obj: Object, *, gone: bool, kind: str = kind) -> None:
            sink.owned(kind, obj, gone=gone)

        watch(group, version, plural, deliver, None if kind in OTHERS_TOO else ours)
    return handlers


def settings() -> kopf.OperatorSettings:
    """No scanning, no peering, no events of kopf's own; watches end before the API server's idle limits."""
    chosen = kopf.OperatorSettings()
    chosen.scanning.disabled = True
    chosen.peering.standalone = True
    chosen.posting.enabled = False
    chosen.persistence.diffbase_storage = NoDiffs()
    chosen.watching.server_timeout = 300
    chosen.watching.client_timeout = 330
    return chosen


async def run(sink: Sink, namespaces: Sequence[str], stop: asyncio.Event) -> None:
    """Watch until ``stop``. Raises what kopf raises when it cannot go on (no permission, no API server)."""
    await kopf.operator(
        registry=registry(sink),
        settings=settings(),
        clusterwide=not namespaces,
        namespaces=tuple(namespaces),
        standalone=True,
        stop_flag=stop,
    )

"""What was last said of pods that do not become ready: a failing probe's own words, or why a volume is not there.

They stand only in Kubernetes' events, which are read for InferenceServices whose pods have been starting for a while,
a few at a time, and are not watched.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from shoal_operator.kube import KubeApi, KubeError, object_path
from shoal_operator.logs import OncePer
from shoal_operator.manifests.render import predictor_name
from shoal_operator.state.world.values import ServiceKey

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
PATIENCE_SECONDS = 15.0
"""As long as pods usually take to start nothing is asked."""
MAX_ASKED = 8
"""InferenceServices looked at in one turn; the others have theirs in the next."""
PAGE = 200
MAX_PAGES = 10
"""Of a namespace's warnings, which come by name: what one InferenceService's pods say must not hide another's."""
MAX_SAID = 200
FRESH_SECONDS = 600.0
"""What is older was said of pods before these. The kubelet repeats itself every five minutes at least."""
PROBE = "Unhealthy"
REASONS = frozenset({PROBE, "FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"})
"""Of events that say why a pod goes on starting; what others say stands in the pod's own status."""
_CONTAINER = re.compile(r"spec\.(?:init)?[cC]ontainers\{([a-z0-9-]{1,63})\}")


class Startups:
    """``on_change``: what is known of an InferenceService's pods has changed. Bounded by those whose pods start."""

    def __init__(
        self, api: KubeApi, on_change: Callable[[ServiceKey], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._on_change = on_change
        self._clock = clock
        self._since: dict[ServiceKey, float] = {}
        self._asked: dict[ServiceKey, float] = {}
        self._said: dict[ServiceKey, str] = {}
        self._complain = OncePer(600.0)

    def said(self, service: ServiceKey) -> str:
        """What was last said of one of its starting pods, as a sentence; empty when nothing is known."""
        return self._said.get(service, "")

    def seen(self, service: ServiceKey, *, starting: bool) -> None:
        """Whether some of its pods are not ready."""
        if starting:
            self._since.setdefault(service, self._clock())
            return
        self._since.pop(service, None)
        self._asked.pop(service, None)
        if self._said.pop(service, ""):
            self._on_change(service)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Ask for those that have been starting for long, the least recently asked first."""
        now = self._clock()
        due = [service for service, since in self._since.items() if now - since >= PATIENCE_SECONDS]
        for service in sorted(due, key=lambda key: self._asked.get(key, 0.0))[:MAX_ASKED]:
            self._asked[service] = now
            said = await self._ask(service)
            if said and service in self._since and said != self._said.get(service):
                self._said[service] = said
                self._on_change(service)

    async def _ask(self, service: ServiceKey) -> str:
        try:
            found = await self._warnings(service.namespace)
        except KubeError as error:
            if self._complain.ready(error.status):
                log.info(
                    "events of starting pods cannot be read; their probes' words are missing in conditions",
                    extra={"event": "EventsUnreadable", "answer": str(error)},
                )
            return ""
        return last_said(found, service, time.time() - FRESH_SECONDS)

    async def _warnings(self, namespace: str) -> list[Mapping[str, Any]]:
        """Those of pods. Raises KubeError."""
        query = {"fieldSelector": "type=Warning,involvedObject.kind=Pod", "limit": str(PAGE)}
        found: list[Mapping[str, Any]] = []
        for _ in range(MAX_PAGES):
            page = await self._api.request("GET", object_path("v1", "events", namespace), query=query)
            found += [event for event in page.get("items") or () if event.get("reason") in REASONS]
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                break
            query = {**query, "continue": str(more)}
        return found


def last_said(events: Iterable[Mapping[str, Any]], service: ServiceKey, since: float) -> str:
    """The latest event of the service's pods, as a sentence for a condition that names the container; empty when there
    is none after ``since`` (seconds since 1970)."""
    prefix = f"{predictor_name(service.name)}-"
    first = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    mine = [
        event
        for event in events
        if _is_of(str((event.get("involvedObject") or {}).get("name", "")), prefix) and _at(event) >= first
    ]
    if not mine:
        return ""
    latest = max(mine, key=_at)
    text = " ".join(str(latest.get("message") or "").split())
    if latest.get("reason", PROBE) != PROBE:
        return f"A pod's node last said: {text[:MAX_SAID].rstrip('.')}." if text else ""
    container = _CONTAINER.fullmatch(str((latest.get("involvedObject") or {}).get("fieldPath", "")))
    whose = f"Container {container[1]}'s probe" if container is not None else "A probe"
    return f"{whose} last said: {text[:MAX_SAID].rstrip('.')}." if text else ""


def _is_of(pod: str, prefix: str) -> bool:
    """A Deployment's pod: two more words at most. InferenceServices `a` and `a-predictor` begin alike."""
    return pod.startswith(prefix) and pod.removeprefix(prefix).count("-") <= 1


def _at(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")

"""A scripted TokenReview, a backend of dictionaries, and a client that speaks the agents' protocol."""

import asyncio
import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from shoal_api.messages import CopyIntent, CopyPhase, ServerReport, SlotReport, SyncRequest, SyncResponse
from shoal_operator.agents import AgentsServer, ReportResult, ReviewUnavailable
from shoal_operator.agents.identity import POD_NAME, POD_UID, ReviewedToken
from shoal_operator.state.desired import DesiredList, Versions


def token(pod: str = "pod-1", namespace: str = "team", seconds: float = 3600, **changes: Any) -> str:
    """A token that the scripted review understands; its payload is what the API server would find in it."""
    payload = {
        "exp": int(time.time() + seconds),
        "username": f"system:serviceaccount:{namespace}:default",
        "pod": pod,
        "uid": f"uid-{pod}",
        "aud": ["shoal"],
    }
    text = base64.urlsafe_b64encode(json.dumps(payload | changes).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{text}.signature"


@dataclass
class ScriptedReviews:
    """Answers as the API server does. ``away``: it cannot be asked. ``gate``: answers wait for it."""

    asked: int = 0
    away: bool = False
    gate: asyncio.Event | None = None

    async def __call__(self, token: str) -> ReviewedToken:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise ReviewUnavailable("the API server answered 500 to a TokenReview")
        try:
            part = token.split(".")[1]
            payload = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except (IndexError, ValueError):
            return ReviewedToken(authenticated=False, error="not a token")
        if payload["exp"] < time.time():
            return ReviewedToken(authenticated=False, error="expired")
        extra = {POD_NAME: [payload["pod"]], POD_UID: [payload["uid"]]} if payload["pod"] else {}
        return ReviewedToken(True, payload["username"], tuple(payload["aud"]), extra)


@dataclass
class DictionaryBackend:
    versions: Versions = field(default_factory=lambda: Versions(epoch=1))
    lists: dict[str, DesiredList] = field(default_factory=dict)
    reports: list[SyncRequest] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    drained_pods: set[str] = field(default_factory=set)
    asked_for_use: set[str] = field(default_factory=set)
    gone: list[tuple[str, str]] = field(default_factory=list)
    claimed: int = 1
    acknowledge_nothing: bool = False

    def pod(self, pod_uid: str = "uid-pod-1") -> DesiredList:
        return self.lists.setdefault(pod_uid, DesiredList(self.versions))

    def report(self, request: SyncRequest) -> ReportResult:
        if request.pod == "breaks-the-operator":
            raise RuntimeError("a bug that names eyJhbGciOiJub25lIn0.eyJhIjoxfQ.secret")
        self.reports.append(request)
        return ReportResult(
            0 if self.acknowledge_nothing else request.observed_version, request.pod_uid not in self.unknown
        )

    def desired(self, pod_uid: str) -> DesiredList | None:
        return self.lists.get(pod_uid)

    def drained(self, pod_uid: str) -> bool:
        return pod_uid in self.drained_pods

    def use_seconds(self, pod_uid: str) -> float:
        return 3.0

    def use_now(self, pod_uid: str) -> bool:
        return pod_uid in self.asked_for_use

    def epoch(self) -> int:
        return self.claimed

    def lost(self, pod_uid: str, session: str) -> None:
        self.gone.append((pod_uid, session))


def intent(name: str, content: int = 0) -> CopyIntent:
    return CopyIntent(
        name=name, copy_id=f"{name}.{content}", storage_uri=f"s3://b/{name}", framework="sklearn", memory_bytes=1
    )


def slots(count: int) -> list[SlotReport]:
    return [
        SlotReport(name=f"a-model-of-a-usual-name-{n}", serving="u" * 53, target="u" * 53, phase=CopyPhase.LOADED)
        for n in range(count)
    ]


def message(pod: str = "pod-1", **changes: Any) -> SyncRequest:
    base: dict[str, Any] = {
        "namespace": "team",
        "pod": pod,
        "pod_uid": f"uid-{pod}",
        "session": "s1",
        "server": ServerReport(type="mlserver", ready=True),
        "observed_version": 1,
        "wait_seconds": 0,
    }
    return SyncRequest(**(base | changes))


@dataclass
class Client:
    url: str
    session: aiohttp.ClientSession

    async def post(
        self, body: SyncRequest | bytes, bearer: str | None = None, **headers: str
    ) -> aiohttp.ClientResponse:
        data = body if isinstance(body, bytes) else body.model_dump_json().encode()
        if bearer is None:
            bearer = token(body.pod, body.namespace) if isinstance(body, SyncRequest) else token()
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        return await self.session.post(f"{self.url}/v1/sync", data=data, headers=headers)

    async def sync(self, body: SyncRequest) -> SyncResponse:
        async with await self.post(body) as response:
            assert response.status == 200, await response.text()
            return SyncResponse.model_validate_json(await response.read())


@dataclass
class Running:
    backend: DictionaryBackend
    reviews: ScriptedReviews
    server: AgentsServer
    client: Client

    def change(self, name: str, content: int = 0, pod_uid: str = "uid-pod-1") -> None:
        self.backend.pod(pod_uid).set(name, intent(name, content))
        self.server.wake(pod_uid)

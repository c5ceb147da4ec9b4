"""A scripted TokenReview, a backend of dictionaries, and a client that speaks the agents' protocol."""

import asyncio
import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from shoal_api.messages import CopyIntent, CopyPhase, ModelMetadata, ServerReport, SlotReport, SyncRequest, SyncResponse
from shoal_operator.agents import AgentsServer, ReviewUnavailable
from shoal_operator.agents.identity import POD_NAME, POD_UID, ReviewedToken
from shoal_operator.state.pods.limits import EPOCH_STEP, Known
from shoal_operator.state.world.desired import DesiredList, Versions
from shoal_operator.state.world.report import AgentReport

from tests.patience import BUSY


def token(pod: str = "pod-1", namespace: str = "team", seconds: float = 3600, **changes: Any) -> str:
    """A token as the API server projects it into a pod; the scripted review believes all that it says."""
    payload = {
        "aud": ["shoal"],
        "exp": int(time.time() + seconds),
        "iat": int(time.time()),
        "iss": "https://kubernetes.default.svc.cluster.local",
        "kubernetes.io": {
            "namespace": namespace,
            "pod": {"name": pod, "uid": f"uid-{pod}"},
            "serviceaccount": {"name": "default", "uid": "uid-of-the-account"},
        },
        "nbf": int(time.time()),
        "sub": f"system:serviceaccount:{namespace}:default",
    }
    return jwt(payload | changes)


def jwt(payload: object, header: object = None, signature: str = "c2lnbmF0dXJl") -> str:
    parts = [{"alg": "RS256", "kid": "k"} if header is None else header, payload]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, signature])


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
        part = token.split(".")[1]
        payload = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        if payload["exp"] < time.time() or not token.endswith(".c2lnbmF0dXJl"):
            return ReviewedToken(authenticated=False, error="expired, or not ours")
        pod = payload["kubernetes.io"]["pod"]
        extra = {POD_NAME: [pod["name"]], POD_UID: [pod["uid"]]}
        return ReviewedToken(True, payload["sub"], tuple(payload["aud"]), extra)


@dataclass
class DictionaryBackend:
    versions: Versions = field(default_factory=lambda: Versions(epoch=1))
    lists: dict[str, DesiredList] = field(default_factory=dict)
    reports: list[AgentReport] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    drained_pods: set[str] = field(default_factory=set)
    asked_for_use: set[str] = field(default_factory=set)
    gone: list[tuple[str, str]] = field(default_factory=list)
    reaches: list[tuple[str, bool]] = field(default_factory=list)
    is_news: bool = True
    claimed: int = 1
    acknowledge_nothing: bool = False
    address: str = "127.0.0.1"
    models: int = 20_000
    use_seconds: float = 3.0

    def pod(self, pod_uid: str = "uid-pod-1") -> DesiredList:
        return self.lists.setdefault(pod_uid, DesiredList(self.versions))

    def known(self, pod_uid: str) -> Known | None:
        if pod_uid in self.unknown or "*" in self.unknown:
            return None
        pod = pod_uid.removeprefix("uid-")
        return Known("team", pod, self.address, lambda name: not name.startswith("stray"), self.models)

    def addresses(self) -> list[str]:
        return [] if "*" in self.unknown else [self.address]

    def epoch_limit(self) -> int:
        return self.claimed + EPOCH_STEP

    def report(self, report: AgentReport) -> int | None:
        if report.pod_uid == "uid-breaks-the-operator":
            raise RuntimeError("a bug that names eyJhbGciOiJub25lIn0.eyJhIjoxfQ.secret")
        if self.known(report.pod_uid) is None:
            return None
        self.reports.append(report)
        return 0 if self.acknowledge_nothing else report.observed_version

    def answer(self, report: AgentReport, acknowledged: int) -> SyncResponse:
        held = self.lists.get(report.pod_uid)
        change = held.since(report.desired_version) if held is not None and report.epoch <= self.claimed else None
        return SyncResponse(
            epoch=self.claimed,
            observed_acknowledged=acknowledged,
            desired_version=change.version if change else None,
            desired_base=change.base if change else None,
            desired=list(change.intents) if change else [],
            desired_gone=list(change.gone) if change else [],
            use_seconds=self.use_seconds,
            use_now=report.pod_uid in self.asked_for_use,
            drained=report.draining and report.pod_uid in self.drained_pods,
        )

    def lost(self, pod_uid: str, session: str) -> bool:
        self.gone.append((pod_uid, session))
        return self.is_news

    def reached(self, pod_uid: str, *, reached: bool) -> None:
        self.reaches.append((pod_uid, reached))


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
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json", **headers}
        return await self.session.post(f"{self.url}/v1/sync", data=data, headers=headers)

    async def sync(self, body: SyncRequest) -> SyncResponse:
        async with await self.post(body) as response:
            assert response.status == 200, await response.text()
            return SyncResponse.model_validate_json(await response.read())


MUTE = "127.0.0.2"
"""Where nothing answers on an agent's port; on any other address of this machine nobody listens there."""


@dataclass
class Running:
    backend: DictionaryBackend
    reviews: ScriptedReviews
    server: AgentsServer
    client: Client
    described: list[tuple[str, ModelMetadata]] = field(default_factory=list)

    def change(self, name: str, content: int = 0, pod_uid: str = "uid-pod-1") -> None:
        self.backend.pod(pod_uid).set(name, intent(name, content))
        self.server.wake(pod_uid)


@contextmanager
def mute(address: str) -> Iterator[int]:
    """A port there that says nothing, as a host does that is not there: its queue of connections is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((address, 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def until(condition: Callable[[], bool]) -> None:
    """For what comes in time on a busy machine too, where a fixed pause is over before."""
    async with asyncio.timeout(BUSY):
        while not condition():  # noqa: ASYNC110  # a log line or a metric sets no event
            await asyncio.sleep(0.02)

"""Wiring: settings in, rooms connected, everything started and stopped together. Nothing is decided here."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient
from prometheus_client import REGISTRY
from shoal_api.messages import SyncRequest
from shoal_api.names import AGENT_AUDIENCE

from . import logs, startup
from .agents.review import KubernetesReviews
from .agents.server import AgentsServer, ReportResult
from .certificates import Certificates
from .core import Core
from .gateway.service import Gateway
from .gateway.tables import GatewayTables
from .gateway.tls import AdsTls
from .http.server import HttpServer
from .intake import Intake
from .kube import Kube
from .leader import claim_epoch
from .metrics import PlanMetrics, WorldCollector
from .placement.filters import DESCRIPTIONS
from .settings import Settings, SettingsError, from_environment
from .state.desired import DesiredList
from .state.effects import (
    CopyForgotten,
    CopyStored,
    DeletionCost,
    Effect,
    GateChanged,
    Recovered,
    ReplicasWanted,
)
from .state.events import EpochClaimed, GatewayAcknowledged, Requested, StoreLoaded
from .state.values import ModelKey, Problem, ServiceKey
from .state.views import ModelView, ServiceView
from .state.world import World
from .status.events import FailureEvents, Regarding
from .status.explain import explain, not_known
from .status.metrics import StatusMetrics
from .status.writer import StatusWriter
from .store.store import Store
from .watch import handlers
from .watch.sweep import Sweeper
from .workloads.controller import WorkloadController
from .workloads.pod_counts import Scaled
from .workloads.settings import WorkloadSettings

log = logging.getLogger(__name__)


class Operator:
    """All rooms of one operator process. Also core.Outlets and agents.server.Backend: where the rooms meet."""

    def __init__(self, settings: Settings, client: ApiClient, certificates: Certificates, store: Store) -> None:
        self._settings = settings
        self._client = client
        self._certificates = certificates
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._recovered = False
        api = Kube(client)
        self.api = api
        self._plans = PlanMetrics()
        self.core = Core(World(timing=settings.timing(), started_at=time.monotonic()), self, time.monotonic)
        self._gateway = Gateway(
            GatewayTables(),
            lambda sequence: self.core.handle(GatewayAcknowledged(sequence)),
            view=self.core.activation,
            requested=lambda service, model: self.core.handle(Requested(service, model)),
        )
        self._agents = AgentsServer(self, KubernetesReviews(client, AGENT_AUDIENCE))
        self._events = FailureEvents(api, settings.pod)
        self._status = StatusWriter(
            api,
            model_view=self._model_view,
            service_view=self._service_view,
            events=self._events,
            cluster_domain=settings.cluster_domain,
            writes_per_second=settings.status_writes_per_second,
            metrics=StatusMetrics(),
        )
        self._workload_settings = _workload_settings(settings)
        self._workloads: WorkloadController | None = None
        REGISTRY.register(WorldCollector(self.core.world))
        self._http = HttpServer(self._ready, self._explain)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, or a room fails, which ends the process: Kubernetes starts a new one."""
        settings = self._settings
        foreign = await startup.definitions_are_foreign(self.api)
        self._workloads = WorkloadController(
            self.api,
            _workload_settings(settings, require_model_mesh=foreign),
            ca_pem=self._ca_pem,
            on_event=self.core.handle,
            on_scaled=self._scaled,
        )
        intake = Intake(self.core.handle, self._workloads, self._status)
        for runtime in await startup.runtimes(self.api, settings.watch_namespaces):
            self._workloads.runtime_seen(runtime)
        self._workloads.runtimes_listed()
        await self._http.start(settings.host, settings.http_port)
        await self._claim(await self._store.epoch())
        self.core.handle(StoreLoaded(await self._store.load()))
        await self._agents.start(settings.host, settings.agents_port, self._certificates.server_ssl_context())
        with tempfile.TemporaryDirectory() as folder:
            tls = self._tls_files(Path(folder))
            await self._gateway.serve(settings.host, settings.ads_port, tls)
            sweeper = Sweeper(self.api, settings.watch_namespaces, intake.known, self.core.handle)
            rooms: list[Coroutine[Any, Any, Any]] = [
                handlers.run(intake, settings.watch_namespaces, stop),
                sweeper.run(),
                self._workloads.run(),
                self._status.run(),
                self._events.run(),
                self._certificates.run(),
                self._until_fatal(),
            ]
            await _until(stop, rooms)
            await self._close()

    # core.Outlets: effects on their way out.

    def gateway(self, effects: Iterable[Effect]) -> None:
        self._gateway.apply(effects)

    def wake_agent(self, pod_uid: str) -> None:
        self._agents.wake(pod_uid)

    def model_status(self, key: ModelKey) -> None:
        self._status.model_changed(key)

    def service_status(self, key: ServiceKey) -> None:
        self._status.service_changed(key)

    def gate(self, effect: GateChanged) -> None:
        if self._workloads is not None:
            self._workloads.set_gate(effect.namespace, effect.pod, effect.open, effect.message, effect.pod_uid)

    def store(self, effect: CopyStored | CopyForgotten) -> None:
        if isinstance(effect, CopyStored):
            self._store.put(effect)
        else:
            self._store.forget(effect)

    def replicas(self, effect: ReplicasWanted) -> None:
        if self._workloads is not None:
            self._workloads.set_replicas(*effect.service, effect.replicas, effect.reason)

    def deletion_cost(self, effect: DeletionCost) -> None:
        if self._workloads is not None:
            self._workloads.set_deletion_cost(effect.namespace, effect.pod, effect.cost, effect.pod_uid)

    def planned(self, service: ServiceKey, models: int, seconds: float) -> None:
        self._plans.observe(seconds, models)

    def claim_epoch(self, at_least: int) -> None:
        task = asyncio.create_task(self._claim(at_least - 1), name="claim-epoch")
        self._tasks.add(task)
        task.add_done_callback(self._claimed)

    def recovered(self, effect: Recovered) -> None:
        self._recovered = True
        gc.freeze()  # what is known now mostly stays: full collections need not walk it
        self._gateway.open()
        self._status.open()
        self._agents.wake_all()
        log.info(
            "recovered: routes, desired lists and status leave from now on",
            extra={
                "event": "Recovered",
                "models": effect.models,
                "adopted": effect.adopted,
                "not_waited_for": list(effect.waited_for),
            },
        )

    # agents.server.Backend: what agents ask.

    def report(self, request: SyncRequest) -> ReportResult:
        acknowledged = self.core.report(request)
        return ReportResult(acknowledged=acknowledged or 0, known=acknowledged is not None)

    def desired(self, pod_uid: str) -> DesiredList | None:
        return self.core.desired(pod_uid)

    def drained(self, pod_uid: str) -> bool:
        return self.core.drained(pod_uid)

    def epoch(self) -> int:
        return self.core.epoch()

    def use_seconds(self, pod_uid: str) -> float:
        return self.core.use_seconds(pod_uid)

    def use_now(self, pod_uid: str) -> bool:
        return self.core.use_now(pod_uid)

    def lost(self, pod_uid: str, session: str) -> None:
        self.core.lost(pod_uid, session)

    # Views.

    def _model_view(self, key: ModelKey) -> ModelView | None:
        model = self.core.world.models.get(key)
        return self.core.model(key, self._url(key.namespace, model.spec.service)) if model is not None else None

    def _service_view(self, key: ServiceKey) -> ServiceView | None:
        return self.core.service(key, self._url(*key), self._gateway.connected)

    def _scaled(self, scaled: Scaled) -> None:
        regarding = Regarding("serving.kserve.io/v1beta1", "InferenceService", *scaled.service, scaled.uid)
        self._events.scaled(regarding, f"{scaled.before} -> {scaled.after} pods: {scaled.reason}")

    def _explain(self, namespace: str, name: str) -> dict[str, Any] | Problem:
        key = ModelKey(namespace, name)
        model = self.core.world.models.get(key)
        view = self.core.explain(key, self._url(namespace, model.spec.service)) if model is not None else None
        if model is None or view is None:
            a_service = ServiceKey(namespace, name) in self.core.world.services
            return not_known(namespace, name, recovering=not self._recovered, is_service=a_service, models=None)
        waiting = self._gateway.held(model.spec.service_key, name)
        return explain(view, filters=DESCRIPTIONS, waiting_requests=waiting)

    def _url(self, namespace: str, service: str) -> str:
        return self._workload_settings.service_url(namespace, service)

    def _ready(self) -> tuple[bool, str]:
        return self._recovered, "" if self._recovered else "recovering: waiting for lists, agents and the epoch"

    def _claimed(self, task: asyncio.Task[None]) -> None:
        """Without an epoch above every agent's nothing may leave: start again rather than wait for ever."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._fatal.done():
            self._fatal.set_exception(error)

    async def _until_fatal(self) -> None:
        await self._fatal

    def _ca_pem(self) -> str:
        return self._certificates.ca_pem.decode()

    async def _claim(self, at_least: int) -> None:
        epoch = await claim_epoch(self._client, self._settings.namespace, self._settings.pod, at_least)
        await self._store.claim_epoch(epoch)
        self.core.handle(EpochClaimed(epoch))

    def _tls_files(self, folder: Path) -> AdsTls:
        """gRPC reads certificates from files; kept current, readable by this user only, gone with the process."""

        def write() -> None:
            pair = self._certificates.server
            contents = {"tls.key": pair.key, "tls.crt": pair.certificate, "ca.crt": self._certificates.ca_pem}
            for name, content in contents.items():
                fresh = folder / f".{name}"
                fresh.touch(mode=0o600)
                fresh.write_bytes(content)
                fresh.replace(folder / name)

        write()
        self._certificates.on_change(write)
        return AdsTls(folder / "tls.crt", folder / "tls.key", folder / "ca.crt", frozenset({"shoal-gateway"}))

    async def _close(self) -> None:
        """Agents and Envoys keep what they have; they come back to the next operator."""
        await self._agents.close()
        await self._gateway.close()
        await self._http.close()
        await self._store.flush()
        await self._store.close()


def _workload_settings(settings: Settings, *, require_model_mesh: bool = False) -> WorkloadSettings:
    given: dict[str, Any] = {"agent_resources": settings.agent_resources} if settings.agent_resources else {}
    return WorkloadSettings(
        operator_namespace=settings.namespace,
        agent_image=settings.agent_image,
        agent_image_pull_policy=settings.agent_image_pull_policy,
        operator_service=settings.operator_service,
        gateway_service=settings.gateway_service,
        cluster_domain=settings.cluster_domain,
        domain_template=settings.domain_template,
        network_policy=settings.network_policy,
        require_model_mesh=require_model_mesh,
        **given,
    )


async def _until(stop: asyncio.Event, rooms: list[Coroutine[Any, Any, Any]]) -> None:
    """Run rooms until ``stop``; the first that fails takes the others down. Raises what it raised."""
    tasks = [asyncio.create_task(room) for room in rooms]
    waiter = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([*tasks, waiter], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiter}:
            task.result()
            if not stop.is_set():
                raise RuntimeError("a room ended although nothing asked it to")
    finally:
        stop.set()
        for task in (*tasks[1:], waiter):
            task.cancel()
        await asyncio.gather(*tasks, waiter, return_exceptions=True)


async def serve(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config()  # type: ignore[no-untyped-call]  # the client's only untyped part
    else:
        await config.load_kube_config()  # type: ignore[no-untyped-call]
    async with ApiClient() as client:
        owner = await startup.own_deployment(Kube(client), settings.namespace, settings.operator_service)
        certificates = await Certificates.ensure(
            client, settings.namespace, settings.operator_service, settings.cluster_domain, owner
        )
        store = await Store.open(settings.store_url)
        await Operator(settings, client, certificates, store).run(stop)


def main() -> None:
    """Entry point of the operator image (``shoal-operator``)."""
    try:
        settings = from_environment(os.environ)
    except SettingsError as error:
        sys.exit(f"shoal-operator: {error}")
    logs.setup(settings.log_level)
    # Full collections walk all models and hold the loop: 50 ms at 10,000. Few of our objects form cycles.
    gc.set_threshold(50_000, 50, 100)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(settings))


if __name__ == "__main__":
    main()

"""Wiring: settings in, rooms connected, everything started and stopped together. Nothing is decided here."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from urllib.request import getproxies

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from prometheus_client import REGISTRY
from shoal_api.messages import ModelMetadata
from shoal_api.names import AGENT_AUDIENCE

from . import garbage, logs, startup, uncaught
from .agents.identity import AgentIdentity
from .agents.review import KubernetesReviews
from .agents.server import AgentsServer
from .certificates import Certificates
from .core import Core, Outlets
from .election import Election
from .gateway.last_metadata import LastMetadata
from .gateway.service import Gateway
from .gateway.tables import GatewayTables
from .gateway.tls import AdsTls
from .http import Access, HttpServer, nodes
from .intake import Intake
from .kube import Kube
from .leadership import Fenced, claim_epoch
from .metrics import FailureMetrics, PlanMetrics, WorldCollector
from .owners import Owners
from .placement.filters import DESCRIPTIONS
from .replicas.pod_counts import Scaled
from .settings import Settings, SettingsError, from_environment, workload_settings
from .shown import Shown
from .state.owners.pages import page
from .state.owners.project import held_as, home
from .state.world.effects import (
    ClaimEpoch,
    CopyForgotten,
    CopyStored,
    DeletionCost,
    DesiredChanged,
    GateChanged,
    ModelStatusChanged,
    Recovered,
    ReplicasWanted,
    ServiceStatusChanged,
)
from .state.world.entities import World
from .state.world.events import EpochClaimed, GatewayAcknowledged, Kind, Requested, StoreLoaded
from .state.world.values import ModelKey, Problem, ServiceKey, is_group
from .status.events import FailureEvents, Regarding
from .status.explain import explain, not_known
from .status.listing import listing
from .status.metrics import StatusMetrics
from .status.subjects import KINDS, Subject, Target
from .status.writer import StatusWriter
from .store.store import Store
from .volume_claims.room import VolumeClaims
from .watch.informer import Informers, streams
from .workloads import WorkloadController

log = logging.getLogger(__name__)

REQUESTS_AT_ONCE = 64
"""To the API server, beside the watches, which hold a connection each."""


class Operator:
    """All rooms of one operator process, and where they meet."""

    def __init__(self, settings: Settings, client: ApiClient, certificates: Certificates, store: Store) -> None:
        self._settings = settings
        self._client = client
        self._certificates = certificates
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._recovered = False
        self._election: Election | None = None
        self.api: Kube | Fenced = Kube(client)
        if settings.replicas > 1:
            self._election = Election(
                self.api, client.configuration, settings, claimed=self._in_epoch, failed=self._fail, let_go=self._let_go
            )
            self.api = Fenced(self.api, self._election.may_write)
        self._plans = PlanMetrics()
        world = World(timing=settings.timing())
        self.core = Core(world, self._outlets(), time.monotonic, FailureMetrics())
        self._gateway = Gateway(
            GatewayTables(settings.gateway_message_bytes),
            lambda sequence: self.core.handle(GatewayAcknowledged(sequence)),
            view=self.core.activation,
            requested=lambda service, model: self.core.handle(Requested(service, model)),
            names=self._names,
            metadata=self._metadata,
            home=lambda service, model: home(world, service, model),
            memory_bytes=settings.gateway_memory_bytes,
            fatal=self._fail,
        )
        self._last_metadata = LastMetadata()
        self._agents = AgentsServer(self.core, KubernetesReviews(client, AGENT_AUDIENCE), described=self._described)
        self._events = FailureEvents(self.api, settings.pod)
        self._workload_settings = workload_settings(settings)
        self._shown = Shown(self.core, lambda: self._gateway.connected, self._workload_settings)
        self._status = StatusWriter(
            self.api,
            model_view=self._shown.trained_model,
            service_view=self._shown.inference_service,
            events=self._events,
            cluster_domain=settings.cluster_domain,
            writes_per_second=settings.status_writes_per_second,
            metrics=StatusMetrics(),
            failed=self._status_failed,
        )
        self._workloads: WorkloadController | None = None
        REGISTRY.register(WorldCollector(self.core.world))
        self._http = HttpServer(
            self._ready,
            self._explain,
            self._list,
            Access(self.api, time.monotonic, settings.readers_port),
            is_own=nodes(settings.host_ip),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, or a room fails, which ends the process: Kubernetes starts a new one."""
        settings = self._settings
        asyncio.get_running_loop().set_exception_handler(uncaught.handler(self._fail))
        foreign = await startup.definitions_are_foreign(self.api)
        kserves = startup.kserves(foreign, settings.inference_services)
        claims = VolumeClaims(self.api, self.core.handle, self.core.world.models.get, self._shown.model_changed)
        self._workloads = WorkloadController(
            self.api,
            workload_settings(settings, require_model_mesh=kserves),
            ca_pem=self._ca_pem,
            on_event=self.core.handle,
            on_scaled=self._scaled,
            on_startup=self._status.service_changed,
            failed=self.core.failed,
            claims=claims,
        )
        owners = Owners(
            self._workloads, claims.handle, self._shown.holder, self._shown.changed, self._workload_settings.groups
        )
        self._shown.connect(self._status, owners, self._workloads.startup_said, claims.explained)
        intake = Intake(claims.handle, self._workloads, owners, self._status, self.core.failed)
        await self._http.start(settings.host, settings.http_port)
        writers = (self._workloads.run, self._status.run, self._events.run)
        if self._election is None:
            await self._claim(await self._store.epoch())
            await self._begin()
        rooms: list[Coroutine[Any, Any, Any]] = [
            Informers(self.api, settings.watch_namespaces, intake).run(),
            self._certificates.run(),
            garbage.run(),
            startup.until_definitions_change(self.api, foreign),
            self._until_fatal(),
        ]
        rooms += [run() for run in writers] if self._election is None else [self._lead(self._election, writers)]
        await _until(stop, rooms)
        await self._close()

    async def _lead(self, election: Election, writers: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
        """Follow, with what is watched at hand, until this operator leads; then all that speaks."""
        await self._in_epoch(await election.won(await self._store.epoch()))
        await self._begin()
        await election.announce()
        await asyncio.gather(*(run() for run in writers))

    async def _begin(self) -> None:
        """Listen to agents, Envoys and readers, in an epoch of ours."""
        settings, tls_context = self._settings, self._certificates.server_ssl_context()
        self.core.handle(StoreLoaded(await self._store.load()))
        await self._http.start_tls(settings.host, settings.readers_port, tls_context)
        await self._agents.start(settings.host, settings.agents_port, tls_context)
        await self._gateway.serve(settings.host, settings.ads_port, self._ads_tls())
        self._certificates.on_change(lambda: self._gateway.renew(self._ads_tls()))

    # Effects on their way out.

    def _outlets(self) -> Outlets:
        """From an effect's type to the room that carries it out."""
        return Outlets(
            gateway=lambda effects: self._gateway.apply(effects),  # noqa: PLW0108 - it is made later
            rooms={
                DesiredChanged: lambda effect: self._agents.wake(effect.pod_uid),
                ModelStatusChanged: lambda effect: self._shown.model_changed(effect.key),
                ServiceStatusChanged: lambda effect: self._shown.service_changed(effect.key),
                CopyStored: self._store.put,
                CopyForgotten: self._store.forget,
                GateChanged: self._gate,
                ReplicasWanted: self._replicas,
                DeletionCost: self._deletion_cost,
                ClaimEpoch: self._claim_epoch,
                Recovered: self._was_recovered,
            },
            planned=lambda service, models, seconds: self._plans.observe(seconds, models),
            ask=lambda pod_uid: self._agents.ask(pod_uid),  # noqa: PLW0108 - likewise
            named=lambda epoch: self._election.named(epoch) if self._election is not None else None,
            fatal=self._fail,
            turn_ended=garbage.end_turn,
        )

    def _gate(self, effect: GateChanged) -> None:
        if self._workloads is not None:
            self._workloads.set_gate(effect.namespace, effect.pod, effect.open, effect.message, effect.pod_uid)

    def _replicas(self, effect: ReplicasWanted) -> None:
        if self._workloads is not None:
            self._workloads.set_replicas(*effect.service, effect.replicas, effect.reason)

    def _deletion_cost(self, effect: DeletionCost) -> None:
        if self._workloads is not None:
            self._workloads.set_deletion_cost(effect.namespace, effect.pod, effect.cost, effect.pod_uid)

    def _claim_epoch(self, effect: ClaimEpoch) -> None:
        if self._election is not None:
            self._election.named(effect.epoch - 1)
            return
        task = asyncio.create_task(self._claim(effect.epoch - 1), name="claim-epoch")
        self._tasks.add(task)
        task.add_done_callback(self._claimed)

    def _let_go(self) -> None:
        self._agents.let_go()
        self._gateway.renew(self._ads_tls())

    def _was_recovered(self, effect: Recovered) -> None:
        self._recovered = True
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

    # Views.

    def _status_failed(self, target: Target, error: Exception) -> None:
        subject, namespace, name = target
        service = ServiceKey(namespace, name)
        if subject is Subject.MODEL:
            model = self.core.world.models.get(ModelKey(namespace, name))
            if model is None:
                return
            service = model.spec.service_key
        self.core.failed(service, f"status of {KINDS[subject]}", error)

    def _scaled(self, scaled: Scaled) -> None:
        if is_group(scaled.service.name):
            return  # which is no object; the operator's log and its Deployment say it
        regarding = Regarding("serving.kserve.io/v1beta1", "InferenceService", *scaled.service, scaled.uid)
        self._events.scaled(regarding, f"{scaled.before} -> {scaled.after} pods: {scaled.reason}")

    def _explain(self, namespace: str, name: str) -> dict[str, Any] | Problem:
        key = ModelKey(namespace, name)
        model = self.core.world.models.get(key)
        view = self._shown.explain(key)
        if model is None or view is None:
            trouble = self.core.trouble_of(key)
            if trouble is not None:
                return trouble
            a_service = ServiceKey(namespace, name) in self.core.world.services
            return not_known(namespace, name, recovering=not self._recovered, is_service=a_service, models=None)
        waiting = self._gateway.held(model.spec.service_key, name)
        return explain(view, filters=DESCRIPTIONS, waiting_requests=waiting)

    def _list(self, namespace: str, service: str | None, after: str, limit: int) -> dict[str, Any]:
        keys, more = page(self.core.world, namespace, service, after, limit)
        return listing([view for key in keys if (view := self._shown.model(key)) is not None], more=more)

    def _names(self, service: ServiceKey, most: int) -> tuple[list[str], bool]:
        keys, more = page(self.core.world, *service, "", most)
        return [key.name for key in keys], more

    def _metadata(self, service: ServiceKey, name: str) -> str | None:
        model = self.core.world.models.get(ModelKey(service.namespace, name))
        return self._last_metadata.get(service.namespace, model.aim_id) if model is not None else None

    def _described(self, agent: AgentIdentity, metadata: Sequence[ModelMetadata]) -> None:
        for said in metadata:
            known = held_as(self.core.world, agent.pod_uid, said.name, said.copy_id)
            if known is not None:
                self._last_metadata.put(agent.namespace, said.model_copy(update={"copy_id": known}))

    def _ready(self) -> tuple[bool, str]:
        if self._fatal.done():
            return False, "an error that cannot be contained: the process ends"
        if self._election is not None and not self._election.leads:
            return self.core.world.listed == set(Kind), "another operator leads; this one stands by"
        return self._recovered, "" if self._recovered else "recovering: waiting for lists, agents and the epoch"

    def _claimed(self, task: asyncio.Task[None]) -> None:
        """Without an epoch above every agent's nothing may leave: start again rather than wait for ever."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._fatal.done():
            self._fatal.set_exception(error)

    async def _until_fatal(self) -> None:
        await self._fatal

    def _ca_pem(self) -> str:
        return self._certificates.ca_pem.decode()

    async def _claim(self, at_least: int) -> None:
        epoch = await claim_epoch(self._client, self._settings.namespace, self._settings.pod, at_least)
        await self._in_epoch(epoch)

    async def _in_epoch(self, epoch: int) -> None:
        await self._store.claim_epoch(epoch)
        self.core.handle(EpochClaimed(epoch))

    def _ads_tls(self) -> AdsTls:
        pair = self._certificates.server
        return AdsTls(pair.certificate, pair.key, self._certificates.ca_pem, frozenset({"shoal-gateway"}))

    async def _close(self) -> None:
        """Agents and Envoys keep what they have; they come back to the next operator."""
        if self._election is not None:
            await self._election.release()
        await self._agents.close()
        await self._gateway.close()
        await self._http.close()
        await self._store.flush()
        await self._store.close()


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
        for task in (*tasks, waiter):
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
    configuration = Configuration.get_default_copy()
    configuration.connection_pool_maxsize = REQUESTS_AT_ONCE + streams(settings.watch_namespaces)
    # Where the environment names no proxy, the client would still read ~/.netrc in a thread before every request: a
    # twentieth of the operator's CPU while ten thousand models load.
    configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
    async with ApiClient(configuration) as client:
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
    startup.allow_files()
    garbage.begin()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(settings))


if __name__ == "__main__":
    main()

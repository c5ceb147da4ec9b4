"""Turns watched InferenceServices and runtimes into ServiceSpecs for the state, and into objects in the cluster.

Handlers return at once: what they changed is worked off by a queue, one InferenceService at a time.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService

from .kube import KubeApi
from .manifests.cluster.applier import Applier, Refused, unforeseen
from .manifests.cluster.lost import OwnerGone
from .manifests.cluster.owned import ObjectKey, object_key
from .manifests.cluster.shared import SharedObjects
from .manifests.cluster.storage_reader import Account, StorageReader
from .manifests.former import as_it_runs, served, with_former_place
from .manifests.render import predictor_name
from .manifests.resolve import Resolution, is_taken
from .manifests.settings import WorkloadSettings
from .put import Putter
from .replicas.deletion_cost import DeletionCosts
from .replicas.gate import GateSetter
from .replicas.live_replicas import AUTOSCALER, is_foreign
from .replicas.pod_counts import PodCounts, Scaled
from .replicas.startups import Startups
from .state.world.events import Event, ServiceGone, ServiceSeen
from .state.world.values import Problem, ServiceKey, is_group
from .volume_claims.room import VolumeClaims
from .work_queue import Retry, WorkQueue
from .workload import Runtimes, Workload, same_wish

log = logging.getLogger(__name__)

REFRESH_SECONDS = 60.0
_WORKERS = 4


class WorkloadController:
    """``on_event`` gets ServiceSeen and ServiceGone, on the event loop. ``ca_pem``: the certificate authority of the
    agents' API; empty while there is none yet. ``on_scaled``: told after the number of pods was changed."""

    def __init__(
        self,
        api: KubeApi,
        settings: WorkloadSettings,
        *,
        ca_pem: Callable[[], str],
        on_event: Callable[[Event], None],
        on_scaled: Callable[[Scaled], None] = lambda _: None,
        on_startup: Callable[[ServiceKey], None] = lambda _: None,
        failed: Callable[[ServiceKey | None, str, Exception], None] = lambda service, doing, error: None,
        claims: VolumeClaims | None = None,
    ) -> None:
        """``failed``: told of an error of our own over an InferenceService, which is worked on again with backoff."""
        self._settings = settings
        self._on_event = on_event
        self._failed = failed
        self._applier = Applier(api)
        host = settings.gateway_host if settings.modelmesh_service else ""
        self._shared = SharedObjects(self._applier, ca_pem, host)
        self._storage = StorageReader(api, in_use=self._accounts, on_change=self._storage_changed)
        self._claims = (claims or VolumeClaims(api)).connect(self._decider_changed)
        self._putter = Putter(self._applier, settings, self._claims)
        self._gates = GateSetter(api)
        self._costs = DeletionCosts(api)
        self._pods = PodCounts(api, self._costs, on_scaled)
        self._startups = Startups(api, on_startup)
        self._services: dict[ServiceKey, Workload] = {}
        self._runtimes = Runtimes()
        self._runtimes_known = False
        self._groups_known = False
        self._released: set[ServiceKey] = set()
        self._queue: WorkQueue[ServiceKey] = WorkQueue(self._work, workers=_WORKERS)

    # What the watch saw.

    def inference_service_seen(self, obj: Mapping[str, Any]) -> None:
        """An InferenceService was added or changed."""
        meta = obj.get("metadata") or {}
        key = ServiceKey(str(meta.get("namespace", "")), str(meta.get("name", "")))
        uid = str(meta.get("uid", ""))
        service = self._services.get(key)
        if meta.get("deletionTimestamp") is not None:
            # Deleted in the foreground: what it owns goes first, and must not be made again.
            self.inference_service_gone(key.namespace, key.name, uid)
            return
        if service is not None and service.uid != uid:
            self.inference_service_gone(key.namespace, key.name, service.uid)
            service = None
        if service is None:
            service = self._services[key] = Workload(uid, {})
            self._released.discard(key)
        if same_wish(service.obj, obj):
            return  # only its status changed
        service.obj = dict(obj)
        self._resolve(key, service)

    def inference_service_gone(self, namespace: str, name: str, uid: str) -> None:
        """An InferenceService was deleted; the garbage collector takes what it owned."""
        key = ServiceKey(namespace, name)
        service = self._services.get(key)
        if service is None or service.uid != uid:
            return
        del self._services[key]
        self._applier.forget(key)
        self._forget(key)
        if service.told is not None:
            self._on_event(ServiceGone(key, uid))
        if not self._any_in(namespace):
            self._queue.add(ServiceKey(namespace, ""))

    def released(self, key: ServiceKey) -> None:
        """A group, or an InferenceService that has its model on one now, needs its pods no more: nobody's end takes
        them along. Does nothing where there are none."""
        service = self._services.pop(key, None)
        if service is None:
            return
        self._released.add(key)
        self._forget(key)
        if service.told is not None:
            self._on_event(ServiceGone(key, service.uid))
        self._queue.add(key)
        if not self._any_in(key.namespace):
            self._queue.add(ServiceKey(key.namespace, ""))

    def _forget(self, key: ServiceKey) -> None:
        self._pods.forget(key)
        self._startups.seen(key, starting=False)
        self._claims.service_gone(key)

    def groups_known(self) -> None:
        """All groups that are needed have been told of: what is left of others is removed."""
        self._groups_known = True
        for key in self._applier.services():
            self._remove_if_left_over(key)

    def _remove_if_left_over(self, key: ServiceKey) -> None:
        """Of a group that was there before this operator, and that nobody needs."""
        if self._groups_known and is_group(key.name) and key not in self._services:
            self._released.add(key)
            self._queue.add(key)

    def takes(self, isvc: InferenceService) -> bool:
        """Whether the InferenceService is ours."""
        return is_taken(isvc, self._settings.require_model_mesh)

    def runtime_seen(self, obj: Mapping[str, Any]) -> None:
        """A ServingRuntime or ClusterServingRuntime was added or changed."""
        if (namespace := self._runtimes.seen(obj)) is not None:
            self._runtimes_changed(namespace)

    def runtime_gone(self, namespace: str, name: str) -> None:
        """A ServingRuntime, or with an empty namespace a ClusterServingRuntime, was deleted."""
        if self._runtimes.pop((namespace, name), None) is not None:
            self._runtimes_changed(namespace)

    def runtimes_listed(self) -> None:
        """All runtimes that there are have been seen: until then no InferenceService is resolved."""
        if not self._runtimes_known:
            self._runtimes_known = True
            self.resync()

    def autoscalers_listed(self) -> None:
        """All HorizontalPodAutoscalers that there are have been seen: until then no InferenceService is applied."""
        if self._pods.autoscalers_listed():
            for key in self._services:
                self._queue.add(key)

    def owned_object_changed(self, kind: str, namespace: str, name: str, obj: Mapping[str, Any] | None) -> None:
        """An object with our label was added, changed, or (None) deleted."""
        key = ObjectKey(kind, namespace, name)
        if kind == "Deployment":
            self._deployment_changed(key, obj)
        if kind == AUTOSCALER and not self._applier.knows(key):  # else ours, even where its label was edited
            for other in self._pods.autoscaler_seen(namespace, name, obj):
                self._decider_changed(other)
            if obj is not None and is_foreign(obj):
                return
        if self._shared.is_one(kind, name) and not self._applier.is_owned(key):
            first = next((each for each in self._services if each.namespace == namespace), None)
            if self._shared.touched(kind, namespace, name, obj) and first is not None:
                self._queue.add(first)
            return
        service = self._applier.gone(key) if obj is None else self._applier.seen({**obj, "kind": kind})
        if service is not None:
            self._queue.add(service)
            self._remove_if_left_over(service)

    def resync(self) -> None:
        """Resolve everything again; objects are applied only where something differs."""
        for key, service in list(self._services.items()):
            self._resolve(key, service)

    def set_gate(self, namespace: str, pod: str, open: bool, message: str, pod_uid: str = "") -> None:
        """Set a pod's readiness gate; the latest call for a pod counts. Tried until it is done or the pod is gone."""
        self._gates.set(namespace, pod, pod_uid, is_open=open, message=message)

    def set_replicas(self, namespace: str, name: str, replicas: int, reason: str) -> None:
        """Have as many pods, within minReplicas and maxReplicas; ``reason`` is for people. The latest call counts.

        Without effect while another decides (an autoscaler, a fixed number): the state is told of that.
        """
        key = ServiceKey(namespace, name)
        service = self._services.get(key)
        if service is not None and service.count.say(replicas, reason):
            self._queue.add(key)

    def set_deletion_cost(self, namespace: str, pod: str, cost: int, pod_uid: str = "") -> None:
        """Say how soon a pod is to go when there are to be fewer: the lowest first. The latest call counts; fewer
        pods, asked for later, wait until it is written."""
        self._costs.set(namespace, pod, pod_uid, cost)

    def startup_said(self, service: ServiceKey) -> str:
        """What a probe last said of pods that take long to start; empty when nothing is known."""
        return self._startups.said(service)

    @property
    def pending(self) -> int:
        """InferenceServices that wait to be worked on, for metrics."""
        return len(self._queue)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._gates.run())
            group.create_task(self._costs.run())
            group.create_task(self._refresh_for_ever())
            group.create_task(self._startups.run())
            group.create_task(self._storage.run())
            group.create_task(self._claims.run())

    # Deciding.

    def _resolve(self, key: ServiceKey, service: Workload) -> None:
        if self._runtimes_known:
            self._resolve_now(key, service)
            self._queue.add(key)

    def _resolve_now(self, key: ServiceKey, service: Workload) -> None:
        try:
            service.resolve(key, self._runtimes.values(), self._settings)
        except Exception as error:
            self._failed(key, "resolving an InferenceService", error)
            service.cannot_be_read(unforeseen(error), broken=True)
        self._tell(key, service)

    def _tell(self, key: ServiceKey, service: Workload) -> bool:
        """Let the state know what changed for it; False: an error of our own, others go on."""
        service.untold = True
        try:
            self._say(key, service)
        except Exception as error:
            self._failed(key, "telling of an InferenceService", error)
        else:
            service.untold = False
        return not service.untold

    def _say(self, key: ServiceKey, service: Workload) -> None:
        if service.resolution is None:
            if service.told is not None:
                service.told = None
                self._on_event(ServiceGone(key, service.uid))
            return
        written, deployment = service.resolution, self._pods.deployment(key)
        wrong_claim = self._claims.service_seen(key, written.claims, deployment.claims)
        complaint = written.spec.problem or service.refused
        goes_on = service.applied[1] if complaint is not None and service.applied is not None else None
        now = with_former_place(written.spec, deployment.serves)
        former = goes_on.spec if goes_on is not None else served(now, deployment.serves)
        spec = as_it_runs(now, complaint, former, deployment.refused, has_pods=deployment.replicas > 0)
        if spec.problem is None:
            spec = self._pods.as_decided(spec, (goes_on or written).scaling)
            spec = replace(spec, missing_secrets=self._storage.known(service.account).missing)
            spec = replace(spec, degraded=spec.degraded or wrong_claim)
        if spec != service.told:
            service.told = spec
            self._on_event(ServiceSeen(spec))

    def _runtimes_changed(self, namespace: str) -> None:
        for key, service in list(self._services.items()):
            if namespace in ("", key.namespace):
                self._resolve(key, service)

    def _deployment_changed(self, key: ObjectKey, obj: Mapping[str, Any] | None) -> None:
        service = ServiceKey(key.namespace, key.name.removesuffix(predictor_name("")))
        changed, decider_changed = self._pods.deployment_seen(service, obj)
        self._startups.seen(service, starting=self._pods.deployment(service).starting)
        known = self._services.get(service)
        if changed and known is not None:
            self._storage.hint(known.account)
        if decider_changed:
            self._decider_changed(service)
        elif changed and known is not None and not self._tell(service, known):
            self._queue.add(service)

    def _decider_changed(self, key: ServiceKey) -> None:
        """Another decides now how many pods there are."""
        service = self._services.get(key)
        if service is not None:
            self._tell(key, service)
            self._queue.add(key)

    def _any_in(self, namespace: str) -> bool:
        return any(key.namespace == namespace for key in self._services)

    # Doing.

    async def _work(self, key: ServiceKey) -> None:
        """Raises Retry for whatever has to be done again."""
        try:
            await self._bring_about(key)
            service = self._services.get(key)
            if service is not None and (service.broken or (service.untold and not self._tell(key, service))):
                raise Retry("an error of our own")
        except Retry:
            raise
        except Exception as error:
            self._failed(key if key.name else None, "work on an InferenceService", error)
            raise Retry(repr(error)) from error

    async def _bring_about(self, key: ServiceKey) -> None:
        if not key.name:
            if not self._any_in(key.namespace):
                await self._shared.remove(key.namespace)
            return
        service = self._services.get(key)
        if service is None:
            if key in self._released:
                await self._applier.remove_all(key)
                self._released.discard(key)
            return
        if service.broken:
            self._resolve_now(key, service)
        if not service.taken:
            await self._remove_all(key, service.uid)
            return
        resolution, isvc, account = service.resolution, service.isvc, service.account
        if resolution is None or account is None or (resolution.spec.problem is not None and service.applied is None):
            return  # what runs is left to run
        if self._claims.undecided(key):
            return  # it is worked on again once that is known
        refused: Refused | None = None
        if isvc is not None and resolution.spec.problem is None:
            refused = await self._apply(key, service, account, isvc, resolution)
        if self._services.get(key) is service and service.resolution is resolution:
            problem = refused.problem if refused is not None else None
            if problem is not None and problem != service.refused:
                log.warning(problem.message, extra={"event": "WorkloadRefused", "service": "/".join(key)})
            service.refused = problem
            self._tell(key, service)
        if (refused or resolution.spec.problem) and service.applied is not None:
            await self._apply(key, service, account, *service.applied)  # what was before goes on, also its scaling
        if refused is not None and not refused.final:
            raise Retry(refused.problem.message)

    async def _remove_all(self, key: ServiceKey, uid: str) -> None:
        """The InferenceService is not ours any more."""
        try:
            await self._applier.remove_others(key, uid, ())
        except Refused as refused:
            raise Retry(str(refused)) from refused

    async def _apply(
        self, key: ServiceKey, service: Workload, account: Account, isvc: InferenceService, resolution: Resolution
    ) -> Refused | None:
        """Have everything be as resolved, or say why it cannot. Raises Retry for what passes."""
        storage = await self._storage.get(account)
        pods = await self._pods.next(key, resolution.scaling, service.count)
        try:
            await self._shared.ensure(key.namespace, modelmesh=is_group(key.name))
            now = self._pods.deployment(key)
            made = replace(resolution, spec=with_former_place(resolution.spec, now.serves))
            manifests, partly = await self._putter.put(
                key, service.uid, isvc, made, storage=storage, pods=pods, now=now.claims
            )
            self._pods.applied(key, service.uid, pods, service.count)
            await self._applier.remove_others(key, service.uid, [object_key(m) for m in manifests])
            service.storage = await self._storage.applied(key, service.storage, storage)
        except Refused as refused:
            return refused
        except OwnerGone:  # which its watch has not told of yet
            self.inference_service_gone(key.namespace, key.name, service.uid)
            return None
        except Retry:
            raise
        except SpecError as error:
            return Refused(Problem(error.reason, error.message), final=True)
        except Exception as error:
            self._failed(key, "rendering an InferenceService", error)
            wrong = unforeseen(error)
            return Refused(Problem(wrong.reason, wrong.message))
        service.applied = isvc, resolution
        return partly

    def _accounts(self) -> set[Account]:
        return {account for s in self._services.values() if s.taken and (account := s.account) is not None}

    def _storage_changed(self, account: Account) -> None:
        for key, service in self._services.items():
            if service.account == account:
                self._queue.add(key)

    async def _refresh_for_ever(self) -> None:  # what changes without an event that we may watch
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            renewed = self._shared.renewed
            namespaces = set()
            for config in self._applier.unwatched():
                if await self._applier.check(config):
                    namespaces.add(config.namespace)
            for key in self._services:
                if renewed or key.namespace in namespaces:
                    self._queue.add(key)

"""Turns watched InferenceServices and runtimes into ServiceSpecs for the state, and into objects in the cluster.

Handlers return at once: what they changed is worked off by a queue, one InferenceService at a time.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService
from shoal_api.names import CA_CONFIGMAP, LABEL_MANAGED_BY, MANAGED_BY

from shoal_operator.kube import KubeApi
from shoal_operator.state.events import Event, ServiceGone, ServiceSeen
from shoal_operator.state.values import Problem, ServiceKey, ServiceSpec

from .applier import Applier, Refused
from .deletion_cost import DeletionCosts
from .gate import GateSetter
from .live_replicas import AUTOSCALER, is_foreign
from .owned import DeploymentState, ObjectKey, object_key
from .pod_counts import Count, PodCounts, Scaled
from .render import predictor_name, render
from .resolve import Resolution, is_taken, resolve, unreadable
from .runtimes import Runtime
from .settings import WorkloadSettings
from .storage_reader import DEFAULT_SERVICE_ACCOUNT, Account, StorageReader
from .work_queue import Retry, WorkQueue

log = logging.getLogger(__name__)

Object = dict[str, Any]

REFRESH_SECONDS = 60.0
RUNTIMES_WAIT_SECONDS = 5.0
_WORKERS = 4


@dataclass(slots=True)
class _Service:
    """One InferenceService. ``isvc`` is None when the object cannot be read; ``taken`` False: it is not ours."""

    uid: str
    obj: Object
    isvc: InferenceService | None = None
    resolution: Resolution | None = None
    taken: bool = True
    refused: Problem | None = None  # by the API server, at the last apply
    told: ServiceSpec | None = None  # as the state was last told
    count: Count = field(default_factory=Count)

    @property
    def account(self) -> Account | None:
        if self.isvc is None:
            return None
        name = self.isvc.spec.predictor.service_account_name or DEFAULT_SERVICE_ACCOUNT
        return self.isvc.metadata.namespace, name


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
    ) -> None:
        self._settings = settings
        self._ca_pem = ca_pem
        self._on_event = on_event
        self._applier = Applier(api)
        self._storage = StorageReader(api)
        self._gates = GateSetter(api)
        self._costs = DeletionCosts(api)
        self._pods = PodCounts(api, self._costs, on_scaled)
        self._services: dict[ServiceKey, _Service] = {}
        self._runtimes: dict[tuple[str, str], Runtime] = {}
        self._runtimes_known = False
        self._ca_told = ""
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
            service = self._services[key] = _Service(uid, {})
        if _same_wish(service.obj, obj):
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
        self._pods.forget(key)
        if service.told is not None:
            self._on_event(ServiceGone(key, uid))
        if not self._any_in(namespace):
            self._queue.add(ServiceKey(namespace, ""))

    def runtime_seen(self, obj: Mapping[str, Any]) -> None:
        """A ServingRuntime or ClusterServingRuntime was added or changed."""
        meta = obj.get("metadata") or {}
        key = str(meta.get("namespace") or ""), str(meta.get("name", ""))
        try:
            runtime = Runtime.read(dict(obj))
        except SpecError as error:
            self._runtimes.pop(key, None)
            log.warning(
                "a runtime cannot be read and is left out",
                extra={"event": "RuntimeUnreadable", "object": "/".join(key).strip("/"), "answer": error.message},
            )
        else:
            if self._runtimes.get(key) == runtime:
                return
            self._runtimes[key] = runtime
        self._runtimes_changed(key[0])

    def runtime_gone(self, obj: Mapping[str, Any]) -> None:
        """A ServingRuntime or ClusterServingRuntime was deleted."""
        meta = obj.get("metadata") or {}
        key = str(meta.get("namespace") or ""), str(meta.get("name", ""))
        if self._runtimes.pop(key, None) is not None:
            self._runtimes_changed(key[0])

    def runtimes_listed(self) -> None:
        """All runtimes that there are have been seen: until then no InferenceService is resolved, for a while."""
        if not self._runtimes_known:
            self._runtimes_known = True
            self.resync()

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
        if key.name == CA_CONFIGMAP and kind == "ConfigMap":
            self._ca_seen(namespace, obj)
            return
        service = self._applier.gone(key) if obj is None else self._applier.seen({**obj, "kind": kind})
        if service is not None:
            self._queue.add(service)

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
            # A kind that is not served (KServe's minimal CRDs) must not keep all else from starting.
            await asyncio.sleep(RUNTIMES_WAIT_SECONDS)
            self.runtimes_listed()

    # Deciding.

    def _resolve(self, key: ServiceKey, service: _Service) -> None:
        if not self._runtimes_known:
            return
        try:
            service.isvc = InferenceService.read(service.obj)
        except SpecError as error:
            service.isvc, service.resolution = None, unreadable(service.obj, error)
        else:
            service.taken = is_taken(service.isvc, self._settings.require_model_mesh)
            runtimes = (r for r in self._runtimes.values() if r.namespace in ("", key.namespace))
            service.resolution = resolve(service.isvc, runtimes) if service.taken else None
        self._tell(key, service)
        self._queue.add(key)

    def _tell(self, key: ServiceKey, service: _Service) -> None:
        """Let the state know what changed for it."""
        if service.resolution is None:
            if service.told is not None:
                service.told = None
                self._on_event(ServiceGone(key, service.uid))
            return
        spec = _with_refusal(service.resolution.spec, service.refused, self._pods.deployment(key))
        if spec.problem is None:
            spec = self._pods.as_decided(spec, service.resolution.scaling)
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
        known = self._services.get(service)
        if decider_changed:
            self._decider_changed(service)
        elif changed and known is not None:
            self._tell(service, known)

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
        if not key.name:
            await self._clean(key.namespace)
            return
        service = self._services.get(key)
        if service is None:
            return
        resolution, isvc, account = service.resolution, service.isvc, service.account
        try:
            if not service.taken:
                await self._applier.remove_others(key, service.uid, ())
                return
            if resolution is None or isvc is None or account is None or resolution.spec.problem is not None:
                return  # what runs is left to run
            await self._ensure_ca(key.namespace)
            storage = await self._storage.get(account)
            pods = await self._pods.next(key, resolution.scaling, service.count)
            manifests = render(isvc, resolution, storage, self._settings, pods)
            for manifest in manifests:
                await self._applier.apply(manifest, service.uid, first_replicas=resolution.scaling.least)
            self._pods.applied(key, service.uid, pods, service.count)
            await self._applier.remove_others(key, service.uid, [object_key(m) for m in manifests])
        except Refused as refused:
            problem: Problem | None = refused.problem
        except SpecError as error:
            problem = Problem(error.reason, error.message)
        else:
            problem = None
        if self._services.get(key) is service and service.resolution is resolution:
            if problem is not None and problem != service.refused:
                extra = {"event": "WorkloadRefused", "service": f"{key.namespace}/{key.name}"}
                log.warning(problem.message, extra=extra)
            service.refused = problem
            self._tell(key, service)
        if problem is not None:
            raise Retry(problem.message)

    async def _ensure_ca(self, namespace: str) -> None:
        """The ConfigMap by which agents trust the operator, before the pods that mount it."""
        pem = self._ca_pem()
        if not pem:
            raise Retry("the certificate authority is not there yet")
        self._ca_told = pem
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CA_CONFIGMAP, "namespace": namespace, "labels": {LABEL_MANAGED_BY: MANAGED_BY}},
            "data": {"ca.crt": pem},
        }
        await self._applier.apply(manifest, "")

    async def _clean(self, namespace: str) -> None:
        """The namespace's last InferenceService went: take the ConfigMap along."""
        if not self._any_in(namespace):
            await self._applier.remove(ObjectKey("ConfigMap", namespace, CA_CONFIGMAP))

    def _ca_seen(self, namespace: str, obj: Mapping[str, Any] | None) -> None:
        key = ObjectKey("ConfigMap", namespace, CA_CONFIGMAP)
        touched = self._applier.touched(key, obj)
        first = next((k for k in self._services if k.namespace == namespace), None)
        if touched and first is not None:
            self._queue.add(first)

    async def _refresh_for_ever(self) -> None:
        """Secrets, ConfigMaps and certificates change without an event that we may watch."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            accounts = {account for s in self._services.values() if s.taken and (account := s.account) is not None}
            self._storage.keep_only(accounts)
            for scaled in await self._pods.refresh():
                self._decider_changed(scaled)
            changed = {account for account in accounts if await self._storage.refresh(account)}
            renewed = self._ca_pem() != self._ca_told
            namespaces = set()
            for config in self._applier.unwatched():
                if await self._applier.check(config):
                    namespaces.add(config.namespace)
            for key, service in list(self._services.items()):
                if renewed or service.account in changed or key.namespace in namespaces:
                    self._queue.add(key)


def _same_wish(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    def wish(obj: Mapping[str, Any]) -> tuple[Any, ...]:
        meta = obj.get("metadata") or {}
        labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
        return meta.get("generation"), labels, annotations, obj.get("spec")

    return bool(before) and wish(before) == wish(after)


def _with_refusal(spec: ServiceSpec, refused: Problem | None, deployment: DeploymentState) -> ServiceSpec:
    """The resolved spec with what the API server refused: nothing runs without pods, else it is only degraded."""
    refused = refused or deployment.refused
    if spec.problem is not None or refused is None:
        return spec
    return replace(spec, degraded=refused) if deployment.replicas else replace(spec, problem=refused)

"""What the cluster says about how many pods there are: Deployments, and autoscalers that users brought.

Both are watched; before either is believed to be absent it is asked for once, since an operator that has just started
must neither take pods away nor fight an autoscaler that it has not seen yet.
"""

import logging
from collections.abc import Mapping
from typing import Any

from shoal_operator.kube import KubeApi, KubeError, object_path
from shoal_operator.logs import OncePer
from shoal_operator.state.values import ServiceKey

from .owned import KINDS, DeploymentState, ObjectKey, deployment_state, is_ours
from .render import predictor_name
from .scaling import LiveReplicas
from .work_queue import Retry

log = logging.getLogger(__name__)

Object = Mapping[str, Any]

AUTOSCALER = "HorizontalPodAutoscaler"
_SUFFIX = predictor_name("")


class LiveCounts:
    """Bounded by the Deployments of InferenceServices, and the autoscalers whose target is named like one."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._deployments: dict[ServiceKey, DeploymentState] = {}
        self._autoscalers: dict[ServiceKey, set[str]] = {}  # names of others' HPAs
        self._listed: set[str] = set()  # namespaces whose HPAs were asked for
        self._complain = OncePer(600.0)

    def deployment(self, service: ServiceKey) -> DeploymentState:
        """The service's Deployment as last seen; an empty one when there is none."""
        return self._deployments.get(service, DeploymentState())

    def of(self, service: ServiceKey) -> LiveReplicas:
        """What there is to decide by."""
        found = self.deployment(service)
        autoscalers = self._autoscalers.get(service)
        return LiveReplicas(found.wanted, found.scale_manager, min(autoscalers) if autoscalers else "")

    def deployment_seen(self, service: ServiceKey, obj: Object | None) -> bool:
        """A Deployment was added, changed or (None) deleted; whether what is kept of it changed."""
        before, now = self.deployment(service), DeploymentState() if obj is None else deployment_state(obj)
        if obj is None:
            self._deployments.pop(service, None)
        else:
            self._deployments[service] = now
        return before != now

    def autoscaler_seen(self, namespace: str, name: str, obj: Object | None) -> set[ServiceKey]:
        """An HPA was added, changed or (None) deleted; the services for which another decides now."""
        now = None if obj is None else _target(obj)
        changed = set()
        for service, names in list(self._autoscalers.items()):
            if service.namespace == namespace and name in names and service != now:
                self._drop(service, name)
                changed.add(service)
        if now is not None and name not in self._autoscalers.setdefault(now, set()):
            self._autoscalers[now].add(name)
            changed.add(now)
        return changed

    def forget(self, service: ServiceKey) -> None:
        """The service is gone, and its Deployment goes with it."""
        self._deployments.pop(service, None)

    async def read(self, service: ServiceKey) -> LiveReplicas:
        """``of``, with what was never seen asked for first. Raises Retry when the API server cannot say."""
        if service.namespace not in self._listed:
            for name, target in (await self._list(service.namespace)).items():
                self._autoscalers.setdefault(target, set()).add(name)
            self._listed.add(service.namespace)
        if service not in self._deployments:
            await self._read_deployment(service)
        return self.of(service)

    async def refresh(self) -> set[ServiceKey]:
        """Look again for autoscalers whose end no watch has told; the services that have none any more."""
        changed = set()
        for namespace in {service.namespace for service in self._autoscalers}:
            try:
                found = await self._list(namespace)
            except Retry:
                continue
            for service, names in list(self._autoscalers.items()):
                for name in names - found.keys() if service.namespace == namespace else ():
                    self._drop(service, name)
                    changed.add(service)
        return changed

    def _drop(self, service: ServiceKey, name: str) -> None:
        names = self._autoscalers[service] - {name}
        if names:
            self._autoscalers[service] = names
        else:
            del self._autoscalers[service]

    async def _read_deployment(self, service: ServiceKey) -> None:
        key = ObjectKey("Deployment", service.namespace, predictor_name(service.name))
        try:
            found = await self._api.request("GET", key.path)
        except KubeError as error:
            if error.transient or error.status == 401:
                raise Retry(str(error), error.retry_after or 0.0) from error
            return  # there is none; or it may not be read, which applying it will say
        if service not in self._deployments:  # else the watch was faster
            self._deployments[service] = deployment_state(found)

    async def _list(self, namespace: str) -> dict[str, ServiceKey]:
        version, plural = KINDS[AUTOSCALER]
        try:
            found = await self._api.request("GET", object_path(version, plural, namespace))
        except KubeError as error:
            if error.transient or error.status == 401:
                raise Retry(str(error), error.retry_after or 0.0) from error
            if self._complain.ready(namespace):
                log.warning(
                    "HorizontalPodAutoscalers cannot be listed, so that none of others can be respected",
                    extra={"event": "AutoscalersUnreadable", "namespace": namespace, "answer": str(error)},
                )
            return {}
        targets = {str(item["metadata"]["name"]): _target(item) for item in found.get("items") or ()}
        return {name: target for name, target in targets.items() if target is not None}


def is_foreign(obj: Object) -> bool:
    """Whether an HPA is not one that we render."""
    return not is_ours(obj.get("metadata") or {})


def _target(obj: Object) -> ServiceKey | None:
    """The InferenceService whose Deployment an HPA of others scales; None for ours, and for those of anything else."""
    meta, target = obj.get("metadata") or {}, (obj.get("spec") or {}).get("scaleTargetRef") or {}
    name = str(target.get("name", ""))
    if not is_foreign(obj) or target.get("kind") != "Deployment" or not name.endswith(_SUFFIX):
        return None
    return ServiceKey(str(meta.get("namespace", "")), name.removesuffix(_SUFFIX))

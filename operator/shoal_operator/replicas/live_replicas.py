"""What the cluster says about how many pods there are: Deployments, and autoscalers that users brought.

Both are watched. An operator that has just started must neither take pods away nor fight an autoscaler that it has not
seen yet: nothing is decided before all autoscalers were listed, and a Deployment that was never seen is asked for once.
"""

from collections.abc import Mapping
from typing import Any

from shoal_operator.kube import KubeApi, KubeError
from shoal_operator.manifests.cluster.owned import ObjectKey, is_ours
from shoal_operator.manifests.render import predictor_name
from shoal_operator.state.world.values import ServiceKey
from shoal_operator.work_queue import Retry

from .decide import LiveReplicas
from .deployments import DeploymentState, deployment_state

Object = Mapping[str, Any]

AUTOSCALER = "HorizontalPodAutoscaler"
_SUFFIX = predictor_name("")


class LiveCounts:
    """Bounded by the Deployments of InferenceServices, and the autoscalers whose target is named like one."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._deployments: dict[ServiceKey, DeploymentState] = {}
        self._autoscalers: dict[ServiceKey, set[str]] = {}  # names of others' HPAs
        self._listed = False

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

    def autoscalers_listed(self) -> bool:
        """All HPAs that there are were seen, or may not be; whether that is news."""
        before, self._listed = self._listed, True
        return not before

    def forget(self, service: ServiceKey) -> None:
        """The service is gone, and its Deployment goes with it."""
        self._deployments.pop(service, None)

    async def read(self, service: ServiceKey) -> LiveReplicas:
        """``of``, once everything was seen. Raises Retry until then, and when the API server cannot say."""
        if not self._listed:
            raise Retry("HorizontalPodAutoscalers are being listed")
        if service not in self._deployments:
            await self._read_deployment(service)
        return self.of(service)

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

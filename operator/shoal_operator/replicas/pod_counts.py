"""How many pods an InferenceService gets: what state has said, what the cluster says, and who decides between them."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shoal_operator.kube import KubeApi
from shoal_operator.manifests.render import predictor_name
from shoal_operator.manifests.scaling import Decision, Scaling
from shoal_operator.state.world.values import ServiceKey, ServiceSpec
from shoal_operator.work_queue import Retry

from .decide import decide
from .deletion_cost import DeletionCosts
from .deployments import DeploymentState
from .live_replicas import LiveCounts

log = logging.getLogger(__name__)

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scaled:
    """An InferenceService got another number of pods because state said so; ``reason`` is for people."""

    service: ServiceKey
    uid: str
    before: int
    after: int
    reason: str


@dataclass(slots=True)
class Count:
    """Of one InferenceService. ``wanted`` and ``reason``: as state has said last. ``written``: as applied last, None
    when another decides."""

    wanted: int | None = None
    reason: str = ""
    written: int | None = None

    def say(self, replicas: int, reason: str) -> bool:
        """State's word; whether it is another than before."""
        before, self.wanted, self.reason = self.wanted, replicas, reason
        return before != replicas


class PodCounts:
    """``on_scaled``: told after the number of pods was changed because state said so."""

    def __init__(self, api: KubeApi, costs: DeletionCosts, on_scaled: Callable[[Scaled], None]) -> None:
        self._costs = costs
        self._on_scaled = on_scaled
        self._live = LiveCounts(api)

    def forget(self, service: ServiceKey) -> None:
        """The service is gone."""
        self._live.forget(service)

    def deployment(self, service: ServiceKey) -> DeploymentState:
        """The service's Deployment as last seen; an empty one when there is none."""
        return self._live.deployment(service)

    def deployment_seen(self, service: ServiceKey, obj: Object | None) -> tuple[bool, bool]:
        """A Deployment was added, changed or (None) deleted: whether anything changed, and who decides with it."""
        before = self._live.of(service).manager
        changed = self._live.deployment_seen(service, obj)
        return changed, before != self._live.of(service).manager

    def autoscaler_seen(self, namespace: str, name: str, obj: Object | None) -> set[ServiceKey]:
        """An HPA was added, changed or (None) deleted; the services for which another decides now."""
        return self._live.autoscaler_seen(namespace, name, obj)

    def autoscalers_listed(self) -> bool:
        """All HPAs that there are were seen, or may not be: until then nothing is decided. Whether that is news."""
        return self._live.autoscalers_listed()

    def as_decided(self, spec: ServiceSpec, asked: Scaling) -> ServiceSpec:
        """The resolved spec, with the number of pods that somebody else has decided where somebody has."""
        decision = self._decide(spec.key, asked, None)
        if not decision.by:
            return spec
        wanted = self._live.of(spec.key).wanted
        count = spec.min_replicas if wanted is None else max(wanted, 1)
        return replace(
            spec,
            min_replicas=count,
            max_replicas=max(count, spec.max_replicas),
            autoscaled=False,
            scale_metric=None,
            scale_target=None,
            scaled_by=decision.by,
            idle=spec.idle if decision.autoscaler else None,  # the step to no pod and back stays ours
        )

    async def next(self, service: ServiceKey, asked: Scaling, count: Count) -> Decision:
        """What to apply now. Raises Retry while the API server cannot say what there is, and while Kubernetes has
        not been told which pods are to go."""
        before = (await self._live.read(service)).wanted
        decision = self._decide(service, asked, count.wanted)
        if count.written is None:
            count.written = before
        if decision.replicas is not None and before is not None and decision.replicas < before:
            self._wait_for_costs(service)
        return decision

    def applied(self, service: ServiceKey, uid: str, decision: Decision, count: Count) -> None:
        """The API server has taken it."""
        before, after, count.written = count.written, decision.replicas, decision.replicas
        if before is None or after is None or before == after or after != count.wanted:
            return
        scaled = Scaled(service, uid, before, after, count.reason)
        log.info(
            "an InferenceService is scaled",
            extra={
                "event": "Scaled",
                "service": f"{service.namespace}/{service.name}",
                "before": before,
                "after": after,
                "reason": count.reason,
            },
        )
        self._on_scaled(scaled)

    def _decide(self, service: ServiceKey, asked: Scaling, wanted: int | None) -> Decision:
        return decide(asked, wanted, self._live.of(service), predictor_name(service.name))

    def _wait_for_costs(self, service: ServiceKey) -> None:
        if self._costs.pending(service.namespace, f"{predictor_name(service.name)}-"):
            raise Retry("deletion costs are being written")

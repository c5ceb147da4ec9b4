"""Who decides how many pods an InferenceService has: what it asks for, and what others have set. Pure.

Four can decide. State, between minReplicas and maxReplicas: by memory pressure, or by ``scaleMetric`` concurrency or
rps, which the operator measures. A HorizontalPodAutoscaler that we render, for ``scaleMetric`` cpu or memory, which
only Kubernetes measures. An autoscaler that a user brings. Nobody: then there are minReplicas.
"""

from dataclasses import dataclass

from shoal_api.names import ANNOTATION_AUTOSCALER_CLASS

from shoal_operator.manifests.annotations import shown
from shoal_operator.manifests.scaling import AutoscalerClass, Decision, Scaling


@dataclass(frozen=True, slots=True)
class LiveReplicas:
    """What the cluster says: ``wanted``, the Deployment's spec.replicas (None: there is none); ``manager``, a
    controller that has set it through the scale subresource; ``autoscaler``, an HPA of others that targets it."""

    wanted: int | None = None
    manager: str = ""
    autoscaler: str = ""


def decide(asked: Scaling, wanted: int | None, live: LiveReplicas, own_autoscaler: str) -> Decision:
    """Who decides how many pods there are, and how many.

    ``wanted``: what state has said last; before it has, an autoscaled Deployment keeps what it has, so that an
    operator that starts does not take pods away. ``own_autoscaler``: the name of the HPA that we would render. That one
    never has fewer than one pod (Kubernetes admits no minReplicas 0): the step to none and back is ours, and a
    HorizontalPodAutoscaler leaves a Deployment without replicas alone.
    """
    if live.autoscaler:
        return Decision(None, by=f"HorizontalPodAutoscaler {live.autoscaler} decides how many pods there are.")
    if asked.scaler in (AutoscalerClass.EXTERNAL, AutoscalerClass.KEDA):
        made = " Shoal makes no ScaledObject." if asked.scaler is AutoscalerClass.KEDA else ""
        return Decision(
            None,
            by=f"How many pods there are is left to others by annotation {ANNOTATION_AUTOSCALER_CLASS}: "
            f"{asked.scaler}.{made}",
        )
    if asked.resource:
        return Decision(
            _to_none_and_back(asked, wanted, live.wanted),
            autoscaler=True,
            by=f"HorizontalPodAutoscaler {own_autoscaler} decides how many pods there are, by {asked.resource}.",
        )
    if live.manager and not asked.written:
        return Decision(
            None,
            by=f"{shown(live.manager)[1:-1]} has set how many pods there are, through the Deployment's scale. To give "
            f"it back to Shoal, annotate the InferenceService with {ANNOTATION_AUTOSCALER_CLASS}: hpa, or none for "
            "minReplicas.",
        )
    if not asked.autoscaled and not asked.to_zero:
        return Decision(asked.least)
    known = wanted if wanted is not None else live.wanted
    if asked.to_zero and not known:
        return Decision(0)
    return Decision(asked.least if known is None else min(max(known, asked.least), asked.most))


def _to_none_and_back(asked: Scaling, wanted: int | None, live: int | None) -> int | None:
    """What we write beside an HPA of ours: none, or the first pod after that; None: its number is the HPA's."""
    if not asked.to_zero or (wanted is None and live):
        return None
    if not wanted:
        return 0
    return None if live else asked.least

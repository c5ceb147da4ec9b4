"""How many pods an InferenceService asks for, and by what they are to follow the need: KServe's fields and annotation.

Who decides in the end depends on the cluster as well: ``replicas.decide``. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shoal_api.inference_service import InferenceService
from shoal_api.names import ANNOTATION_AUTOSCALER_CLASS

from shoal_operator.state.world.values import ScaleMetric

from .annotations import shown

DEFAULT_CONCURRENCY = 100.0
DEFAULT_RPS = 200.0
"""Knative's targets, which KServe's serverless mode scales by where scaleTarget is left out."""
DEFAULT_UTILIZATION = 80
"""Percent of what a pod requests: KServe's target for cpu and memory."""

RESOURCES = ("cpu", "memory")


class AutoscalerClass(StrEnum):
    """Values of annotation serving.kserve.io/autoscalerClass."""

    HPA = "hpa"  # KServe's default: between minReplicas and maxReplicas
    EXTERNAL = "external"
    KEDA = "keda"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Scaling:
    """What an InferenceService asks for.

    ``to_zero``: there may be no pod at all (minReplicas 0); ``least``: as long as there are any.
    ``resource``: cpu or memory where a HorizontalPodAutoscaler of ours is to scale, with ``target`` percent of what
    the pods request; ``metric`` and ``target`` per pod are for state. ``written``: the annotation is there, so the
    class is the user's word and not the default. ``ignored``: fields without effect. ``wrong``: a sentence for each
    value that cannot be.
    """

    least: int = 1
    most: int = 1
    to_zero: bool = False
    scaler: AutoscalerClass = AutoscalerClass.HPA
    written: bool = False
    metric: ScaleMetric | None = None
    resource: str = ""
    target: float | None = None
    ignored: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def autoscaled(self) -> bool:
        """Whether state decides, unless somebody else turns out to."""
        return self.scaler is AutoscalerClass.HPA and self.most > self.least and not self.resource


@dataclass(frozen=True, slots=True)
class Decision:
    """``replicas``: what we write, None when it is another's. ``autoscaler``: ours is to be there. ``by``: who
    decides in our place, as a sentence; empty when nobody does."""

    replicas: int | None
    autoscaler: bool = False
    by: str = ""


def scaling(isvc: InferenceService) -> Scaling:
    """What an InferenceService asks for. Never raises."""
    predictor = isvc.spec.predictor
    fewest, most = predictor.replicas()
    least, most = max(fewest, 1), max(most, 1)  # without a pod no model can be placed
    wrong: list[str] = []
    scaler, written = _class(isvc.metadata.annotations, wrong)
    name, target = predictor.scale_metric, predictor.scale_target
    metric: ScaleMetric | None = None
    resource = ""
    if name in RESOURCES:
        resource = name
    elif name is not None:
        try:
            metric = ScaleMetric(name)
        except ValueError:
            wrong.append(
                f"spec.predictor.scaleMetric is {shown(name)}: write concurrency, rps, cpu or memory; the pods follow "
                "the memory that models need."
            )
    ignored = ["spec.predictor.scaleTarget without scaleMetric"] if target is not None and name is None else []
    if target is not None and target < 1:
        wrong.append(f"spec.predictor.scaleTarget is {target}: write a number from 1; the default holds.")
        target = None
    kind = str((predictor.model_extra or {}).get("scaleMetricType") or "Utilization")
    if kind != "Utilization":
        ignored.append(f"spec.predictor.scaleMetricType: {shown(kind)[1:-1]}")
    grows = scaler is AutoscalerClass.HPA and most > least
    return Scaling(
        least=least,
        most=most,
        to_zero=fewest == 0,
        scaler=scaler,
        written=written,
        metric=metric if grows else None,
        resource=resource if grows else "",
        target=_target(target, metric, resource) if grows else None,
        ignored=tuple(ignored),
        wrong=tuple(wrong),
    )


def _class(annotations: Mapping[str, Any], wrong: list[str]) -> tuple[AutoscalerClass, bool]:
    text = annotations.get(ANNOTATION_AUTOSCALER_CLASS)
    if text is None:
        return AutoscalerClass.HPA, False
    try:
        return AutoscalerClass(text), True
    except ValueError:
        wrong.append(
            f"Annotation {ANNOTATION_AUTOSCALER_CLASS} is {shown(text)}: write {', '.join(AutoscalerClass)}; "
            f"{AutoscalerClass.HPA} holds."
        )
        return AutoscalerClass.HPA, False


def _target(written: int | None, metric: ScaleMetric | None, resource: str) -> float | None:
    if written is not None and (metric is not None or resource):
        return float(written)
    if resource:
        return float(DEFAULT_UTILIZATION)
    if metric is None:
        return None
    return DEFAULT_CONCURRENCY if metric is ScaleMetric.CONCURRENCY else DEFAULT_RPS

"""The pods that a ServingRuntime's models share in a namespace, as ModelMesh has them. Pure.

A group is written as the InferenceService that would have such pods, so that all that makes pods of one makes those of
the other. Its name is none that an InferenceService can have, and what it owns is its runtime's.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from shoal_api.inference_service import MODEL_MESH, InferenceService
from shoal_api.names import ANNOTATION_AUTOSCALER_CLASS, ANNOTATION_DEPLOYMENT_MODE, GROUP
from shoal_api.quantity import whole_number
from shoal_api.serving_runtime import ClusterServingRuntime, ServingRuntime

from shoal_operator.state.world.values import GROUP_PREFIX, ServiceKey

from .runtimes import Runtime

Object = dict[str, Any]

MIN_SCALE: Final = f"{GROUP}/min-scale"
MAX_SCALE: Final = f"{GROUP}/max-scale"
METRICS: Final = f"{GROUP}/metrics"
TARGET: Final = f"{GROUP}/targetUtilizationPercentage"
"""ModelMesh's annotations of a runtime for its autoscaler."""

_LONGEST: Final = 53  # as of an InferenceService: more is made of it
_MOST_PODS: Final = 1000
_OURS: Final = "shoal.dev/"


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What the installation says of groups: ``pods`` of each where its runtime says nothing, and the
    ``service_account`` of their pods, whose Secrets hold storage credentials."""

    pods: int = 2
    service_account: str = ""


DEFAULT_GROUPS: Final = GroupSettings()


def group_key(namespace: str, runtime: str) -> ServiceKey:
    """The group of a runtime in a namespace."""
    name = f"{GROUP_PREFIX}{runtime}"
    if len(name) > _LONGEST:
        digest = hashlib.blake2b(runtime.encode(), digest_size=4).hexdigest()
        name = f"{name[: _LONGEST - 9].rstrip('.-')}-{digest}"
    return ServiceKey(namespace, name)


def group_object(namespace: str, runtime: Runtime, settings: GroupSettings) -> Object:
    """The InferenceService that the group is like."""
    key = group_key(namespace, runtime.name)
    kind = ServingRuntime if runtime.namespace else ClusterServingRuntime
    formats = runtime.spec.supported_model_formats or []
    predictor: Object = {
        **_pods(runtime, settings),
        "model": {"modelFormat": {"name": formats[0].name if formats else ""}, "runtime": runtime.name},
    }
    if settings.service_account:
        predictor["serviceAccountName"] = settings.service_account
    annotations = {name: value for name, value in runtime.annotations.items() if name.startswith(_OURS)}
    if ANNOTATION_AUTOSCALER_CLASS in runtime.annotations:
        annotations[ANNOTATION_AUTOSCALER_CLASS] = runtime.annotations[ANNOTATION_AUTOSCALER_CLASS]
    return {
        "apiVersion": f"{GROUP}/{InferenceService.version}",
        "kind": InferenceService.kind_name,
        "metadata": {
            "name": key.name,
            "namespace": namespace,
            "uid": runtime.uid,
            "generation": runtime.generation,
            "annotations": {**annotations, ANNOTATION_DEPLOYMENT_MODE: MODEL_MESH},
            "ownerReferences": [
                {
                    "apiVersion": f"{GROUP}/{kind.version}",
                    "kind": kind.kind_name,
                    "name": runtime.name,
                    "uid": runtime.uid,
                    "controller": True,
                }
            ],
        },
        "spec": {"predictor": predictor},
    }


def _pods(runtime: Runtime, settings: GroupSettings) -> Object:
    """How many: by ModelMesh's annotations, the runtime's own word, or the installation's. 0: none unless asked."""
    least = whole_number(runtime.annotations.get(MIN_SCALE, ""), _MOST_PODS)
    most = whole_number(runtime.annotations.get(MAX_SCALE, ""), _MOST_PODS)
    said = (least, runtime.spec.replicas, settings.pods)
    pods = next(number for number in said if number is not None)
    given: Object = {"minReplicas": max(0, pods)}
    if most is not None and most > pods:
        given["maxReplicas"] = most
    if (metric := runtime.annotations.get(METRICS)) is not None:
        given["scaleMetric"] = metric
    if (target := whole_number(runtime.annotations.get(TARGET, ""), 100)) is not None:
        given["scaleTarget"] = target
    return given

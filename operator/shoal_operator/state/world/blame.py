"""Whose fault an exception is: the InferenceService that was being worked on, as far as the frames that it passed tell.

What is looked at innermost counts most. Nothing has to be noted on the way for it, so nothing can be noted wrongly.
"""

from types import TracebackType
from typing import Any

from shoal_operator.state.world.entities import Copy, Model, Pod, Service, World
from shoal_operator.state.world.values import (
    ModelKey,
    ModelSpec,
    Plan,
    PlanInput,
    PodSpec,
    ServiceKey,
    ServiceSpec,
)


def blamed(world: World, error: BaseException) -> ServiceKey | None:
    """The InferenceService concerned; None when no frame names one."""
    frames: list[dict[str, Any]] = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_locals)
        trace = trace.tb_next
    for frame in reversed(frames):
        found = [key for value in frame.values() if (key := _service(world, value)) is not None]
        if found:
            # Where a frame names several, one that there is; the arguments come first among its variables.
            return next((key for key in found if key in world.services), found[0])
    return None


def _service(world: World, value: object) -> ServiceKey | None:  # noqa: PLR0911 - a table in the form of a match
    match value:
        case Service():
            return value.spec.key
        case Pod() | Model():
            return value.spec.service_key
        case ServiceSpec():
            return value.key
        case PodSpec() | ModelSpec():
            return value.service_key
        case Plan() | PlanInput():
            return value.service
        case Copy():
            pod = world.pods.get(value.pod_uid)
            return pod.spec.service_key if pod is not None else None
        case ServiceKey():
            return value
        case ModelKey():
            model = world.models.get(value)
            return model.spec.service_key if model is not None else None
    return None

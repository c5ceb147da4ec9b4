"""How far an agent is believed: about slots that can be its pod's, and about an epoch that somebody can have had."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from shoal_api.messages import SlotReport

from shoal_operator.state.world.entities import Pod, World
from shoal_operator.state.world.values import ModelKey, PodSpec

MAX_STRAYS = 1000
"""Slots of one pod that name no model of its namespace, as those of models that were deleted while no operator ran.
What goes beyond is not noted: the pod's desired list names none of them, so its agent lets go of them all the same."""

MAX_UNKNOWN = 20_000
"""The same while recovering, when models are not known yet: what an agent holds then is what is adopted."""

EPOCH_STEP = 1000
"""How far an agent's epoch may be above the one that this operator first claimed from Lease or store: as many starts of
operators as can be missing in a Lease that was restored from an older copy. See leadership/epoch.py for a lost one."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the border needs to know of a pod. ``expects(name)``: a slot of that name may be its own. ``models``: how
    many its InferenceService has; None: not known yet."""

    namespace: str
    name: str
    ip: str
    expects: Callable[[str], bool]
    models: int | None


def known(world: World, uid: str) -> Known | None:
    """The pod as the border needs it; None while the watch has not shown it."""
    pod = world.pods.get(uid)
    if pod is None or pod.gone:
        return None
    models = None if world.silent else len(world.models.of(pod.spec.service_key))
    return Known(pod.spec.namespace, pod.spec.name, pod.spec.ip, lambda name: expects(world, pod, name), models)


def addresses(world: World) -> set[str]:
    """Of all pods that the watch has shown and that are not gone."""
    return {pod.spec.ip for pod in world.pods.values() if pod.spec.ip and not pod.gone}


def set_aside(spec: PodSpec) -> Known:
    """The same of a pod whose InferenceService is being rebuilt: what its agent says is kept until then."""
    return Known(spec.namespace, spec.name, spec.ip, lambda name: True, None)


def expects(world: World, pod: Pod, name: str) -> bool:
    """Whether the slot was wanted of the pod, or can be: some model of its namespace has that name; or is noted."""
    return name in pod.slots or _own(world, pod, name)


def _own(world: World, pod: Pod, name: str) -> bool:
    return name in pod.copies or name in pod.probes or ModelKey(pod.spec.namespace, name) in world.models


def epoch_limit(world: World) -> int:
    """The highest epoch that an agent is believed to have obeyed: ours, if one of them had us claim a higher one."""
    return max(world.epoch, world.epoch_held + EPOCH_STEP)


def admitted(world: World, pod: Pod, observed: Iterable[SlotReport]) -> Iterator[SlotReport]:
    """Of what an agent observes, the slots that are noted: all that may be its own, and MAX_STRAYS others."""
    most = MAX_UNKNOWN if world.silent else MAX_STRAYS
    counted = False
    for slot in observed:
        if slot.name not in pod.strays and not expects(world, pod, slot.name):
            if not counted:
                counted = True
                # A stray counts until its agent has confirmed that it is gone.
                pod.strays = {name for name in pod.strays if name in pod.slots or name in pod.copies}
            if len(pod.strays) >= most:
                continue
            pod.strays.add(slot.name)
        yield slot


def recovered(world: World, pod: Pod) -> None:
    """Models are known now: forget the slots that would not have been noted."""
    strays = [name for name in pod.slots if not _own(world, pod, name)]
    for name in strays[MAX_STRAYS:]:
        del pod.slots[name]
    pod.strays = set(strays[:MAX_STRAYS])

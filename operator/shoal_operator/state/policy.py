"""How many copies of a model are wanted, and what may make way for them. Pure questions about one model."""

import math

from .values import ModelKey
from .world import Copy, Model, Pod, Service, Stage, World


def floor(service: Service, model: Model) -> int:
    """Copies that are kept whatever the use: spec.serving.minCopies; 0 by default, 1 where nothing may be cold."""
    least = model.spec.min_copies or 0
    return max(1, least) if service.spec.strict else least


def wanted(service: Service, model: Model) -> int:
    """Copies wanted now."""
    count = max(floor(service, model), model.target)
    return count if model.spec.max_copies is None else min(count, max(model.spec.max_copies, floor(service, model)))


def may_be_cold(service: Service, model: Model) -> bool:
    return floor(service, model) == 0


def demanded(model: Model, now: float) -> bool:
    """A request waits for it, or gave up waiting while its load goes on."""
    return model.asked_until > now


def fits_a_pod(service: Service, model: Model) -> bool:
    """Some pod could hold it, were it empty."""
    return model.memory is not None and model.memory <= service.spec.capacity_bytes


def right_to_evict(world: World, service: Service, model: Model, now: float) -> float | None:
    """``ModelNeed.evict_idle``: copies unused for so many seconds may make way for this model; None: none may.

    Everybody may have the place of a copy that failed to load (its idle time is infinite), but those that failed
    themselves: they would chase each other.
    """
    here = staying(world, model)
    if demanded(model, now):
        return 0.0
    if model.failure is not None:
        return None
    if len(here) < floor(service, model):
        return 0.0
    if any(copy.want != model.want and copy.answers for copy in here):
        return 0.0  # an update: the old content cannot serve for ever
    if here:
        return world.timing.hot_idle
    if any(copy.answers for copy in model.copies.values()):
        return max(0.0, now - model.last_used)  # its pod goes: who is less in use makes way
    return math.inf


def on_its_way(copy: Copy) -> bool:
    """Wanted on its pod, loaded or to be loaded."""
    return copy.stage in (Stage.PLACED, Stage.HELD)


def evictable(world: World, pod: Pod, copy: Copy, now: float) -> bool:
    """The copy may make way: nobody waits for it, nothing is under way for it, and enough others stay."""
    service = world.services.get(pod.spec.service_key)
    model = world.models.get(ModelKey(pod.spec.namespace, copy.name))
    if service is None or copy.stage is not Stage.PLACED or model is None or model.spec.uid != copy.uid:
        return False
    if copy.replacing or model.spec.service_key != pod.spec.service_key or demanded(model, now):
        return False
    least = floor(service, model)
    if not least:
        return True
    others = [other for other in staying(world, model) if other is not copy]
    return sum(other.stage is Stage.PLACED and other.answers for other in others) >= least


def staying(world: World, model: Model) -> list[Copy]:
    """Its copies that are there, or on their way, to stay."""
    return [copy for copy in model.copies.values() if on_its_way(copy) and not leaving(world, model, copy)]


def leaving(world: World, model: Model, copy: Copy) -> bool:
    """Its pod goes, or is another InferenceService's. A lost agent lets what is loaded serve, and loads nothing."""
    pod = world.pods[copy.pod_uid]
    return pod.leaving or pod.spec.service_key != model.spec.service_key or (pod.lost and not copy.answers)


def in_motion(world: World, service: Service) -> bool:
    """Something is being loaded or unloaded, after which memory may be free, or somebody may make way; O(pods)."""
    pods = (world.pods[uid] for uid in world.pods_of.get(service.spec.key, ()))
    return any(pod.placeable and len(pod.copies) > len(pod.lru) + len(pod.failing) for pod in pods)

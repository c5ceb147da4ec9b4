"""Whose copies may make way for whom, and which copies a model counts on. Pure questions."""

import math

from shoal_operator.state.wish.states import asked, deadly, floor
from shoal_operator.state.world.entities import Copy, Model, Pod, Service, Stage, World
from shoal_operator.state.world.values import ModelKey


def right_to_evict(world: World, service: Service, model: Model, now: float) -> float | None:
    """``ModelNeed.evict_idle``: copies unused for so many seconds may make way for this model; None: none may.

    Everybody may have the place of a copy that failed to load (its idle time is infinite), but those that failed
    themselves: they would chase each other.
    """
    here = staying(world, model)
    if asked(model, now):
        return 0.0
    if model.failure is not None and not model.fallback:
        return None
    if len(here) < floor(service, model):
        return 0.0
    if any(copy.aim_id != model.aim_id and copy.answers for copy in here):
        return 0.0  # an update: the old content cannot serve for ever
    if here:
        return world.timing.hot_idle
    if any(copy.answers for copy in model.copies.values()):
        return max(0.0, now - model.last_used)  # its pod goes: who is less in use makes way
    return math.inf


def left_alone(world: World, model: Model, now: float) -> bool:
    """It takes servers down, and nobody asks for it: no copy more is placed, but for one whose pod goes."""
    if not deadly(model) or model.fallback or asked(model, now):
        return False
    return not any(copy.answers and leaving(world, model, copy) for copy in model.copies.values())


def before_requests(world: World, service: Service, model: Model) -> bool:
    """minCopies keeps it, and it lacks a copy: it comes before those that requests wait for and that may be cold.

    Where nothing may be cold all are kept, and those that requests wait for come first.
    """
    return not service.spec.strict and len(staying(world, model)) < floor(service, model)


def on_its_way(copy: Copy) -> bool:
    """Wanted on its pod, loaded or to be loaded."""
    return copy.stage in (Stage.PLACED, Stage.PROMISED)


def evictable(world: World, pod: Pod, copy: Copy, now: float) -> bool:
    """The copy may make way: nobody waits for it, nothing is under way for it, and enough others stay."""
    service = world.services.get(pod.spec.service_key)
    model = world.models.get(ModelKey(pod.spec.namespace, copy.name))
    if service is None or copy.stage is not Stage.PLACED or model is None or model.spec.uid != copy.uid:
        return False
    if copy.replacing or model.spec.service_key != pod.spec.service_key or asked(model, now):
        return False
    if now < copy.awaited_until:
        return False  # else those who are asked for would chase each other, and no request find what it waited for
    least = floor(service, model)
    if not least:
        return True
    others = [other for other in staying(world, model) if other is not copy]
    return sum(other.stage is Stage.PLACED and other.answers for other in others) >= least


def finds_room(service: Service, model: Model) -> bool:
    """It has a place, or a request would get it one: on some pod enough may make way for it."""
    if any(map(on_its_way, model.copies.values())):
        return True
    room = service.obtainable if service.obtainable is not None else service.spec.capacity_bytes
    return model.memory is not None and model.memory <= min(room, service.spec.capacity_bytes)


def waits_for_another(world: World, model: Model, copy: Copy) -> bool:
    """It answers with an older revision of what is wanted, which another copy is loading: one follows after the other,
    so that one that is broken takes down no more than it must. One that fails where others worked holds up nobody."""
    aim = model.aim
    if (copy.storage_uri, copy.framework, copy.tuning) != (aim.storage_uri, aim.framework, aim.tuning):
        return False  # another content, by an edit
    if not copy.answers or leaving(world, model, copy):
        return False
    others = [each for each in staying(world, model) if each is not copy and each.aim_id == model.aim_id]
    proven = any(each.current for each in others)
    loading = [each for each in others if not each.current]
    return any(not proven or each.report is None or each.report.failure is None for each in loading)


def keep(world: World, model: Model) -> None:
    """Have its copies counted as what they are: kept, where there are no more than minCopies asks for, or evictable."""
    service = world.services.get(model.spec.service_key)
    least = floor(service, model) if service is not None else 0
    few = 0 < least >= len(staying(world, model))
    for copy in model.copies.values():
        pod = world.pods[copy.pod_uid]
        kept = few or pod.spec.service_key != model.spec.service_key
        if pod.ledger.keep(copy.name, kept):
            world.touch(copy.pod_uid)


def staying(world: World, model: Model) -> list[Copy]:
    """Its copies that are there, or on their way, to stay."""
    return [copy for copy in model.copies.values() if on_its_way(copy) and not leaving(world, model, copy)]


def leaving(world: World, model: Model, copy: Copy) -> bool:
    """Its pod goes, or is another InferenceService's. A lost agent lets what is loaded serve, and loads nothing."""
    pod = world.pods[copy.pod_uid]
    return pod.leaving or pod.spec.service_key != model.spec.service_key or (pod.lost and not copy.answers)


def in_motion(world: World, service: Service, now: float) -> bool:
    """Something is being loaded, unloaded, or about to be used, after which somebody may make way; O(pods)."""
    pods = (world.pods[uid] for uid in world.pods_of.get(service.spec.key, ()))
    return any(
        pod.placeable and (now < pod.awaited_until or len(pod.copies) > len(pod.lru) + len(pod.failing)) for pod in pods
    )


def awaited_until(world: World, service: Service, now: float) -> float | None:
    """When the first copies that requests waited for may make way again; None: there are none; O(pods)."""
    times = (world.pods[uid].awaited_until for uid in world.pods_of.get(service.spec.key, ()))
    return min((at for at in times if at > now), default=None)

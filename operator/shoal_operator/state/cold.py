"""Models without a copy: going cold, coming back when memory is free, and being given another try after a failure.

Nothing here is asked for by a request; see demand.py for that.
"""

from itertools import islice

from shoal_api.messages import FailureStage

from . import copies, failures, freshness, policy, probes, victims
from .agenda import Topic
from .context import Context
from .routes import refresh
from .world import Copy, Model, Pod, Service

WARM_BATCH = 64
RESERVED = 1 / 16
AGAIN = 1.0
"""Seconds after which something is looked at again that has to wait for what takes its time."""


def go(ctx: Context, service: Service, model: Model, *, used: bool) -> None:
    """No copy is wanted now. ``used``: it was in memory before, and comes back before those that never were."""
    model.target = 0
    model.refusal = None
    service.waiting.discard(model.spec.key)
    service.cold[model.spec.key] = None
    if not used:
        service.cold.move_to_end(model.spec.key, last=False)
    for copy in list(model.copies.values()):
        copies.retire(ctx, ctx.world.pods[copy.pod_uid], copy)
    if model.artifact_seen != model.spec.content or (
        model.failure is not None and model.failure.stage is FailureStage.STORAGE and model.retry_at <= ctx.now
    ):
        probes.want(ctx, service, model)
    refresh(ctx, model)


def evict(ctx: Context, service: Service, pod: Pod, model: Model, why: str, *, early: bool = False) -> None:
    """One copy makes way. ``early``: it had hardly been there."""
    copy = model.copies.get(pod.spec.uid)
    if copy is None or not policy.evictable(ctx.world, pod, copy, ctx.now):
        return
    world, stats = ctx.world, service.stats
    stats.evictions += 1
    stats.early_evictions += early
    service.evicted_at = ctx.now
    if early:
        service.pressed_at = ctx.now
    if ctx.now - model.last_used < world.timing.working_set:
        service.misses.add(1, ctx.now)
        if service.spec.autoscaled:
            ctx.review(service)
    model.decide(ctx.now, pod.spec.name, "Evicted", why)
    failed = copy.report.failure if copy.report is not None and not copy.answers else None
    if failed is not None:
        failures.back_off(world, model, ctx.now)
    copies.retire(ctx, pod, copy, evicted=True)
    left = sum(policy.on_its_way(other) for other in model.copies.values())
    model.target = min(model.target, left)
    if not left and policy.may_be_cold(service, model):
        go(ctx, service, model, used=failed is None)
    elif left < policy.wanted(service, model):
        ctx.plan_model(model)


def reserve(service: Service, pod: Pod) -> int:
    """Bytes kept free on a pod, once requests for cold models have come, so that the next need not wait for an
    eviction: for two models as large as the largest of them; none where that would be more than RESERVED of the pod."""
    most = int(pod.spec.capacity_bytes * RESERVED)
    return min(2 * service.asked_bytes, most) if 0 < service.asked_bytes <= most and service.cold else 0


def keep_room(ctx: Context, service: Service, pod: Pod) -> None:
    """Evict ahead of the next request what is least in use; nothing that was just loaded."""
    lacking = reserve(service, pod) - pod.room - max(0, pod.outgoing - pod.promised)
    if lacking <= 0:
        return
    if freshness.ask(ctx, pod):
        pod.wants_room = True  # once its agent has answered
        return
    for victim in victims.in_order(ctx.world, pod, lacking, ctx.now):
        if lacking > 0 and not victim.young:
            lacking -= victim.memory_bytes
            evict(ctx, service, pod, ctx.world.models[victim.model], "to keep room for the next request")


def warm(ctx: Context, service: Service) -> None:
    """Memory is free: have some cold models loaded, the most recently used first; the next batch follows.

    While requests for cold models evict others, what is free is left to them.
    """
    calm_at = service.evicted_at + ctx.world.timing.pressure
    if not service.cold:
        return
    if ctx.now < calm_at:
        ctx.retry_at(service, calm_at)
        return
    pods = [ctx.world.pods[uid] for uid in ctx.world.pods_of.get(service.spec.key, ())]
    room = max((pod.room - reserve(service, pod) for pod in pods if pod.placeable), default=0)
    chosen = 0
    for key in list(islice(reversed(service.cold), WARM_BATCH)):
        model = ctx.world.models[key]
        if model.memory is not None and model.memory <= room and model.failure is None:
            del service.cold[key]
            model.target = 1
            service.dirty.add(key)
            chosen += 1
    if chosen:
        ctx.plan(service)
        ctx.plan_waiting(service)


def look_again(ctx: Context) -> None:
    """Models whose time has come: unused for long enough to be unloaded, or failed long enough ago."""
    for key, topic in ctx.world.agenda.due(ctx.now):
        model = ctx.world.models.get(key)
        service = ctx.world.services.get(model.spec.service_key) if model is not None else None
        if model is None or service is None:
            continue
        if topic is Topic.IDLE:
            _idle(ctx, service, model)
        elif model.failure is not None and (model.copies or ctx.now < model.retry_at):
            if not any(policy.on_its_way(copy) for copy in model.copies.values()):
                ctx.world.agenda.put(max(model.retry_at, ctx.now + AGAIN), key, Topic.RETRY)
        elif model.failure is not None and model.memory is None:
            refresh(ctx, model)
            probes.want(ctx, service, model)
        elif model.failure is not None:
            # If there is room it is tried; if not, the next request has it tried.
            model.target = max(1, model.target)
            service.cold.pop(key, None)
            refresh(ctx, model)
            ctx.plan_model(model)


def watch_idle(ctx: Context, model: Model) -> None:
    """Look at the model again when it may have been idle for long enough."""
    if model.spec.idle_unload is not None and model.copies:
        since = max(model.last_used, *(_loaded_at(ctx, copy) for copy in model.copies.values()))
        ctx.world.agenda.put(since + model.spec.idle_unload, model.spec.key, Topic.IDLE)


def _idle(ctx: Context, service: Service, model: Model) -> None:
    idle, answering = model.spec.idle_unload, [c for c in model.copies.values() if c.answers]
    if idle is None or not answering or not policy.may_be_cold(service, model):
        return  # looked at again once it is loaded, or may be cold
    since = max(model.last_used, *(_loaded_at(ctx, copy) for copy in answering))
    busy = any(copy.in_flight for copy in answering)
    if busy or ctx.now < since + idle or policy.demanded(model, ctx.now):
        ctx.world.agenda.put(max(since + idle, ctx.now + AGAIN), model.spec.key, Topic.IDLE)
        return
    service.stats.idle_unloads += 1
    model.decide(ctx.now, "", "Unloaded", f"unused for {idle:.0f} s (spec.serving.idleUnload)")
    go(ctx, service, model, used=True)
    del service.cold[model.spec.key]  # what is idle stays out until it is asked for


def _loaded_at(ctx: Context, copy: Copy) -> float:
    return copy.loaded_at if copy.loaded_at is not None else ctx.now

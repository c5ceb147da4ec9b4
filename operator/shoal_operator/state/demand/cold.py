"""Models without a copy: going cold, coming back when memory is free, and being given another try after a failure.

Nothing here is asked for by a request; see copies/asking.py for that.
"""

from itertools import islice

from shoal_api.messages import FailureStage

from shoal_operator.state import wish
from shoal_operator.state.copies import checks, freshness, life, probes
from shoal_operator.state.copies.routes import refresh
from shoal_operator.state.demand import victims
from shoal_operator.state.world.agenda import Topic
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import NEVER, Copy, Model, Pod, Service
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import ModelKey

WARM_BATCH = 64
WARM_LOOKS = 1_000
"""Of the most recently used, so many are looked at for those that fit what is free."""
RESERVED = 1 / 16
AGAIN = 1.0
"""Seconds after which something is looked at again that has to wait for what takes its time."""


def go(ctx: Context, service: Service, model: Model, *, used: bool) -> None:
    """No copy is wanted now. ``used``: it was in memory before, and comes back before those that never were."""
    wish.cool(service, model, used=used)
    if model.failure is not None and model.retry_at == NEVER:
        wish.back_off(ctx.world, model, ctx.now)  # nobody tries any more, as its pod went: somebody is to, later
    for copy in list(model.copies.values()):
        life.retire(ctx, ctx.world.pods[copy.pod_uid], copy)
    # Of what was found loaded after a restart, nobody may have said the size.
    if (
        model.memory is None
        or model.artifact_seen != model.spec.content
        or (model.failure is not None and model.failure.stage is FailureStage.STORAGE and model.retry_at <= ctx.now)
    ):
        probes.look_up(ctx, service, model)
    refresh(ctx, model)


def evict(ctx: Context, service: Service, pod: Pod, model: Model, why: str, *, early: bool = False) -> None:
    """One copy makes way. ``early``: it had hardly been there."""
    copy = model.copies.get(pod.spec.uid)
    if copy is None or not wish.evictable(ctx.world, pod, copy, ctx.now):
        return
    world, stats = ctx.world, service.stats
    if copy.loaded_at is not None:  # one that only failed holds nothing that could be unloaded
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
        wish.back_off(world, model, ctx.now)
    life.retire(ctx, pod, copy, evicted=True)
    left = sum(wish.on_its_way(other) for other in model.copies.values())
    wish.evicted(model, left)
    if not left:  # else as many are left as are kept, or it could not have been evicted
        go(ctx, service, model, used=failed is None)


def reserve(service: Service, pod: Pod) -> int:
    """Bytes kept free on a pod, once requests for cold models have come, so that the next need not wait for an
    eviction: for two models as large as the largest of them; none where that would be more than RESERVED of the pod."""
    most = int(pod.spec.capacity_bytes * RESERVED)
    return min(2 * service.asked_bytes, most) if 0 < service.asked_bytes <= most and service.cold else 0


def keep_room(ctx: Context, service: Service, pod: Pod) -> None:
    """Evict ahead of the next request what is least in use; nothing that was just loaded."""
    lacking = reserve(service, pod) - pod.room - pod.ledger.unclaimed
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
    if service.rest.phase is not Phase.UP:
        return  # once there are pods again
    calm_at = service.evicted_at + ctx.world.timing.pressure
    if not service.cold:
        return
    if ctx.now < calm_at:
        ctx.retry_at(service, calm_at)
        return
    pods = [ctx.world.pods[uid] for uid in ctx.world.pods_of.get(service.spec.key, ())]
    room = max((pod.room - reserve(service, pod) for pod in pods if pod.placeable), default=0)
    chosen: list[ModelKey] = []
    if room < service.sizes.smallest():
        return
    for key in list(islice(reversed(service.cold), WARM_LOOKS)):
        model = ctx.world.models[key]
        if len(chosen) == WARM_BATCH:
            break
        if model.memory is not None and model.memory <= room and (model.failure is None or model.fallback):
            wish.want(service, model)
            chosen.append(key)
    if chosen:
        ctx.plan_later(service, chosen)
        ctx.plan(service)
        ctx.offer_memory(service)


def review_due(ctx: Context) -> None:
    """Models that are due on the agenda: unused for long enough to be unloaded, or failed long enough ago."""
    agenda = ctx.world.agenda
    while agenda.is_due(ctx.now) and ctx.world.pieces.spend() and (due := agenda.due(ctx.now)) is not None:
        key, topic = due
        model = ctx.world.models.get(key)
        service = ctx.world.services.get(model.spec.service_key) if model is not None else None
        if model is None or service is None:
            continue
        if topic is Topic.IDLE:
            _idle(ctx, service, model)
            continue
        if topic is Topic.UNUSED:
            ctx.settle_later(model)
            continue
        if topic is Topic.CHECK:
            _check(ctx, model)
            continue
        if wish.choose_content(ctx, model):
            refresh(ctx, model)
        if model.fallback:
            if model.failure is not None and wish.lacks_any(service, model):
                ctx.world.agenda.put(ctx.now + ctx.world.timing.failure_first, key, Topic.RETRY)
            elif model.failure is not None and (model.retry_at > ctx.now or wish.asked(model, ctx.now)):
                ctx.world.agenda.put(max(model.retry_at, ctx.now + AGAIN), key, Topic.RETRY)
        elif model.failure is not None and (model.copies or ctx.now < model.retry_at):
            if not any(wish.on_its_way(copy) for copy in model.copies.values()):
                ctx.world.agenda.put(max(model.retry_at, ctx.now + AGAIN), key, Topic.RETRY)
        elif wish.left_alone(ctx.world, model, ctx.now):
            refresh(ctx, model)  # the next request has it tried
        elif model.failure is not None and not service.usable:
            ctx.world.agenda.put(ctx.now + ctx.world.timing.failure_first, key, Topic.RETRY)
        elif model.failure is not None and model.memory is None:
            refresh(ctx, model)
            probes.look_up(ctx, service, model)
        elif model.failure is not None:
            # If there is room it is tried; if not, the next request has it tried.
            wish.want(service, model)
            refresh(ctx, model)
            ctx.plan_model(model)


def _check(ctx: Context, model: Model) -> None:
    """One that is not loaded is looked at when it is."""
    if any(copy.answers for copy in model.copies.values()):
        checks.order(ctx, model.spec.key)
        checks.watch(ctx, model)


def tried_in_vain(ctx: Context, service: Service, model: Model) -> None:
    """What the spec names does not load yet: who unloads what is idle wants nothing else in its place before a request
    comes."""
    nobody = not wish.asked(model, ctx.now) and not any(copy.answers for copy in model.copies.values())
    if model.fallback and nobody and model.spec.idle_unload is not None and wish.may_be_cold(service, model):
        go(ctx, service, model, used=False)
        wish.rest(service, model)


def watch_idle(ctx: Context, model: Model) -> None:
    """Look at the model again when it may have been idle for long enough."""
    if model.spec.idle_unload is not None and model.copies:
        since = max(model.last_used, *(_loaded_at(ctx, copy) for copy in model.copies.values()))
        ctx.world.agenda.put(since + model.spec.idle_unload, model.spec.key, Topic.IDLE)


def _idle(ctx: Context, service: Service, model: Model) -> None:
    idle, answering = model.spec.idle_unload, [c for c in model.copies.values() if c.answers]
    if idle is None or not answering or not wish.may_be_cold(service, model):
        return  # looked at again once it is loaded, or may be cold
    since = max(model.last_used, *(_loaded_at(ctx, copy) for copy in answering))
    busy = any(copy.in_flight for copy in answering)
    if busy or ctx.now < since + idle or wish.asked(model, ctx.now):
        ctx.world.agenda.put(max(since + idle, ctx.now + AGAIN), model.spec.key, Topic.IDLE)
        return
    service.stats.idle_unloads += 1
    model.decide(ctx.now, "", "Unloaded", f"unused for {idle:.0f} s (spec.serving.idleUnload)")
    go(ctx, service, model, used=True)
    wish.rest(service, model)  # also when memory is free


def _loaded_at(ctx: Context, copy: Copy) -> float:
    return copy.loaded_at if copy.loaded_at is not None else ctx.now

"""Between state and placement: what there is to plan, and carrying a plan out."""

import math
from itertools import islice

from . import cold, copies, policy, probes, use, victims
from .context import Context
from .routes import refresh
from .values import CopyAt, ModelKey, ModelNeed, Placement, Plan, PlanInput, PodOffer, Refusal, ServiceKey
from .world import Copy, Model, Pod, Service, World

MAX_MODELS = 500
"""Models that one plan looks at: some 30 ms, in which nothing else happens."""
_NOWHERE: frozenset[str] = frozenset()


def plan_input(world: World, key: ServiceKey, now: float) -> PlanInput | None:
    """What placement has to decide for one service now; None when there is no such service.

    Costs O(pods + models to plan), of these at most MAX_MODELS; all models only when load is to be evened out.
    """
    service = world.services.get(key)
    if service is None:
        return None
    pods = [world.pods[uid] for uid in sorted(world.pods_of.get(key, ()))]
    keys = world.models_of.get(key, set()) if service.balance else _batch(service)
    occupied = [pod for pod in pods if pod.occupied]
    models = [world.models[k] for k in sorted(keys) if k in world.models]
    needs = [_need(world, service, model, occupied, now) for model in models if plannable(service, model)]
    for_requests = sum(need.memory_bytes for need in needs if _finite(need.evict_idle))
    return PlanInput(
        service=key,
        pods=tuple(_offer(world, pod, for_requests, now) for pod in pods),
        needs=tuple(needs),
        balance=service.balance,
    )


def _batch(service: Service) -> list[ModelKey]:
    """What the next plan looks at, and by that takes out of ``dirty``: the same until something changes."""
    return list(islice(service.dirty, MAX_MODELS))


def offers(world: World, key: ModelKey, now: float) -> tuple[ModelNeed, tuple[PodOffer, ...]] | None:
    """One model and all pods of its service, as a plan would see them; None when there is no such model or service."""
    model = world.models.get(key)
    service = world.services.get(model.spec.service_key) if model is not None else None
    if model is None or service is None:
        return None
    pods = [world.pods[uid] for uid in sorted(world.pods_of.get(model.spec.service_key, ()))]
    need = _need(world, service, model, pods, now)
    return need, tuple(_offer(world, pod, 0, now) for pod in pods)


def _finite(evict_idle: float | None) -> bool:
    return evict_idle is not None and evict_idle < math.inf


def plannable(service: Service, model: Model) -> bool:
    """Some runtime of the service could load the model, its spec can be used, and its memory is known."""
    return (
        service.spec.problem is None
        and model.spec.problem is None
        and model.spec.framework.lower() in service.spec.formats
        and model.memory is not None
    )


def carry_out(ctx: Context, plan: Plan) -> None:
    """Apply a plan, checking each decision against the world as it is now."""
    world = ctx.world
    service = world.services.get(plan.service)
    if service is None:
        return
    service.plan_requested = False
    if service.balance:
        service.balance = False
        service.dirty.clear()
    service.dirty.difference_update(_batch(service))
    for eviction in plan.evict:
        found = _find(world, eviction.model, eviction.pod_uid)
        if found is not None:
            why = f"to make room for {eviction.by.name}"
            cold.evict(ctx, service, found[1], found[0], why, early=eviction.early)
    for placement in plan.retire:
        found = _find(world, placement.model, placement.pod_uid)
        if found is not None and placement.pod_uid in found[0].copies:
            copies.retire(ctx, found[1], found[0].copies[placement.pod_uid])
    for placement in plan.replace:
        found = _find(world, placement.model, placement.pod_uid)
        if found is not None and placement.pod_uid in found[0].copies:
            copies.replace(ctx, *found, found[0].copies[placement.pod_uid])
    asked = [_add(ctx, service, placement) for placement in plan.add]
    service.stats.moves += plan.moves
    for key in plan.considered:
        model = world.models.get(key)
        if model is not None:
            _answer(ctx, service, model, plan.refused.get(key))
    for uid in world.pods_of.get(plan.service, ()):
        copies.release_held(ctx, world.pods[uid])  # gives up what nothing made room for after all
    for pod in asked:
        if pod is not None:
            cold.keep_room(ctx, service, pod)
    if service.dirty:
        ctx.plan(service)  # the next batch
    if plan.unbalanced:
        service.balance = True
        ctx.retry_at(service, ctx.now + 1.0)


def _add(ctx: Context, service: Service, placement: Placement) -> Pod | None:
    """Place a copy; returns its pod if a request waits for it."""
    found = _find(ctx.world, placement.model, placement.pod_uid)
    if found is None or not found[1].placeable or placement.model.name in found[1].copies:
        return None
    model, pod = found
    if any(ctx.world.pods[uid].leaving for uid in model.copies):
        service.stats.moves += 1
    probes.end(ctx, model)
    service.cold.pop(model.spec.key, None)
    model.target = max(1, model.target)  # the same plan may have evicted the copy that this one was to replace
    copy = copies.place(ctx, model, pod)
    if not policy.demanded(model, ctx.now):
        return None
    # Of the largest model lately: one that was asked for once is forgotten after some dozen others.
    service.asked_bytes = max(copy.memory, int(service.asked_bytes * 0.95))
    return pod


def _answer(ctx: Context, service: Service, model: Model, refusal: Refusal | None) -> None:
    """What follows for a model that was looked at: it waits for room, is cold, or has what it wanted."""
    key = model.spec.key
    if refusal is None:
        service.waiting.discard(key)
    elif _must(ctx, service, model):
        service.waiting.add(key)
        service.cold.pop(key, None)
        if service.spec.autoscaled:
            ctx.review(service)
        if policy.may_be_cold(service, model) and policy.in_motion(ctx.world, service):
            refusal = None  # a request waits with it for what is on its way: it is not refused yet
    elif policy.staying(ctx.world, model):
        # One more copy, or an update, finds no room: what serves goes on.
        outdated = any((copy.want, copy.memory) != (model.want, model.memory) for copy in model.copies.values())
        held = max(1, len(model.copies))
        if model.target > held:
            service.stats.copies_added -= model.target - held
            model.target, model.crowded_until = held, ctx.now + ctx.world.timing.hot_idle
        if outdated:
            service.waiting.add(key)
        else:
            refusal = None
    else:
        cold.go(ctx, service, model, used=any(copy.answers for copy in model.copies.values()))
        return
    if refusal != model.refusal:
        model.refusal = refusal
        refresh(ctx, model)


def _must(ctx: Context, service: Service, model: Model) -> bool:
    """Copies are kept, or a request waits."""
    staying = len(policy.staying(ctx.world, model))
    return staying < policy.floor(service, model) or policy.demanded(model, ctx.now)


def retry(ctx: Context) -> None:
    """Plan again for models that were refused, and services that are not balanced yet."""
    world = ctx.world
    for key in list(world.retrying):
        service = world.services.get(key)
        if service is None or service.retry_at is None:
            world.retrying.discard(key)
        elif ctx.now >= service.retry_at:
            service.retry_at = None
            world.retrying.discard(key)
            service.dirty |= service.waiting
            if service.dirty or service.balance:
                ctx.plan(service)
            cold.warm(ctx, service)


def _find(world: World, key: ModelKey, pod_uid: str) -> tuple[Model, Pod] | None:
    model, pod = world.models.get(key), world.pods.get(pod_uid)
    return (model, pod) if model is not None and pod is not None else None


def _offer(world: World, pod: Pod, for_requests: int, now: float) -> PodOffer:
    return PodOffer(
        uid=pod.spec.uid,
        name=pod.spec.name,
        node=pod.spec.node,
        zone=pod.spec.zone,
        capacity=pod.spec.capacity_bytes,
        committed=pod.spec.capacity_bytes - pod.room,
        copies=len(pod.copies),
        server_ready=pod.serves,
        agent_connected=pod.connected,
        leaving=pod.leaving,
        outgoing=max(0, pod.outgoing - pod.promised),
        victims=tuple(victims.in_order(world, pod, for_requests, now)),
        rate=pod.rate.at(now),
    )


def _need(world: World, service: Service, model: Model, pods: list[Pod], now: float) -> ModelNeed:
    """``pods``: those with slots whose copy is on its way out."""
    spec = model.spec
    return ModelNeed(
        key=spec.key,
        memory_bytes=model.memory or 0,
        wanted=policy.wanted(service, model),
        copies=tuple(_copy_at(world, model, copy) for copy in model.copies.values() if policy.on_its_way(copy)),
        occupied=frozenset(pod.spec.uid for pod in pods if spec.name in pod.occupied) if pods else _NOWHERE,
        evict_idle=policy.right_to_evict(world, service, model, now),
        asked_at=model.asked_at if policy.demanded(model, now) else math.inf,
        rate=use.rate(model, now),
    )


def _growth(model: Model, copy: Copy, *, sized: bool, taken_back: bool) -> int:
    """``CopyAt.growth``: for another content that and the former one, with the memory that the model declares now."""
    if copy.want != model.want and not taken_back:
        return copies.growth_of_update(model, copy)
    return 0 if sized and not taken_back else copies.growth(model, copy)


def _copy_at(world: World, model: Model, copy: Copy) -> CopyAt:
    pod = world.pods[copy.pod_uid]
    sized = copy.want != model.want or copy.memory == model.memory
    taken_back = copy.want != model.want and copy.serving == model.want
    return CopyAt(
        pod_uid=copy.pod_uid,
        answers=copy.answers and pod.serves,
        current=copy.want == model.want and sized,
        loaded=copy.serving == model.want and sized and pod.serves,
        leaving=policy.leaving(world, model, copy),
        failed=copy.report is not None and copy.report.failure is not None,
        growth=_growth(model, copy, sized=sized, taken_back=taken_back),
    )

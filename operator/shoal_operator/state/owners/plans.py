"""Between state and placement: what there is to plan, and carrying a plan out."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from operator import attrgetter

from shoal_operator.state import wish
from shoal_operator.state.copies import life, probes
from shoal_operator.state.copies.routes import refresh
from shoal_operator.state.demand import candidates, cold, use, victims
from shoal_operator.state.owners import evening_out
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import Copy, Model, Pod, Service, World
from shoal_operator.state.world.values import (
    CopyAt,
    ModelKey,
    ModelNeed,
    Placement,
    Plan,
    PlanInput,
    PodOffer,
    Refusal,
    ServiceKey,
    Victim,
)

EVERY = 24
"""Pods of a service that is small enough for every plan to look at all of them."""
ASKED = 16
"""Models that a request waits for, of which one plan is made: with few the decision looks at few pods."""
BUDGET = 100
"""What one plan may cost, in tenths of a millisecond: a model that only needs room is one."""
EVICTING = 3
"""More for one that others may have to make way for,"""
SEARCHING = 1 / 40
"""and more by pod for one that is not the same to every pod with room."""


def plan_input(world: World, key: ServiceKey, now: float, *, everything: bool = False) -> PlanInput | None:
    """What placement has to decide for one service now; None when there is no such service.

    Costs O(log pods) for each of a few models, else O(pods); never O(models). ``everything``: look at all pods and all
    copies that may make way, which must come to the same.
    """
    service = world.services.get(key)
    if service is None:
        return None
    own, order = world.pods_of.get(key, ()), candidates.standings(world, key)
    batch, needs = _batch(world, service, now)
    in_flight = 0
    if service.balance:
        moving, in_flight = evening_out.candidates(world, service)
        known = {need.key for need in needs}
        more = [model for model in moving if model.spec.key not in known and wish.plannable(service, model)]
        needs += [_need(world, service, model, now) for model in more]
    if everything or len(own) <= EVERY:
        evicting = {need.key: need.memory_bytes for need in needs if candidates.may_evict(need)}
        wanted, uids = sum(evicting.values()), sorted(own)
        making_way = {uid: tuple(victims.in_order(world, world.pods[uid], wanted, now, evicting)) for uid in uids}
    else:
        making_way = candidates.making_way(world, order, needs, now)
        many = len(own) <= 2 * (len(needs) + candidates.SPARE)
        choosy = service.balance or many or not len(order) or not all(map(candidates.anywhere, needs))
        uids = sorted(own if choosy else candidates.few(order, needs) | making_way.keys())
    pods = [world.pods[uid] for uid in uids if uid in world.pods]
    return PlanInput(
        service=key,
        pods=tuple(_offer(pod, making_way.get(pod.spec.uid, ()), now) for pod in pods),
        needs=_with_occupied(sorted(needs, key=attrgetter("key")), pods),
        balance=service.balance,
        batch=batch,
        in_flight=in_flight,
    )


def _batch(world: World, service: Service, now: float) -> tuple[tuple[ModelKey, ...], list[ModelNeed]]:
    """What the next plan takes out of ``dirty``: those that requests wait for, if there are any, else what it can."""
    asked = list(islice(service.dirty.asked, ASKED))
    taken: list[ModelKey] = []
    needs: list[ModelNeed] = []
    budget: float = BUDGET
    pods = len(world.pods_of.get(service.spec.key, ()))
    for key in asked or service.dirty:
        if budget <= 0:
            break
        budget -= 1
        taken.append(key)
        model = world.models.get(key)
        if model is None or not wish.plannable(service, model) or wish.left_alone(world, model, now):
            continue
        need = _need(world, service, model, now)
        needs.append(need)
        budget -= EVICTING if candidates.may_evict(need) else 0
        budget -= 0 if candidates.anywhere(need) else pods * SEARCHING
    return tuple(taken), needs


def offers(world: World, key: ModelKey, now: float) -> tuple[ModelNeed, tuple[PodOffer, ...]] | None:
    """One model and all pods of its service, as a plan would see them; None when there is no such model or service."""
    model = world.models.get(key)
    service = world.services.get(model.spec.service_key) if model is not None else None
    if model is None or service is None:
        return None
    pods = [world.pods[uid] for uid in sorted(world.pods_of.get(model.spec.service_key, ()))]
    need, *_ = _with_occupied([_need(world, service, model, now)], pods)
    return need, tuple(_offer(pod, (), now) for pod in pods)


def carry_out(ctx: Context, plan: Plan) -> None:
    """Apply a plan, checking each decision against the world as it is now."""
    world = ctx.world
    service = world.services.get(plan.service)
    if service is None:
        return
    service.balance = False
    ctx.planned(service, plan.batch)
    for eviction in plan.evict:
        found = _find(world, eviction.model, eviction.pod_uid)
        if found is not None:
            why = f"to make room for {eviction.by.name}"
            cold.evict(ctx, service, found[1], found[0], why, early=eviction.early)
    for placement in plan.retire:
        found = _find(world, placement.model, placement.pod_uid)
        if found is not None and placement.pod_uid in found[0].copies:
            life.retire(ctx, found[1], found[0].copies[placement.pod_uid])
    for placement in plan.replace:
        found = _find(world, placement.model, placement.pod_uid)
        if found is not None and placement.pod_uid in found[0].copies:
            _replace(ctx, *found)
    asked = [_add(ctx, service, placement) for placement in plan.add]
    service.stats.moves += plan.moves
    if plan.moves:
        service.evening_out.update(dict.fromkeys(placement.model for placement in plan.add[-plan.moves :]))
    in_motion = cache(partial(wish.in_motion, world, service, ctx.now))
    for key in plan.models:
        model = world.models.get(key)
        if model is not None:
            _answer(ctx, service, model, plan.refused.get(key), in_motion)
    _try_again(ctx, service, plan)
    for uid in dict.fromkeys([*(each.pod_uid for each in plan.evict), *(each.pod_uid for each in plan.add)]):
        if uid in world.pods:
            life.grant_promised(ctx, world.pods[uid])  # gives up what nothing made room for after all
    for pod in asked:
        if pod is not None:
            cold.keep_room(ctx, service, pod)
    if service.dirty:
        ctx.plan(service)  # the next batch
    if plan.unbalanced:
        service.balance = True
        ctx.retry_at(service, ctx.now + 1.0)


def _replace(ctx: Context, model: Model, pod: Pod) -> None:
    """Have the pod's copy load what its model wants now, or go on with it where it was taken back."""
    copy = model.copies[pod.spec.uid]
    if copy.aim_id != model.aim_id and wish.waits_for_another(ctx.world, model, copy):
        return  # planned again once that one has loaded
    life.replace(ctx, model, pod, copy)
    use.answers_again(ctx, pod, copy, model)
    if model.fallback:
        refresh(ctx, model)


def _add(ctx: Context, service: Service, placement: Placement) -> Pod | None:
    """Place a copy; returns its pod if a request waits for it."""
    found = _find(ctx.world, placement.model, placement.pod_uid)
    if found is None or not found[1].placeable or placement.model.name in found[1].copies:
        return None
    model, pod = found
    if any(ctx.world.pods[uid].leaving for uid in model.copies):
        service.stats.moves += 1
    probes.end(ctx, model)
    wish.want(service, model)  # the same plan may have evicted the copy that this one was to replace
    copy = life.place(ctx, model, pod)
    if model.fallback:
        refresh(ctx, model)  # what was last good comes back, whatever became of what the spec names
    if not wish.asked(model, ctx.now):
        return None
    # Of the largest model lately: one that was asked for once is forgotten after some dozen others.
    service.asked_bytes = max(copy.memory, int(service.asked_bytes * 0.95))
    return pod


def _answer(
    ctx: Context, service: Service, model: Model, refusal: Refusal | None, in_motion: Callable[[], bool]
) -> None:
    """What follows for a model that was looked at: it waits for room, is cold, or has what it wanted.

    ``in_motion``: of the service, asked for when it matters.
    """
    if refusal is None and service.rest.resting and not model.copies and not wish.asked(model, ctx.now):
        cold.go(ctx, service, model, used=False)
        return
    if refusal is None:
        changed = wish.admit(service, model)
    elif _must(ctx, service, model):
        if service.spec.autoscaled:
            ctx.review(service)
        if wish.may_be_cold(service, model) and in_motion():
            refusal = None  # a request waits with it for what is on its way: it is not refused yet
        changed = wish.refuse(service, model, refusal)
    elif wish.staying(ctx.world, model):
        # One more copy, or an update, finds no room: what serves goes on.
        outdated = any((copy.aim_id, copy.memory) != (model.aim_id, model.memory) for copy in model.copies.values())
        there = max(1, len(model.copies))
        if model.target > there:
            service.stats.copies_added -= model.target - there
            wish.crowd(model, there, ctx.now + ctx.world.timing.hot_idle)
        changed = wish.refuse(service, model, refusal) if outdated else wish.admit(service, model)
    else:
        cold.go(ctx, service, model, used=any(copy.answers for copy in model.copies.values()))
        if service.spec.autoscaled and not wish.finds_room(service, model):
            ctx.review(service)  # a pod more is what it lacks
        return
    if changed:
        refresh(ctx, model)


def _try_again(ctx: Context, service: Service, plan: Plan) -> None:
    """Plan again for those who were refused when time alone lets others make way: the requests for these have come, or
    they have been beside an update's old content for long enough."""
    waiting = [ctx.world.models[key] for key in plan.refused if key in service.refused]
    if not waiting:
        return
    keys = {model.spec.key for model in waiting}
    beside = {uid for model in waiting for uid, copy in model.copies.items() if copy.answers}
    pods = [ctx.world.pods[uid] for uid in sorted(beside)]
    times = [wish.awaited_until(ctx.world, service, ctx.now)]
    times += [victims.next_of_age(ctx.world, pod, ctx.now, keys) for pod in pods]
    at = min((at for at in times if at is not None), default=None)
    if at is not None:
        ctx.retry_at(service, at)


def _must(ctx: Context, service: Service, model: Model) -> bool:
    """Copies are kept, or a request waits."""
    staying = len(wish.staying(ctx.world, model))
    return staying < wish.floor(service, model) or wish.asked(model, ctx.now)


def retry(ctx: Context) -> None:
    """Plan again for models that were refused, and services that are not balanced yet.

    What minCopies keeps comes with those that requests wait for: these would have each other's place in turn for ever.
    """
    for service in ctx.retries():
        ctx.plan_later(service, service.refused)
        ctx.plan_later(service, islice(_kept_first(ctx, service), ASKED // 2), asked=True)
        ctx.plan_later(service, [key for key in ctx.world.asked if key in service.refused], asked=True)
        if service.dirty or service.balance:
            ctx.plan(service)
        cold.warm(ctx, service)


def _kept_first(ctx: Context, service: Service) -> Iterator[ModelKey]:
    """Those of the refused that ``wish.before_requests`` is true of: of a strict service none."""
    if service.spec.strict:
        return iter(())
    models = (ctx.world.models.get(key) for key in list(service.refused))
    return (model.spec.key for model in models if model and wish.before_requests(ctx.world, service, model))


def _find(world: World, key: ModelKey, pod_uid: str) -> tuple[Model, Pod] | None:
    model, pod = world.models.get(key), world.pods.get(pod_uid)
    return (model, pod) if model is not None and pod is not None else None


def _offer(pod: Pod, making_way: tuple[Victim, ...], now: float) -> PodOffer:
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
        outgoing=pod.ledger.unclaimed,
        victims=making_way,
        rate=pod.rate.at(now),
    )


def _with_occupied(needs: Iterable[ModelNeed], pods: Iterable[Pod]) -> tuple[ModelNeed, ...]:
    """The needs with those of the pods where their names are still taken by what is on its way out."""
    leaving = [pod for pod in pods if pod.occupied]
    if not leaving:
        return tuple(needs)
    return tuple(
        replace(need, occupied=frozenset(taken)) if taken else need
        for need in needs
        for taken in [[pod.spec.uid for pod in leaving if need.key.name in pod.occupied]]
    )


def _need(world: World, service: Service, model: Model, now: float) -> ModelNeed:
    spec = model.spec
    return ModelNeed(
        key=spec.key,
        memory_bytes=model.memory or 0,
        wanted=wish.copies_wanted(service, model),
        copies=tuple(_copy_at(world, model, copy) for copy in model.copies.values() if wish.on_its_way(copy)),
        evict_idle=wish.right_to_evict(world, service, model, now),
        asked_at=_asked_at(world, service, model, now),
        rate=use.rate(model, now),
    )


def _asked_at(world: World, service: Service, model: Model, now: float) -> float:
    if wish.before_requests(world, service, model):
        return -math.inf
    return model.asked_at if wish.asked(model, now) else math.inf


def _copy_at(world: World, model: Model, copy: Copy) -> CopyAt:
    pod = world.pods[copy.pod_uid]
    sized = copy.aim_id != model.aim_id or copy.memory == model.memory
    current = copy.aim_id == model.aim_id and sized
    return CopyAt(
        pod_uid=copy.pod_uid,
        answers=copy.answers and pod.serves,
        current=current,
        loaded=copy.serving == model.aim_id and sized and pod.serves,
        leaving=wish.leaving(world, model, copy),
        failed=copy.report is not None and copy.report.failure is not None,
        growth=0 if current else life.growth(model, pod, copy),
    )

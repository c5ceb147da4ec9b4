"""How much models are used, by their agents' counts: who was used least recently, and who deserves more copies."""

import math

from shoal_api.messages import ModelUse

from shoal_operator.state import wish
from shoal_operator.state.copies import freshness, memory, recency
from shoal_operator.state.demand import cold
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import Copy, Model, Pod, Service, World
from shoal_operator.state.world.report import AgentReport
from shoal_operator.state.world.values import ModelKey

FAIR_PART = 0.5
"""A copy may draw this part of a pod's fair share of its service's requests before its model gets another one."""
GROW, SHRINK = 1.2, 0.7
"""Copies are added when so much more would be justified, removed when so much less is: between, nothing moves."""


REPORT_SECONDS = 5.0
REPORT_SECONDS_COLD = 1.0
"""How often agents tell of use: closely where models are cold, since the least recently used make way for them."""


def report_seconds(world: World, pod_uid: str) -> float:
    """How often the pod's agent should tell what was used."""
    pod = world.pods.get(pod_uid)
    service = world.services.get(pod.spec.service_key) if pod is not None else None
    return REPORT_SECONDS_COLD if service is not None and service.cold else REPORT_SECONDS


def apply(ctx: Context, pod: Pod, request: AgentReport) -> None:
    """Take in what a pod's agent counted since it was last heard."""
    service = ctx.world.services.get(pod.spec.service_key)
    # The longest unused first: each goes to the end of the list in turn.
    for use in sorted(request.use, key=lambda use: -use.idle_seconds):
        copy = pod.copies.get(use.name)
        model = ctx.model(ModelKey(pod.spec.namespace, use.name), copy.uid) if copy is not None else None
        if copy is None or model is None:
            continue
        begun = _count(ctx, pod, service, copy, use)
        at = ctx.now - use.idle_seconds
        if use.requests and at > model.last_used:
            recency.use(ctx.world, model, at, [pod])
        if begun and service is not None:
            review_model(ctx, service, model)
    freshness.told(ctx, pod)
    if pod.wants_room and service is not None:
        pod.wants_room = False
        cold.keep_room(ctx, service, pod)


def _count(ctx: Context, pod: Pod, service: Service | None, copy: Copy, use: ModelUse) -> int:
    """Requests begun since the last report. Totals start again with each process of the server."""
    known = copy.requests is not None
    again = known and use.requests < (copy.requests or 0)
    begun = (use.requests if again else use.requests - (copy.requests or 0)) if known else 0
    busy = (use.busy_seconds if again else use.busy_seconds - copy.busy_seconds) if known else 0.0
    copy.requests, copy.busy_seconds, copy.in_flight = use.requests, use.busy_seconds, use.in_flight
    copy.rate.add(begun, ctx.now)
    pod.rate.add(begun, ctx.now)
    if service is not None and (begun or use.in_flight):
        service.rest.use(ctx.now)
    if service is not None and (begun or busy > 0):
        service.rate.add(begun, ctx.now)
        service.concurrency.add(max(0.0, busy), ctx.now)
        ctx.review(service)
    return begun


def rate(model: Model, now: float) -> float:
    """Requests a second, of all its copies."""
    return sum(copy.rate.at(now) for copy in model.copies.values())


def review_model(ctx: Context, service: Service, model: Model, pods: int | None = None) -> None:
    """More copies for a model that draws too much of its pods' share, fewer for one that no longer does.

    ``pods``: how many take models, if that is known."""
    world, now, least = ctx.world, ctx.now, max(1, wish.floor(service, model))
    mine, all_of_it = rate(model, now), service.rate.at(now)
    if mine < world.timing.hot_rate and model.target <= least:
        wish.scale(service, model, model.target, least)
        return  # as most are: nothing more to be done for them
    there = sum(wish.on_its_way(copy) for copy in model.copies.values())
    if not any(copy.current for copy in model.copies.values()):
        wish.scale(service, model, min(model.target, least), least)  # what it was before, once it answers again
        return
    pods = _placeable(world, service) if pods is None else pods
    share = FAIR_PART * all_of_it / pods if pods else 0.0
    due = mine / share if share and mine >= world.timing.hot_rate else 0.0
    most = min(pods, model.spec.max_copies or pods)
    target = model.target
    if due > there * GROW and there < most:
        if now < model.crowded_until:
            return  # there was no room for one more
        target = min(most, math.ceil(due))
        service.stats.copies_added += max(0, target - max(there, model.target))
        model.decide(now, "", "Copied", f"{mine:.0f} of the {all_of_it:.0f} requests a second: {target} copies")
    elif target > least and due < (target - 1) * SHRINK:
        target = max(least, math.ceil(due / SHRINK), 1)
        service.stats.copies_removed += model.target - target
        model.decide(now, "", "Reduced", f"{mine:.0f} of the {all_of_it:.0f} requests a second: {target} copies")
    if wish.scale(service, model, target, least):
        ctx.plan_model(model)


def review(ctx: Context, service: Service) -> bool:
    """Review the hot models, also those that nobody uses any more. True: there are some left."""
    pods = _placeable(ctx.world, service) if service.hot else 0
    for key in list(service.hot):
        model = ctx.world.models.get(key)
        if model is None or model.spec.service_key != service.spec.key or model.target <= 1:
            wish.cools_down(service, key)
        else:
            review_model(ctx, service, model, pods)
    return bool(service.hot)


def _placeable(world: World, service: Service) -> int:
    """Pods of the service that take models."""
    return sum(world.pods[uid].placeable for uid in world.pods_of.get(service.spec.key, ()))


def loaded(ctx: Context, pod: Pod, copy: Copy, model: Model) -> None:
    """The copy answers from now on. It was loaded for a request, or waits to be used."""
    copy.loaded_at = ctx.now
    copy.requests = copy.in_flight = 0
    recency.answers(pod, copy.name, unused=model.last_used < ctx.now - ctx.world.timing.residency)
    cold.watch_idle(ctx, model)


def goes_on(ctx: Context, pod: Pod, copy: Copy, model: Model, since: float) -> None:
    """The copy answers, as it has since then; what it has counted until now is somebody else's."""
    loaded(ctx, pod, copy, model)
    copy.loaded_at = since
    copy.requests = None


def answers_again(ctx: Context, pod: Pod, copy: Copy, model: Model) -> None:
    """An update was taken back: what the copy answers with all the while is wanted again, and may make way again."""
    if copy.current and copy.name not in pod.lru and copy.name not in pod.occupied:
        loaded_at = copy.loaded_at
        memory.count(pod, copy, model)
        goes_on(ctx, pod, copy, model, ctx.now if loaded_at is None else loaded_at)

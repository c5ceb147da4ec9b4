"""``step(world, event, now) -> effects``: the only code that changes the world, one event at a time."""

from typing import Any

from shoal_operator.state.copies import asking, checks, freshness, life, probes, routes
from shoal_operator.state.demand import cold, resting, room, scaling, use
from shoal_operator.state.owners import models, plans, services, unregistered
from shoal_operator.state.pods import health, moves, recovery, reports
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import DesiredChanged, Effect, WakeAt
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.events import (
    AgentLost,
    AgentReported,
    EpochClaimed,
    Event,
    GatewayAcknowledged,
    Listed,
    ModelGone,
    ModelSeen,
    Planned,
    PodGone,
    PodReached,
    PodSeen,
    Proceed,
    Reachable,
    Requested,
    ServiceGone,
    ServiceSeen,
    StoreLoaded,
    Tick,
)
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.values import ServiceKey, ServiceSpec


def step(world: World, event: Event, now: float) -> list[Effect]:
    """Apply one event at ``now`` (monotonic seconds) and return what the edges must do, in order.

    Never raises: what does is said as ``Failed``, and all else goes on.
    """
    ctx = Context(world, now)
    world.pieces.new_step()
    match event:
        case AgentReported(request):
            world.touch(request.pod_uid)
        case PodSeen(pod_spec):
            world.touch(pod_spec.uid)
        case PodGone(uid) | AgentLost(uid) | PodReached(uid):
            world.touch(uid)
    with ctx.contained(type(event).__name__, _concerned(world, event)):
        _apply(ctx, event)
    with ctx.contained("recovery"):
        recovery.advance(ctx)
    if not world.recovering:
        _pass_time(ctx)
        unregistered.settle(ctx)
    with ctx.contained("room"):
        room.look(ctx)
    with ctx.contained("next wake"):
        wake = _next_wake(world, now)
        if wake is not None and (wake != world.wake or isinstance(event, Tick)):
            ctx.say(WakeAt(wake))
        world.wake = wake
    return ctx.effects


def _concerned(world: World, event: Event) -> ServiceKey | None:
    """Whose event it is."""
    match event:
        case ServiceSeen(spec) | ModelSeen(spec) | PodSeen(spec):
            return spec.key if isinstance(spec, ServiceSpec) else spec.service_key
        case ServiceGone(key) | Requested(key):
            return key
        case ModelGone(model_key):
            model = world.models.get(model_key)
            return model.spec.service_key if model is not None else None
        case Reachable(keys):
            known = filter(None, map(world.models.get, keys))  # which are one InferenceService's
            return next((each.spec.service_key for each in known), None)
        case PodGone(uid) | AgentLost(uid):
            pod = world.pods.get(uid)
            return pod.spec.service_key if pod is not None else None
        case AgentReported(request):
            pod = world.pods.get(request.pod_uid)
            return pod.spec.service_key if pod is not None else None
        case Planned(plan):
            return plan.service
        case _:
            return None


def _apply(ctx: Context, event: Event) -> None:
    match event:
        case ModelSeen(spec, vouched, last_good, failure):
            known = ctx.world.recovering  # by its status, what an operator before this one knew
            failure = failure if known else None
            models.seen(ctx, spec, vouched=vouched and known, last_good=last_good, failure=failure)
        case ModelGone(model_key, uid):
            models.gone(ctx, model_key, uid)
        case ServiceSeen(service_spec):
            services.seen(ctx, service_spec)
        case ServiceGone(service_key, uid):
            services.gone(ctx, service_key, uid)
        case PodSeen(pod_spec):
            health.seen(ctx, pod_spec)
        case PodGone(uid):
            health.gone(ctx, uid)
        case Listed(kind):
            ctx.world.listed.add(kind)
        case StoreLoaded(stored):
            recovery.store_loaded(ctx, stored)
        case EpochClaimed(epoch):
            ctx.world.epoch = max(ctx.world.epoch, epoch)
            ctx.world.epoch_held = ctx.world.epoch_held or epoch
            ctx.world.versions.begin(ctx.world.epoch)
            for pod_uid in ctx.world.pods:
                ctx.emit(DesiredChanged(pod_uid))  # who refused the former epoch obeys this one
        case AgentReported(report):
            reports.apply(ctx, report)
        case AgentLost(pod_uid, session):
            health.agent_lost(ctx, pod_uid, session)
        case PodReached(pod_uid, reached):
            health.reached(ctx, pod_uid, reached=reached)
        case Planned(plan):
            plans.carry_out(ctx, plan)
        case GatewayAcknowledged(sequence):
            life.acknowledged(ctx, sequence)
        case Requested(service_key, name):
            asking.requested(ctx, service_key, name)
        case Reachable(keys):
            models.reachable(ctx, keys)
        case Proceed():
            _proceed(ctx)


def _proceed(ctx: Context) -> None:
    piece = ctx.world.pieces.next()
    if piece is None:
        return  # only what is overdue, which passing time finds
    if piece.task is Task.PODS:
        for uid in piece.items:
            ctx.world.touch(uid)
    elif isinstance(piece.subject, str):
        ctx.world.touch(piece.subject)
    done = False
    with ctx.contained(piece.task):
        _do(ctx, piece.task, piece.subject, piece.items)
        done = True
    if not done:  # whoever it was, the others are done: twice does no harm
        for item in piece.items:
            with ctx.contained(piece.task):
                _do(ctx, piece.task, piece.subject, [item])


def _do(ctx: Context, task: Task, subject: Any, items: list[Any]) -> None:
    pod = ctx.world.pods.get(subject) if isinstance(subject, str) else None
    match task:
        case Task.ROUTES:
            routes.refresh_some(ctx, items)
        case Task.MODELS:
            services.revise(ctx, items)
        case Task.UNREGISTERED:
            unregistered.revise(ctx, items)
        case Task.IN_USE:
            scaling.add_up(ctx, subject, items)
        case Task.PROBES:
            probes.assign_all(ctx, items)
        case Task.CHECKS:
            checks.watch_some(ctx, items)
        case Task.PLAN:
            health.plan_some(ctx, items)
        case Task.PODS:
            recovery.meet(ctx, items)
        case Task.FORGET:
            recovery.forget_unused(ctx, items)
        case Task.ANNOUNCE:
            recovery.announce(ctx, items)
        case Task.REMAINS:
            pass
        case Task.SLOTS if pod is not None:
            reports.take_in(ctx, pod, items)
        case Task.EMPTY if pod is not None:
            resting.empty(ctx, pod, items)
        case Task.FREE if pod is not None:
            life.free_some(ctx, pod, items)
        case Task.LOST if pod is not None:
            health.give_up(ctx, pod, items)
        case Task.STORED if pod is not None:
            recovery.restore(ctx, pod, items)


_REGULARLY = (
    life.start_graces,
    life.end_grace,
    life.end_patience,
    health.open_gates,
    health.abandon_unhealthy,
    health.end_gatherings,
    moves.end_overdue,
    cold.review_due,
    resting.review_due,
    checks.advance,
    freshness.end_waits,
)
"""What time alone brings about; each has its own queue, and costs nothing while nothing of it is due."""


def _pass_time(ctx: Context) -> None:
    for each in _REGULARLY:
        with ctx.contained(each.__name__):
            each(ctx)
    _review(ctx)
    with ctx.contained("retry"):
        plans.retry(ctx)


def _review(ctx: Context) -> None:
    """What is reviewed regularly, as long as something happens."""
    world = ctx.world
    if not ctx.review_due():
        return
    with ctx.contained("asking"):
        asking.review(ctx)
    for key in list(world.reviewing):
        with ctx.contained("review", key):
            service = world.services.get(key)
            if service is None or not (use.review(ctx, service) | scaling.review(ctx, service)):
                ctx.reviewed(key)
    if world.reviewing or world.asked:
        ctx.review_soon()


def _next_wake(world: World, now: float) -> float | None:
    if world.recovering:
        if world.awaiting_since is None:
            return None
        deadline = world.awaiting_since + world.timing.recovery
        return deadline if deadline > now else None
    times = [queue[0].at for queue in (world.grace, world.outgoing) if queue]
    for uid in world.unhealthy:
        since = world.pods[uid].unhealthy_since
        if since is not None:
            times.append(since + world.timing.server_restart)
    for service_key in world.gathering:
        hold = world.services[service_key].gathering_until
        if hold is not None:
            times.append(hold)
    if world.moving:
        times.append(world.moving[0][0])
    if world.checks:
        times.append(world.check_at)
    for service_key in world.retrying:
        retry_at = world.services[service_key].retry_at if service_key in world.services else None
        if retry_at is not None:
            times.append(retry_at)
    times += world.freshening.values()
    times += [at for at in (world.gate_at, world.review_at, world.agenda.next, world.alarms.next) if at is not None]
    # What is due was tried in this step; if it must wait for something else, that event brings the next try.
    return min((at for at in times if at > now), default=None)

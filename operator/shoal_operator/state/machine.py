"""``step(world, event, now) -> effects``: the only code that changes the world, one event at a time."""

from . import cold, copies, demand, freshness, models, plans, pods, recovery, reports, scaling, services, use
from .context import Context
from .effects import DesiredChanged, Effect, WakeAt
from .events import (
    AgentLost,
    AgentReported,
    EpochClaimed,
    Event,
    GatewayAcknowledged,
    Kind,
    Listed,
    ModelGone,
    ModelSeen,
    Planned,
    PodGone,
    PodSeen,
    Requested,
    ServiceGone,
    ServiceSeen,
    StoreLoaded,
    Tick,
)
from .world import World


def step(world: World, event: Event, now: float) -> list[Effect]:
    """Apply one event at ``now`` (monotonic seconds) and return what the edges must do, in order."""
    ctx = Context(world, now)
    _apply(ctx, event)
    recovery.advance(ctx)
    if not world.recovering:
        _pass_time(ctx)
    wake = _next_wake(world, now)
    if wake is not None and (wake != world.wake or isinstance(event, Tick)):
        ctx.effects.append(WakeAt(wake))
    world.wake = wake
    return ctx.effects


def _apply(ctx: Context, event: Event) -> None:
    match event:
        case ModelSeen(spec, vouched):
            models.seen(ctx, spec, vouched=vouched and ctx.world.recovering)
        case ModelGone(model_key, uid):
            models.gone(ctx, model_key, uid)
        case ServiceSeen(service_spec):
            services.seen(ctx, service_spec)
        case ServiceGone(service_key, uid):
            services.gone(ctx, service_key, uid)
        case PodSeen(pod_spec):
            pods.seen(ctx, pod_spec)
        case PodGone(uid):
            pods.gone(ctx, uid)
        case Listed():
            _sweep(ctx, event)
        case StoreLoaded(stored):
            ctx.world.store_loaded = True
            for copy in stored:
                ctx.world.stored.setdefault(copy.pod_uid, []).append(copy)
        case EpochClaimed(epoch):
            ctx.world.epoch = max(ctx.world.epoch, epoch)
            ctx.world.versions.begin(ctx.world.epoch)
            for pod_uid in ctx.world.pods:
                ctx.emit(DesiredChanged(pod_uid))  # who refused the former epoch obeys this one
        case AgentReported(request):
            reports.apply(ctx, request)
        case AgentLost(pod_uid, session):
            pods.agent_lost(ctx, pod_uid, session)
        case Planned(plan):
            plans.carry_out(ctx, plan)
        case GatewayAcknowledged(sequence):
            copies.acknowledged(ctx, sequence)
        case Requested(service_key, name):
            demand.requested(ctx, service_key, name)
        case Tick():
            pass


def _sweep(ctx: Context, listed: Listed) -> None:
    """Drop what the API server no longer has: a watch can miss a deletion."""
    world = ctx.world
    world.listed.add(listed.kind)
    match listed.kind:
        case Kind.MODEL:
            for model in [m for k, m in world.models.items() if listed.uids.get((k.namespace, k.name)) != m.spec.uid]:
                models.gone(ctx, model.spec.key, model.spec.uid)
        case Kind.SERVICE:
            for service in [
                s for k, s in world.services.items() if listed.uids.get((k.namespace, k.name)) != s.spec.uid
            ]:
                services.gone(ctx, service.spec.key, service.spec.uid)
        case Kind.POD:
            present = set(listed.uids.values())
            for uid in [uid for uid in world.pods if uid not in present]:
                pods.gone(ctx, uid)


def _pass_time(ctx: Context) -> None:
    copies.end_grace(ctx)
    pods.open_gates(ctx)
    pods.abandon_unhealthy(ctx)
    for key in list(ctx.world.held):
        pods.release(ctx, key)
    models.end_moves(ctx)
    cold.look_again(ctx)
    freshness.end_waits(ctx)
    _review(ctx)
    plans.retry(ctx)


def _review(ctx: Context) -> None:
    """What is looked at regularly, as long as something happens."""
    world = ctx.world
    if world.review_at is None or ctx.now < world.review_at:
        return
    world.review_at = None
    demand.give_up(ctx)
    for key in list(world.reviewing):
        service = world.services.get(key)
        if service is None or not (use.review(ctx, service) | scaling.review(ctx, service)):
            world.reviewing.discard(key)
    if world.reviewing or world.asking:
        world.review_at = ctx.now + world.timing.review


def _next_wake(world: World, now: float) -> float | None:
    if world.recovering:
        deadline = world.started_at + world.timing.recovery
        return deadline if deadline > now else None
    times = [world.grace[0].at] if world.grace else []
    for uid in world.unhealthy:
        since = world.pods[uid].unhealthy_since
        if since is not None:
            times.append(since + world.timing.server_restart)
    for service_key in world.held:
        hold = world.services[service_key].hold_until
        if hold is not None:
            times.append(hold)
    if world.moving:
        times.append(world.moving[0][0])
    for service_key in world.retrying:
        retry_at = world.services[service_key].retry_at if service_key in world.services else None
        if retry_at is not None:
            times.append(retry_at)
    times += world.freshening.values()
    times += [at for at in (world.gate_at, world.review_at, world.agenda.next) if at is not None]
    # What is due was tried in this step; if it must wait for something else, that event brings the next try.
    return min((at for at in times if at > now), default=None)

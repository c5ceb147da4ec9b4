"""The way of an InferenceService with minReplicas 0 to no pod: unused for long enough, emptied, gone.

Its pods are emptied first, as by idleUnload: out of the routes, every Envoy has acknowledged, requests that run are
waited for, unloaded. Only then are no pods wanted, so none goes from under a request; one that comes meanwhile ends it.
"""

from collections.abc import Iterable
from itertools import islice

from shoal_operator.state import wish
from shoal_operator.state.copies import waking
from shoal_operator.state.copies.routes import refresh_service
from shoal_operator.state.demand import cold, scaling
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import ReplicasWanted, ServiceStatusChanged
from shoal_operator.state.world.entities import Pod, Service, World
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import ModelKey

AGAIN = 1.0
"""Seconds between two looks at what ends by itself: requests that run, pods that are being emptied."""
MAX_LOOKED_AT = 1_000
"""Of those that wait to be looked up, when pods go."""


def begin(ctx: Context, service: Service) -> None:
    """After a start, when a service comes, or when its minReplicas becomes 0 or is it no more: without pods that stay
    there are to be none, until something asks for one."""
    world, rest, key = ctx.world, service.rest, service.spec.key
    pods = [world.pods[uid] for uid in world.pods_of.get(key, ())]
    staying = [pod for pod in pods if not pod.leaving]
    if service.spec.idle is None or any(pod.placeable for pod in staying) or any(pod.copies for pod in staying):
        phase = Phase.UP
    else:
        phase = Phase.WAKING if staying else Phase.ZERO
    rest.turn(phase, ctx.now)
    world.alarms.forget(key)
    if service.spec.idle is not None:
        world.alarms.put(ctx.now, key)


def changed(ctx: Context, service: Service, before: float | None) -> None:
    """Its spec says another time; ``before``: what it was."""
    idle, rest = service.spec.idle, service.rest
    if idle is not None and before is not None:
        ctx.world.alarms.put(ctx.now, service.spec.key)
        return
    rested = rest.phase is not Phase.UP
    if idle is None:
        rest.turn(Phase.UP, ctx.now)
        ctx.world.alarms.forget(service.spec.key)
    else:
        begin(ctx, service)
        scaling.announce(ctx, service)
    if rested:
        _up(ctx, service)


def joined(ctx: Context, service: Service) -> None:
    """One of its pods takes models now."""
    if service.rest.phase is Phase.WAKING:
        service.rest.turn(Phase.UP, ctx.now)
        ctx.world.alarms.put(ctx.now, service.spec.key)
        _up(ctx, service)


def left(ctx: Context, service: Service) -> None:
    """One of its pods goes, or is gone. Where none is left but some that start, the next is waited for as if a request
    had asked for it: so it is after one that came while the last pods were being taken away. A pod whose server is down
    is no such: nobody replaces it."""
    world, key = ctx.world, service.spec.key
    if service.spec.idle is None or service.rest.phase is not Phase.UP or world.recovering:
        return
    pods = [world.pods[uid] for uid in world.pods_of.get(key, ())]
    if any(not pod.spec.deleting and (pod.proven or pod.joined_at is not None) for pod in pods):
        return
    service.rest.turn(Phase.WAKING, ctx.now)
    world.alarms.put(ctx.now, key)
    refresh_service(ctx, key)


def waits_differ(ctx: Context, service: Service) -> None:
    """Its spec says another time that a request may wait: whether a pod is late is looked at anew."""
    if service.spec.idle is not None:
        ctx.world.alarms.put(ctx.now, service.spec.key)


def review_due(ctx: Context) -> None:
    """Services for which it may be time: to empty pods, to have them go, to ask for one, to say that one is late."""
    while (key := ctx.world.alarms.due(ctx.now)) is not None:
        service = ctx.world.services.get(key)
        if service is None or service.spec.idle is None:
            continue
        with ctx.contained("resting", key):
            _review(ctx, service)
            at = service.rest.alarm(wish.bounds(ctx.world, service), ctx.now, AGAIN)
            if at is not None:
                ctx.world.alarms.put(at, key)


def empty(ctx: Context, pod: Pod, names: Iterable[str]) -> None:
    """A piece of what a pod holds, which is to hold nothing."""
    service = ctx.world.services.get(pod.spec.service_key)
    if service is None or not service.rest.resting:
        return  # a request has come
    for name in names:
        copy = pod.copies.get(name)
        model = ctx.model(ModelKey(pod.spec.namespace, name), copy.uid) if copy is not None else None
        if model is not None and model.spec.service_key == service.spec.key:
            cold.go(ctx, service, model, used=True)


def _review(ctx: Context, service: Service) -> None:
    rest, bounds = service.rest, wish.bounds(ctx.world, service)
    match rest.phase:
        case Phase.UP if ctx.now >= rest.idle_at(bounds) and not _busy(ctx.world, service):
            rest.turn(Phase.EMPTYING, ctx.now)
            _empty_all(ctx, service)
        case Phase.EMPTYING:
            if not _empty_all(ctx, service) and ctx.now >= rest.since + service.spec.unseen:
                _go(ctx, service)
        case Phase.ZERO:
            at = rest.look_at(bounds)
            if at is not None and ctx.now >= at:
                rest.look(ctx.now)
                waking.wake(ctx, service, "models are to be looked up")
        case Phase.WAKING:
            refresh_service(ctx, service.spec.key)  # perhaps a request can count on a pod no more
        case _:
            pass


def _empty_all(ctx: Context, service: Service) -> bool:
    """Have all pods emptied, which is done in pieces; whether there is anything left in them."""
    world, left = ctx.world, False
    for uid in world.pods_of.get(service.spec.key, ()):
        pod = world.pods[uid]
        going = [name for name in pod.copies if name not in pod.occupied]
        left = left or bool(pod.copies) or bool(pod.probes)
        empty(ctx, pod, world.pieces.begin(Task.EMPTY, uid, going))
    return left


def _go(ctx: Context, service: Service) -> None:
    """Its pods hold nothing: there are to be none."""
    key = service.spec.key
    service.stats.rests += 1
    service.rest.turn(Phase.ZERO, ctx.now)
    for model in map(ctx.world.models.get, islice(service.to_probe, MAX_LOOKED_AT)):
        if model is not None:
            waking.look_up(ctx, service, model)
    scaling.reset(service)
    ctx.emit(ReplicasWanted(key, 0, f"not used for {service.spec.idle or 0:g} s"))
    refresh_service(ctx, key)
    ctx.emit(ServiceStatusChanged(key))


def _up(ctx: Context, service: Service) -> None:
    """What was not wanted while there was no pod is wanted again."""
    scaling.on_each_pod(ctx, service)
    models = filter(None, map(ctx.world.models.get, ctx.world.asked))
    waiting = [model.spec.key for model in models if model.spec.service_key == service.spec.key]
    ctx.plan_later(service, waiting, asked=True)
    if service.dirty:
        ctx.plan(service)
    ctx.offer_memory(service)
    if service.spec.autoscaled:
        ctx.review(service)


def _busy(world: World, service: Service) -> bool:
    """A request runs or waits, an artifact is being looked up, or nobody knows: O(pods), and O(copies) of those that
    have been asked for lately by no agent's word."""
    key = service.spec.key
    pods = [world.pods[uid] for uid in world.pods_of.get(key, ())]
    known = [pod for pod in pods if pod.placeable]
    if not known or len(known) < sum(not pod.leaving for pod in pods):
        return True  # one starts, or its agent is away: it may be in use
    if service.to_probe or any(pod.probes for pod in pods) or world.pieces.pending(Task.PROBES, key):
        return True
    asked = (world.models.get(model) for model in world.asked)
    if any(model is not None and model.spec.service_key == key for model in asked):
        return True
    return any(copy.in_flight for pod in pods for copy in pod.copies.values())

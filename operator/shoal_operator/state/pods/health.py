"""A pod's coming, health and going, and what each means for the models on it."""

from collections.abc import Iterable
from operator import attrgetter

from shoal_operator.state.copies import crashes, life, probes
from shoal_operator.state.copies.routes import refresh_endpoint, refresh_pod, refresh_service
from shoal_operator.state.demand import resting, scaling
from shoal_operator.state.ledger import Ledger
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.desired import DesiredList
from shoal_operator.state.world.effects import GateChanged, PodEndpointChanged, ServiceStatusChanged
from shoal_operator.state.world.entities import Copy, Pod, Service, Stage, World
from shoal_operator.state.world.ordered import OrderedSet
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.values import ModelKey, PodSpec, ServiceKey

GATE_INTERVAL = 0.25

_SHOWN = attrgetter("ready", "problem", "deleting", "waiting")


def seen(ctx: Context, spec: PodSpec) -> None:
    """Kubernetes shows a pod: new, or changed."""
    world = ctx.world
    pod = world.pods.get(spec.uid)
    if pod is None:
        pod = world.pods[spec.uid] = Pod(spec, DesiredList(world.versions), Ledger(spec.capacity_bytes))
        pod.proven = spec.ready or spec.gate_open
        world.pods_of.setdefault(spec.service_key, OrderedSet()).add(spec.uid)
        if not spec.gate_open:
            world.gating.add(spec.uid)
        refresh_service(ctx, spec.service_key)
        return
    if pod.gone:
        return
    before, was_placeable, was_leaving, served = pod.spec, pod.placeable, pod.leaving, pod.serves
    if spec == before:
        return
    pod.spec, pod.proven = spec, pod.proven or spec.ready or spec.gate_open
    pod.ledger.set_capacity(spec.capacity_bytes)
    moved = (before.ip, before.http_port, before.grpc_port) != (spec.ip, spec.http_port, spec.grpc_port)
    if moved or pod.serves != served:
        note_health(ctx, pod)
        refresh_pod(ctx, pod)
    elif _SHOWN(before) != _SHOWN(spec):
        refresh_service(ctx, spec.service_key)
    if spec.server_ended != before.server_ended:
        crashes.ended(ctx, pod)
    if pod.leaving and not was_leaving:
        start_leaving(ctx, pod)
    if spec.deleting and not before.deleting:
        _one_less(ctx, pod)
    if pod.placeable and not was_placeable:
        joined(ctx, pod)


def gone(ctx: Context, uid: str) -> None:
    """The pod does not exist any more: its copies are lost, and only they move."""
    world = ctx.world
    pod = world.pods.get(uid)
    if pod is None or pod.gone:
        return
    pod.server, pod.gone = None, True
    probes.lost(ctx, pod)
    world.pods_of[pod.spec.service_key].discard(uid)
    world.gating.discard(uid)
    world.unhealthy.discard(uid)
    for task in (Task.SLOTS, Task.EMPTY, Task.FREE, Task.PLAN, Task.STORED):
        world.pieces.drop(task, uid)
    _one_less(ctx, pod)
    refresh_service(ctx, pod.spec.service_key)
    weigh(ctx, pod.spec.service_key)
    give_up(ctx, pod, world.pieces.begin(Task.LOST, uid, pod.copies))


def give_up(ctx: Context, pod: Pod, names: Iterable[str]) -> None:
    """A piece of the copies of a pod that is gone. With the last one it is forgotten, and so is its address."""
    for name in names:
        copy = pod.copies.get(name)
        if copy is None:
            continue
        life.free(ctx, pod, copy)
        model = ctx.model(ModelKey(pod.spec.namespace, name), copy.uid)
        if model is not None:
            ctx.plan_model(model)
    if not pod.copies:
        del ctx.world.pods[pod.spec.uid]
        if pod.routed is not None:
            ctx.emit(PodEndpointChanged(pod.spec.uid, ""))


def joined(ctx: Context, pod: Pod) -> None:
    """The pod can take models now."""
    world = ctx.world
    pod.joined_at = ctx.now
    ctx.emit(ServiceStatusChanged(pod.spec.service_key))
    service = world.services.get(pod.spec.service_key)
    if service is None or world.recovering:
        return  # it was there before this operator; what follows is decided for all once recovery is done
    weigh(ctx, service.spec.key)
    staying = [uid for uid in world.pods_of[pod.spec.service_key] if not world.pods[uid].leaving]
    resting.joined(ctx, service)
    if service.gathering and service.gathering_until is None:
        gather(ctx, service)
    # During a rollout there is one pod more than wanted: it gets what the leaving pod held, so that every model
    # moves once; evening out as well would load models twice.
    if len(staying) <= scaling.wanted_pods(service):
        service.balance = True
    end_gathering(ctx, pod.spec.service_key)
    ctx.offer_memory(service)
    probes.assign(ctx, service)
    if service.balance or service.dirty:
        ctx.plan(service)


def gather(ctx: Context, service: Service) -> None:
    """The first of its first pods can take models: it waits for the others, and not for ever."""
    if not service.gathering:
        return
    service.gathering_until = ctx.now + ctx.world.timing.first_placement
    ctx.world.gathering.add(service.spec.key)


def stop_gathering(ctx: Context, key: ServiceKey) -> None:
    """It has all that it waits for, or is gone."""
    ctx.world.gathering.discard(key)
    service = ctx.world.services.get(key)
    if service is not None:
        service.gathering = False


def end_gatherings(ctx: Context) -> None:
    """Services that have waited for their first pods long enough do so no more."""
    for key in list(ctx.world.gathering):
        end_gathering(ctx, key)


def end_gathering(ctx: Context, key: ServiceKey) -> None:
    """Let a service's models be placed once all its first pods can take some, or the time for that is over."""
    world = ctx.world
    service = world.services.get(key)
    if service is None or not service.gathering or world.recovering:
        return
    placeable = sum(world.pods[uid].placeable for uid in world.pods_of.get(service.spec.key, ()))
    timed_out = service.gathering_until is not None and ctx.now >= service.gathering_until
    if placeable and (placeable >= service.spec.min_replicas or timed_out):
        stop_gathering(ctx, service.spec.key)
        ctx.plan(service)


def agent_lost(ctx: Context, uid: str, session: str) -> None:
    """The pod's agent hung up: what is loaded goes on being served, the rest is wanted elsewhere."""
    pod = ctx.world.pods.get(uid)
    if pod is None or pod.gone or pod.session != session:
        return
    served = pod.serves
    pod.lost = True
    if pod.serves != served:
        note_health(ctx, pod)
        refresh_pod(ctx, pod)
    probes.lost(ctx, pod)
    for copy in pod.copies.values():
        model = ctx.model(ModelKey(pod.spec.namespace, copy.name), copy.uid)
        if model is not None and not copy.answers:
            ctx.plan_model(model)
    ctx.emit(ServiceStatusChanged(pod.spec.service_key))


def reached(ctx: Context, uid: str, *, reached: bool) -> None:
    """The pod of an agent that is not heard any more can be reached, or it cannot."""
    pod = ctx.world.pods.get(uid)
    if pod is None or pod.gone or pod.unreached != reached:
        return
    before = _standing(pod)
    pod.unreached = not reached
    refresh_endpoint(ctx, pod)  # ahead of routes that others' being believed leads to
    weigh(ctx, pod.spec.service_key)
    _stands_otherwise(ctx, pod, before)


def weigh(ctx: Context, key: ServiceKey) -> None:
    """Which of the service's pods seem lost, or do no more: when more than half do at once, none is believed to be."""
    pods = [pod for uid in ctx.world.pods_of.get(key, ()) if (pod := ctx.world.pods[uid]).known]
    staying = [pod.suspect for pod in pods if not pod.spec.deleting]
    doubted = 2 * sum(staying) > len(staying)
    for pod in pods:
        before = _standing(pod)
        pod.doubted = doubted and pod.suspect
        _stands_otherwise(ctx, pod, before)


def _standing(pod: Pod) -> tuple[bool, bool, bool]:
    return pod.serves, pod.cut_off, pod.placeable


def _stands_otherwise(ctx: Context, pod: Pod, before: tuple[bool, bool, bool]) -> None:
    """What follows where that changed."""
    if _standing(pod) == before:
        return
    ctx.world.touch(pod.spec.uid)
    note_health(ctx, pod)
    if pod.cut_off:  # nobody repairs it from inside, as an agent does a server that ended: there is nothing to wait for
        ctx.world.unhealthy.discard(pod.spec.uid)
        pod.abandoned = True
        start_leaving(ctx, pod)
    refresh_pod(ctx, pod)
    if pod.placeable and not before[2]:
        joined(ctx, pod)


def start_leaving(ctx: Context, pod: Pod) -> None:
    """The pod is going: its models are wanted elsewhere; it serves them until they are there."""
    ctx.world.touch(pod.spec.uid)
    probes.lost(ctx, pod)
    keys = [ModelKey(pod.spec.namespace, name) for name in pod.copies]
    plan_some(ctx, ctx.world.pieces.begin(Task.PLAN, pod.spec.uid, keys))
    refresh_service(ctx, pod.spec.service_key)


def _one_less(ctx: Context, pod: Pod) -> None:
    service = ctx.world.services.get(pod.spec.service_key)
    if service is not None:
        resting.left(ctx, service)


def plan_some(ctx: Context, keys: Iterable[ModelKey]) -> None:
    """A piece of models whose pod goes."""
    for key in keys:
        model = ctx.world.models.get(key)
        if model is not None:
            ctx.plan_model(model)


def note_health(ctx: Context, pod: Pod) -> None:
    """Start or stop the clock after which a pod whose server does not answer is given up."""
    if pod.serves:
        returned = pod.abandoned
        pod.unhealthy_since, pod.abandoned = None, False
        ctx.world.unhealthy.discard(pod.spec.uid)
        if returned:
            refresh_endpoint(ctx, pod)
            start_leaving(ctx, pod)  # its copies may be surplus by now: plan them again
    elif pod.unhealthy_since is None:
        pod.unhealthy_since = ctx.now
        ctx.world.unhealthy.add(pod.spec.uid)


def abandon_unhealthy(ctx: Context) -> None:
    """Give up pods whose server has not come back in time: their models are wanted elsewhere."""
    for uid in list(ctx.world.unhealthy):
        pod = ctx.world.pods[uid]
        since = pod.unhealthy_since
        if since is not None and ctx.now >= since + ctx.world.timing.server_restart:
            ctx.world.unhealthy.discard(uid)
            pod.abandoned = True
            start_leaving(ctx, pod)


def open_gates(ctx: Context) -> None:
    """Let Kubernetes call new pods ready once their share is loaded, has failed, or took too long.

    They are looked at every ``GATE_INTERVAL``, however many events come meanwhile.
    """
    world = ctx.world
    if world.gate_at is not None and ctx.now < world.gate_at:
        return
    due, world.gate_at = world.gate_at is not None, None
    for uid in list(world.gating):
        pod = world.pods[uid]
        if pod.spec.gate_open:
            world.gating.discard(uid)
        elif pod.joined_at is not None and pod.placeable:
            world.gate_at = ctx.now + GATE_INTERVAL
            service = world.services.get(pod.spec.service_key)
            late = ctx.now >= pod.joined_at + world.timing.gate
            if not due or (not late and (service is None or _undecided(world, service))):
                continue  # its share is about to be decided
            if late or not any(map(_pending, pod.copies.values())):
                world.gating.discard(uid)
                pending = sum(map(_pending, pod.copies.values()))
                message = "all placed models are loaded" if not pending else f"{pending} models are still loading"
                ctx.emit(GateChanged(uid, pod.spec.namespace, pod.spec.name, open=True, message=message))


def desired(world: World, uid: str) -> DesiredList | None:
    """What the pod's agent is to hold; None: it keeps what it has.

    So it is while recovering, and after that until the agent has said what it holds. A list made without knowing that
    is empty, and would have it unload what is about to be adopted.
    """
    pod = world.pods.get(uid)
    return pod.desired if pod is not None and pod.taken_in and not world.recovering else None


def drained(world: World, uid: str) -> bool:
    """Nothing on the pod answers requests any more, or its InferenceService is going: preStop may return."""
    pod = world.pods.get(uid)
    if pod is None or pod.spec.service_key not in world.services:
        return True
    return not any(copy.answers and copy.stage is not Stage.UNLOADING for copy in pod.copies.values())


def _undecided(world: World, service: Service) -> bool:
    """What its pods are to hold is not placed yet."""
    to_come = world.pieces.pending(Task.MODELS, service.spec.key)
    return service.gathering or service.plan_requested or service.balance or bool(service.dirty) or to_come


def _pending(copy: Copy) -> bool:
    failed = copy.report is not None and copy.report.failure is not None
    return copy.stage is Stage.PLACED and not copy.current and not failed

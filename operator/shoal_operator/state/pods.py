"""A pod's coming, health and going, and what each means for the models on it."""

from . import copies, probes, scaling
from .context import Context
from .desired import DesiredList
from .effects import GateChanged, PodEndpointChanged, ServiceStatusChanged
from .routes import refresh_endpoint, refresh_pod, refresh_service
from .values import ModelKey, PodSpec, ServiceKey
from .world import Copy, Pod, Stage, World

GATE_INTERVAL = 0.25


def seen(ctx: Context, spec: PodSpec) -> None:
    """Kubernetes shows a pod: new, or changed."""
    world = ctx.world
    pod = world.pods.get(spec.uid)
    if pod is None:
        pod = world.pods[spec.uid] = Pod(spec, DesiredList(world.versions))
        world.pods_of.setdefault(spec.service_key, set()).add(spec.uid)
        if not spec.gate_open:
            world.gating.add(spec.uid)
        refresh_service(ctx, spec.service_key)
        return
    before, was_placeable, was_leaving, served = pod.spec, pod.placeable, pod.leaving, pod.serves
    if spec == before:
        return
    pod.spec = spec
    moved = (before.ip, before.http_port, before.grpc_port) != (spec.ip, spec.http_port, spec.grpc_port)
    if moved or pod.serves != served:
        note_health(ctx, pod)
        refresh_pod(ctx, pod)
    elif (before.ready, before.problem, before.deleting) != (spec.ready, spec.problem, spec.deleting):
        refresh_service(ctx, spec.service_key)
    if pod.leaving and not was_leaving:
        start_leaving(ctx, pod)
    if pod.placeable and not was_placeable:
        joined(ctx, pod)


def gone(ctx: Context, uid: str) -> None:
    """The pod does not exist any more: its copies are lost, and only they move."""
    world = ctx.world
    pod = world.pods.get(uid)
    if pod is None:
        return
    pod.server = None
    probes.lost(ctx, pod)
    held = list(pod.copies.values())
    for copy in held:
        copies.free(ctx, pod, copy)
    del world.pods[uid]
    world.pods_of[pod.spec.service_key].discard(uid)
    world.gating.discard(uid)
    world.unhealthy.discard(uid)
    for copy in held:
        model = ctx.model(ModelKey(pod.spec.namespace, copy.name), copy.uid)
        if model is not None:
            ctx.plan_model(model)
    refresh_service(ctx, pod.spec.service_key)
    if pod.routed is not None:
        ctx.emit(PodEndpointChanged(uid, ""))


def joined(ctx: Context, pod: Pod) -> None:
    """The pod can take models now."""
    world = ctx.world
    pod.joined_at = ctx.now
    ctx.emit(ServiceStatusChanged(pod.spec.service_key))
    service = world.services.get(pod.spec.service_key)
    if service is None:
        return
    staying = [uid for uid in world.pods_of[pod.spec.service_key] if not world.pods[uid].leaving]
    if service.held and service.hold_until is None:
        service.hold_until = ctx.now + world.timing.first_placement
        world.held.add(service.spec.key)
    # During a rollout there is one pod more than wanted: it gets what the leaving pod held, so that every model
    # moves once; evening out as well would load models twice.
    if len(staying) <= scaling.wanted_pods(service):
        service.balance = True
    release(ctx, pod.spec.service_key)
    ctx.plan_waiting(service)
    probes.assign(ctx, service)
    if service.balance or service.dirty:
        ctx.plan(service)


def release(ctx: Context, key: ServiceKey) -> None:
    """End a service's hold once all its first pods can take models, or its time is over."""
    world = ctx.world
    service = world.services.get(key)
    if service is None or not service.held or world.recovering:
        return
    placeable = sum(world.pods[uid].placeable for uid in world.pods_of.get(service.spec.key, ()))
    timed_out = service.hold_until is not None and ctx.now >= service.hold_until
    if placeable and (placeable >= service.spec.min_replicas or timed_out):
        service.held = False
        world.held.discard(service.spec.key)
        ctx.plan(service)


def agent_lost(ctx: Context, uid: str, session: str) -> None:
    """The pod's agent hung up: what is loaded goes on being served, the rest is wanted elsewhere."""
    pod = ctx.world.pods.get(uid)
    if pod is None or pod.session != session:
        return
    served = pod.serves
    pod.connected, pod.lost = False, True
    if pod.serves != served:
        note_health(ctx, pod)
        refresh_pod(ctx, pod)
    probes.lost(ctx, pod)
    for copy in pod.copies.values():
        model = ctx.model(ModelKey(pod.spec.namespace, copy.name), copy.uid)
        if model is not None and not copy.answers:
            ctx.plan_model(model)
    ctx.emit(ServiceStatusChanged(pod.spec.service_key))


def start_leaving(ctx: Context, pod: Pod) -> None:
    """The pod is going: its models are wanted elsewhere; it serves them until they are there."""
    probes.lost(ctx, pod)
    for copy in pod.copies.values():
        model = ctx.model(ModelKey(pod.spec.namespace, copy.name), copy.uid)
        if model is not None:
            ctx.plan_model(model)
    refresh_service(ctx, pod.spec.service_key)


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
            if not due or (service is not None and service.plan_requested):
                continue  # its share is about to be decided
            pending = sum(_pending(copy) for copy in pod.copies.values())
            if not pending or ctx.now >= pod.joined_at + world.timing.gate:
                world.gating.discard(uid)
                message = "all placed models are loaded" if not pending else f"{pending} models are still loading"
                ctx.emit(GateChanged(uid, pod.spec.namespace, pod.spec.name, open=True, message=message))


def desired(world: World, uid: str) -> DesiredList | None:
    """What the pod's agent is to hold; None: it keeps what it has.

    So it is while recovering, and after that until the agent has said what it holds. A list made without knowing that
    is empty, and would have it unload what is about to be adopted.
    """
    pod = world.pods.get(uid)
    return pod.desired if pod is not None and pod.known and not world.recovering else None


def drained(world: World, uid: str) -> bool:
    """Nothing on the pod answers requests any more, or its InferenceService is going: preStop may return."""
    pod = world.pods.get(uid)
    if pod is None or pod.spec.service_key not in world.services:
        return True
    return not any(copy.answers and copy.stage is not Stage.UNLOADING for copy in pod.copies.values())


def _pending(copy: Copy) -> bool:
    failed = copy.report is not None and copy.report.failure is not None
    return copy.stage is Stage.PLACED and not copy.current and not failed

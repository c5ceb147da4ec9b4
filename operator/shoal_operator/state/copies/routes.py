"""Where a model's requests go: the one place that decides routes, readiness and counts, and says what changed."""

from collections.abc import Iterable

from shoal_api.messages import CopyFailure

from shoal_operator.state import wish
from shoal_operator.state.world.cause import Facts, cause
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import (
    ModelStatusChanged,
    PodEndpointChanged,
    RouteChanged,
    ServiceRouteChanged,
    ServiceStatusChanged,
    Unavailable,
)
from shoal_operator.state.world.entities import Copy, Model, Pod, Recovery, Service, Stage, Target, World
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.values import ModelKey, ServiceKey

_OF_THE_SERVICE = (Unavailable.SERVICE_NOT_READY, Unavailable.SERVICE_NOT_FOUND)
SERVICE_PODS = 8
"""Pods that requests without a model go to, of those that serve."""


def refresh(ctx: Context, model: Model, *, status: bool = True) -> None:
    """Recompute a model's routes, flags and its service's counts; emit what differs from what was sent."""
    if ctx.world.silent:
        return
    wish.keep(ctx.world, model)
    if (owner := ctx.world.services.get(model.spec.service_key)) is not None:
        owner.sizes.put(model.spec.key, model.memory)
    targets = _targets(ctx, model)
    for service, target in targets.items():
        if model.routes.get(service) != target:
            _send(ctx, service, model.spec.name, target)
    for service in [former for former in model.routes if former not in targets]:
        _send(ctx, service, model.spec.name, None)
    model.routes = targets
    own = targets[model.spec.service_key]
    _vouch(ctx, model, own)
    ready = bool(own.pods) or on_demand(ctx.world, model, ctx.now)
    _count(ctx, model, loaded=bool(own.pods), ready=ready, failed=not ready and _failed(ctx, model))
    if status:
        ctx.emit(ModelStatusChanged(model.spec.key))


def refresh_all(ctx: Context, subject: ServiceKey | str, keys: Iterable[ModelKey]) -> None:
    """Something changed for many models (``subject``: the service or the pod): some now, the rest in pieces."""
    if not to_be_announced(ctx):
        refresh_some(ctx, ctx.world.pieces.begin(Task.ROUTES, subject, keys))


def refresh_all_of(ctx: Context, key: ServiceKey) -> None:
    """Something changed for all models of an InferenceService."""
    if not to_be_announced(ctx):
        refresh_some(ctx, ctx.world.pieces.begin_all(Task.ROUTES, key, ctx.world.models.of(key)))


def to_be_announced(ctx: Context) -> bool:
    """Services, and then all models, are still to be said once."""
    return ctx.world.recovery in (Recovery.WAITING, Recovery.ADOPTING)


def refresh_some(ctx: Context, keys: Iterable[ModelKey]) -> None:
    """One piece of ``refresh_all``."""
    for key in keys:
        model = ctx.world.models.get(key)
        if model is not None:
            refresh(ctx, model)


def forget(ctx: Context, model: Model) -> None:
    """The model is gone: its routes become unknown and it no longer counts."""
    for service in model.routes:
        _send(ctx, service, model.spec.name, None)
    model.routes = {}
    _count(ctx, model, loaded=False, ready=False, failed=False)


def refresh_pod(ctx: Context, pod: Pod) -> None:
    """A pod's address or its server's readiness changed: endpoint, its models' routes, its service's routes."""
    if ctx.world.silent:
        return
    refresh_endpoint(ctx, pod)
    refresh_all(ctx, pod.spec.uid, [ModelKey(pod.spec.namespace, name) for name in pod.copies])
    refresh_service(ctx, pod.spec.service_key)


def refresh_endpoint(ctx: Context, pod: Pod) -> None:
    """Tell the gateway where the pod is, ahead of any route to it; nothing while the world is not known."""
    if ctx.world.silent:
        return
    endpoint = (pod.spec.ip, pod.spec.http_port, pod.spec.grpc_port) if pod.spec.ip else None
    if endpoint is not None and pod.routed != endpoint and pod.serves:
        pod.routed = endpoint
        kind = pod.spec.server_type
        ctx.emit(PodEndpointChanged(pod.spec.uid, *endpoint, service=pod.spec.service_key, server_type=kind))


def refresh_service(ctx: Context, key: ServiceKey) -> None:
    """Recompute a service's model-less routes and whether it can take models."""
    service = ctx.world.services.get(key)
    if service is None or to_be_announced(ctx):
        return
    pods = [ctx.world.pods[uid] for uid in ctx.world.pods_of.get(key, ())]
    route = frozenset(pod.spec.uid for pod in pods if pod.serves and not pod.leaving)
    if not route:  # better a leaving pod than none
        route = frozenset(pod.spec.uid for pod in pods if pod.serves)
    route, policy = _some_of(route, service.route), service.spec.policy
    if (route, policy) != (service.route, service.policy_sent):
        service.route, service.policy_sent = route, policy
        ctx.emit(ServiceRouteChanged(key, True, ctx.world.next_sequence(), route, policy))
    reachable = any(pod.serves for pod in pods) or wish.pod_expected(ctx.world, service, ctx.now)
    usable = reachable and service.spec.problem is None
    if usable != service.usable:
        service.usable = usable
        refresh_all_of(ctx, key)  # no route depends on it, but Ready does
    ctx.emit(ServiceStatusChanged(key))


def _some_of(pods: frozenset[str], before: frozenset[str]) -> frozenset[str]:
    """Health and server metadata need not come from every pod: with six hundred, each that comes or goes would be
    another set of them for every Envoy. Who was among them stays, as long as it serves."""
    kept = [*sorted(pods & before), *sorted(pods - before)]
    return frozenset(kept[:SERVICE_PODS])


def _targets(ctx: Context, model: Model) -> dict[ServiceKey, Target]:
    pods: dict[ServiceKey, set[str]] = {}
    for copy in model.copies.values():
        pod = ctx.world.pods[copy.pod_uid]
        if copy.stage is Stage.PLACED and copy.answers and pod.serves:
            pods.setdefault(pod.spec.service_key, set()).add(copy.pod_uid)
    targets = {}
    for service in (model.spec.service_key, model.former):
        if service is None:
            continue
        serving = frozenset(pods.get(service, ())) if service in ctx.world.services else frozenset()
        targets[service] = Target(serving) if serving else Target(unavailable=_own_reason(ctx.world, model, ctx.now))
    return targets


def _own_reason(world: World, model: Model, now: float) -> Unavailable:
    """What its route says while no pod answers. What is the whole service's reason is no model's route: thirty thousand
    would change with it. The activator knows it (``unavailable``), and asks for every request that no pod gets."""
    why = unavailable(world, model, now)
    return Unavailable.COLD if why in _OF_THE_SERVICE else why


def unavailable(world: World, model: Model, now: float) -> Unavailable:
    """Why no pod answers for the model: COLD when a request can be held until one does, else the cause."""
    why = cause(facts(world, model, failing(model, now), now))
    return why.unavailable if why is not None else Unavailable.COLD


def facts(world: World, model: Model, failure: CopyFailure | None, now: float) -> Facts:
    """What its cause depends on. ``failure``: the one that is asked about: that requests get now, or the last one."""
    service = world.services.get(model.spec.service_key)
    plannable = service is not None and wish.plannable(service, model)
    return Facts(
        spec=model.spec,
        service=service.spec if service is not None else None,
        service_ready=service is not None and service.usable,
        complaint=model.complaint,
        failure=failure,
        fallback=model.fallback or (service is not None and not service.usable and _would_fall_back(model)),
        restoring=model.fallback and any(map(wish.on_its_way, model.copies.values())) and failing(model, now) is None,
        memory_bytes=model.size,
        min_copies=_kept_copies(service, model),
        placed=sum(map(wish.on_its_way, model.copies.values())),
        refusal=model.refusal if plannable else None,
        late=_late(model),
        not_looked_up=_not_looked_up(service, model),
        kept_out=service is not None and wish.fits_a_pod(service, model) and not wish.finds_room(service, model),
    )


def _would_fall_back(model: Model) -> bool:
    """A request would have its last good content loaded, were there a pod."""
    good = model.last_good
    return model.failure is not None and good is not None and good.digest != model.spec.content


def _kept_copies(service: Service | None, model: Model) -> int:
    """As it is said: of a service that may be without pods none, so that nothing is said anew when they go or come."""
    if service is None:
        return model.spec.min_copies or 0
    return 0 if wish.may_wait(service, model) else wish.floor(service, model)


def failing(model: Model, now: float) -> CopyFailure | None:
    """The failure that requests are answered with: until the next try where it failed, or by its agent's tries."""
    failed = [copy for copy in model.copies.values() if _fails(model, copy)]
    if failed:
        first = min(failed, key=lambda copy: copy.pod_uid)  # always the same copy's word, so that the message stays
        return _told(model, first.report.failure if first.report is not None else None)
    if model.fallback:
        return None
    return _told(model, model.failure) if model.probe is not None or model.retry_at > now else None


def _told(model: Model, failure: CopyFailure | None) -> CopyFailure | None:
    return wish.told(model, failure) if failure is not None else None


def _fails(model: Model, copy: Copy) -> bool:
    wanted = wish.on_its_way(copy) and copy.aim_id == model.aim_id and not copy.current
    return wanted and copy.report is not None and copy.report.failure is not None


def last_failure(model: Model, now: float) -> CopyFailure | None:
    """Why the wanted content is not loaded, also while nobody tries."""
    return failing(model, now) or _told(model, model.failure)


def on_demand(world: World, model: Model, now: float) -> bool:
    """It may be cold, and a request would have it loaded, as far as anyone knows."""
    service = world.services.get(model.spec.service_key)
    if service is None:
        return False
    return (
        wish.counted_on(service, model, now)
        and wish.may_wait(service, model)
        and (model.memory is None or wish.finds_room(service, model))
        and not _late(model)
        and all(target.pods or _waits(service, target) for target in model.routes.values())
    )


def _late(model: Model) -> bool:
    """It is being loaded for longer than a request may wait, as one has found."""
    return any(copy.late and wish.on_its_way(copy) for copy in model.copies.values())


def _not_looked_up(service: Service | None, model: Model) -> bool:
    return service is not None and model.failure is None and wish.never_looked_up(service, model)


def _waits(service: Service | None, target: Target) -> bool:
    """A request can be held until a pod answers."""
    return service is not None and service.usable and target.unavailable is Unavailable.COLD


def _vouch(ctx: Context, model: Model, own: Target) -> None:
    """Ready from now on if it answers, or if it is cold and its artifact was seen; until a try fails."""
    service = ctx.world.services.get(model.spec.service_key)
    if model.failure is not None:
        wish.doubt(model)
    elif any(copy.serving == model.wanted_id for copy in model.copies.values()):
        wish.vouch(model, loaded=True)
    elif not model.copies and model.artifact_seen == model.spec.content and _waits(service, own) and not model.fallback:
        wish.vouch(model, loaded=False)


def _failed(ctx: Context, model: Model) -> bool:
    """Somebody has to do something: about the model, or its InferenceService."""
    why = cause(facts(ctx.world, model, last_failure(model, ctx.now), ctx.now))
    return why is not None and not why.waits


def _send(ctx: Context, service: ServiceKey, model: str, target: Target | None) -> None:
    ctx.emit(
        RouteChanged(
            service,
            model,
            ctx.world.next_sequence(),
            pods=target.pods if target else frozenset(),
            unavailable=target.unavailable if target else None,
        )
    )


def _count(ctx: Context, model: Model, *, loaded: bool, ready: bool, failed: bool) -> None:
    service: Service | None = ctx.world.services.get(model.spec.service_key)
    if model.counted_in is not service:
        uncount(model)
        model.counted_in = service
    if (loaded, ready, failed) == (model.loaded, model.ready, model.failed):
        return
    if service is not None:
        service.loaded_count += loaded - model.loaded
        service.ready_count += ready - model.ready
        service.failed_count += failed - model.failed
        ctx.emit(ServiceStatusChanged(service.spec.key))
    model.loaded, model.ready, model.failed = loaded, ready, failed


def uncount(model: Model) -> None:
    """Take the model out of the counts that it is in."""
    service, model.counted_in = model.counted_in, None
    if service is not None:
        service.loaded_count -= model.loaded
        service.ready_count -= model.ready
        service.failed_count -= model.failed
    model.loaded = model.ready = model.failed = False

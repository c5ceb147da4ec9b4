"""Where a model's requests go: the one place that decides routes, readiness and counts, and says what changed."""

from shoal_api.messages import CopyFailure, FailureStage

from . import policy
from .context import Context
from .effects import (
    ModelStatusChanged,
    PodEndpointChanged,
    RouteChanged,
    ServiceRouteChanged,
    ServiceStatusChanged,
    Unavailable,
)
from .values import ModelKey, ServiceKey
from .world import Model, Pod, Service, Stage, Target, World


def refresh(ctx: Context, model: Model, *, status: bool = True) -> None:
    """Recompute a model's routes, flags and its service's counts; emit what differs from what was sent."""
    if ctx.world.recovering:
        return
    targets = _targets(ctx, model)
    for service, target in targets.items():
        if model.routes.get(service) != target:
            _send(ctx, service, model.spec.name, target)
    for service in model.routes.keys() - targets.keys():
        _send(ctx, service, model.spec.name, None)
    model.routes = targets
    own = targets[model.spec.service_key]
    _vouch(ctx, model, own)
    ready = bool(own.pods) or on_demand(ctx.world, model)
    _count(ctx, model, loaded=bool(own.pods), ready=ready, failed=not ready and _failed(ctx, model))
    if status:
        ctx.emit(ModelStatusChanged(model.spec.key))


def forget(ctx: Context, model: Model) -> None:
    """The model is gone: its routes become unknown and it no longer counts."""
    for service in model.routes:
        _send(ctx, service, model.spec.name, None)
    model.routes = {}
    _count(ctx, model, loaded=False, ready=False, failed=False)


def refresh_pod(ctx: Context, pod: Pod) -> None:
    """A pod's address or its server's readiness changed: endpoint, its models' routes, its service's routes."""
    if ctx.world.recovering:
        return
    refresh_endpoint(ctx, pod)
    for copy in list(pod.copies.values()):
        model = ctx.model(ModelKey(pod.spec.namespace, copy.name), copy.uid)
        if model is not None:
            refresh(ctx, model)
    refresh_service(ctx, pod.spec.service_key)


def refresh_endpoint(ctx: Context, pod: Pod) -> None:
    """Tell the gateway where the pod is, ahead of any route to it."""
    endpoint = (pod.spec.ip, pod.spec.http_port, pod.spec.grpc_port) if pod.spec.ip else None
    if endpoint is not None and pod.routed != endpoint and pod.serves:
        pod.routed = endpoint
        ctx.emit(PodEndpointChanged(pod.spec.uid, *endpoint))


def refresh_service(ctx: Context, key: ServiceKey) -> None:
    """Recompute a service's model-less routes and whether it can take models."""
    service = ctx.world.services.get(key)
    if service is None or ctx.world.recovering:
        return
    pods = [ctx.world.pods[uid] for uid in ctx.world.pods_of.get(key, ())]
    route = frozenset(pod.spec.uid for pod in pods if pod.serves and not pod.leaving)
    if not route:  # better a leaving pod than none
        route = frozenset(pod.spec.uid for pod in pods if pod.serves)
    if not service.known_to_gateway or route != service.route:
        service.route = route
        service.known_to_gateway = True
        ctx.world.sequence += 1
        ctx.emit(ServiceRouteChanged(key, known=True, sequence=ctx.world.sequence, pods=route))
    usable = any(pod.serves for pod in pods) and service.spec.problem is None
    if usable != service.usable:
        service.usable = usable
        for model_key in ctx.world.models_of.get(key, ()):
            refresh(ctx, ctx.world.models[model_key])
    ctx.emit(ServiceStatusChanged(key))


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
        targets[service] = Target(serving) if serving else Target(unavailable=unavailable(ctx.world, model, ctx.now))
    return targets


def unavailable(world: World, model: Model, now: float) -> Unavailable:
    """Why no pod answers for the model: COLD when a request can be held until one does, else the cause."""
    service = world.services.get(model.spec.service_key)
    if service is None or service.spec.problem is not None:
        return Unavailable.SERVICE_NOT_READY
    if model.spec.framework.lower() not in service.spec.formats:
        return Unavailable.NO_RUNTIME
    if model.spec.problem is not None:
        return Unavailable.STORAGE_FAILED
    failure = failing(model, now)
    if failure is not None:
        return Unavailable.STORAGE_FAILED if failure.stage is FailureStage.STORAGE else Unavailable.LOAD_FAILED
    if model.refusal is not None and model.refusal.missing_bytes:
        return Unavailable.NO_MEMORY
    if model.memory is not None and not policy.fits_a_pod(service, model):
        return Unavailable.NO_MEMORY  # nor will there ever be
    return Unavailable.COLD if service.usable else Unavailable.SERVICE_NOT_READY


def failing(model: Model, now: float) -> CopyFailure | None:
    """The failure that requests are answered with: until the next try where it failed, or by its agent's tries."""
    for copy in model.copies.values():
        if policy.on_its_way(copy) and copy.report is not None and copy.report.failure is not None and not copy.current:
            return copy.report.failure
    return model.failure if model.probe is not None or model.retry_at > now else None


def on_demand(world: World, model: Model) -> bool:
    """It may be cold, and a request would have it loaded, as far as anyone knows."""
    service = world.services.get(model.spec.service_key)
    return (
        service is not None
        and model.vouched == model.spec.content
        and model.failure is None
        and policy.may_be_cold(service, model)
        and (model.memory is None or policy.fits_a_pod(service, model))
        and all(target.pods or target.unavailable is Unavailable.COLD for target in model.routes.values())
    )


def _vouch(ctx: Context, model: Model, own: Target) -> None:
    """Ready from now on if it answers, or if it is cold and its artifact was seen; until a try fails."""
    if model.failure is not None:
        model.vouched = ""
    elif any(copy.current for copy in model.copies.values()) or (
        not model.copies and model.artifact_seen == model.spec.content and own.unavailable is Unavailable.COLD
    ):
        model.vouched = model.spec.content


def _failed(ctx: Context, model: Model) -> bool:
    return model.failure is not None or unavailable(ctx.world, model, ctx.now) not in (
        Unavailable.COLD,
        Unavailable.SERVICE_NOT_READY,
    )


def _send(ctx: Context, service: ServiceKey, model: str, target: Target | None) -> None:
    ctx.world.sequence += 1
    ctx.emit(
        RouteChanged(
            service,
            model,
            ctx.world.sequence,
            pods=target.pods if target else frozenset(),
            unavailable=target.unavailable if target else None,
        )
    )


def _count(ctx: Context, model: Model, *, loaded: bool, ready: bool, failed: bool) -> None:
    if (loaded, ready, failed) == (model.loaded, model.ready, model.failed):
        return
    service: Service | None = ctx.world.services.get(model.spec.service_key)
    if service is not None:
        service.loaded_count += loaded - model.loaded
        service.ready_count += ready - model.ready
        service.failed_count += failed - model.failed
        ctx.emit(ServiceStatusChanged(service.spec.key))
    model.loaded, model.ready, model.failed = loaded, ready, failed

"""Views of single objects, built on demand from the world; see views.py for what they say."""

from shoal_api.messages import CopyPhase

from . import policy, routes, scaling, use
from .plans import plannable
from .values import ModelKey, ServiceKey
from .views import ActivationView, CopyState, CopyView, Decision, Endpoint, ModelView, ServiceView
from .world import NEVER, Copy, Pod, Service, Stage, World


def model_view(world: World, key: ModelKey, now: float, *, url: str) -> ModelView | None:
    """One TrainedModel as it stands; ``url`` is its InferenceService's. None when there is no such model."""
    model = world.models.get(key)
    if model is None:
        return None
    service = world.services.get(model.spec.service_key)
    own_pods = world.pods_of.get(model.spec.service_key, set())
    copies = tuple(
        CopyView(
            pod=world.pods[copy.pod_uid].spec.name,
            pod_uid=copy.pod_uid,
            state=_state(copy),
            serving=copy.stage is Stage.PLACED
            and copy.answers
            and world.pods[copy.pod_uid].serves
            and copy.pod_uid in own_pods,
            failure=copy.report.failure if copy.report is not None else None,
            requests_per_second=round(copy.rate.at(now), 2),
            age_seconds=now - copy.loaded_at if copy.loaded_at is not None else None,
        )
        for copy in model.copies.values()
    )
    blocked = any(
        policy.on_its_way(copy) and copy.answers and copy.want != model.want and copy.pod_uid in own_pods
        for copy in model.copies.values()
    )
    return ModelView(
        spec=model.spec,
        service=service.spec if service is not None else None,
        service_ready=service is not None and service.usable,
        url=url,
        copies=copies,
        refusal=model.refusal if service is not None and plannable(service, model) else None,
        update_blocked=blocked and model.refusal is not None,
        artifact_seen=model.artifact_seen == model.spec.content,
        failure=routes.failing(model, now) or model.failure,
        on_demand=routes.on_demand(world, model),
        memory_bytes=model.memory,
        artifact_bytes=model.artifact_bytes,
        min_copies=policy.floor(service, model) if service is not None else model.spec.min_copies or 0,
        wanted_copies=policy.wanted(service, model) if service is not None else 0,
        idle_seconds=now - model.last_used if model.last_used != NEVER else None,
        requests_per_second=round(use.rate(model, now), 2),
        decisions=tuple(Decision(now - each.at, each.pod, each.what, each.why) for each in model.decisions),
        pressure=service is not None and _pressed(world, service, now),
    )


def activation_view(world: World, key: ServiceKey, name: str, now: float) -> ActivationView | None:
    """What the activator needs of one model; None when nothing of that name belongs to the service."""
    model = world.models.get(ModelKey(key.namespace, name))
    service = world.services.get(key)
    if model is None or key not in (model.spec.service_key, model.former):
        return None
    target = model.routes.get(key)
    pods = [world.pods[uid].spec for uid in sorted(target.pods) if uid in world.pods] if target is not None else []
    why = routes.unavailable(world, model, now)
    failure = routes.failing(model, now)
    limits = (service.spec.activation_timeout, service.spec.max_held) if service is not None else (60.0, 1000)
    return ActivationView(
        endpoints=tuple(Endpoint(spec.ip, spec.http_port, spec.grpc_port) for spec in pods),
        unavailable=None if pods else why,
        message=failure.message if failure is not None else "",
        retry_after=max(1.0, model.retry_at - now) if failure is not None and model.retry_at > now else None,
        timeout=limits[0],
        max_held=limits[1],
    )


def _pressed(world: World, service: Service, now: float) -> bool:
    return now < service.pressed_at + world.timing.pressure


def service_view(world: World, key: ServiceKey, now: float, *, url: str, gateways: int) -> ServiceView | None:
    """One InferenceService as it stands. None when there is no such service."""
    service = world.services.get(key)
    if service is None:
        return None
    pods = [world.pods[uid] for uid in world.pods_of.get(key, ())]
    problems = (pod.spec.problem for pod in sorted(pods, key=lambda pod: pod.spec.name))
    return ServiceView(
        spec=service.spec,
        url=url,
        pods_wanted=scaling.wanted_pods(service),
        pods_ready=sum(_usable(pod) for pod in pods),
        models_total=len(world.models_of.get(key, ())),
        models_ready=service.ready_count,
        models_failed=service.failed_count,
        pod_problem=next((problem for problem in problems if problem is not None), None),
        gateways=gateways,
        models_loaded=service.loaded_count,
        pressure=_pressed(world, service, now),
        memory_ratios=tuple(
            (framework, round(ratio.declared, 2))
            for framework, ratio in sorted(service.ratios.items())
            if ratio.samples
        ),
        scaling_reason=service.scale.reason,
    )


def _usable(pod: Pod) -> bool:
    return pod.spec.ready and pod.placeable


def _state(copy: Copy) -> CopyState:
    if copy.stage is Stage.DRAINING:
        return CopyState.DRAINING
    if copy.stage is Stage.UNLOADING:
        return CopyState.UNLOADING
    if copy.current:
        return CopyState.LOADED
    report = copy.report
    if report is not None and report.failure is not None:
        return CopyState.OUTDATED if copy.answers else CopyState.FAILED
    if copy.answers:
        return CopyState.OUTDATED
    if report is not None and report.phase is CopyPhase.PULLING:
        return CopyState.PULLING
    if report is not None and report.phase is CopyPhase.PULLED:
        return CopyState.PULLED
    return CopyState.LOADING if report is not None and report.phase is CopyPhase.LOADING else CopyState.PENDING

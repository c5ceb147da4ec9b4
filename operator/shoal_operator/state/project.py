"""Views of single objects, built on demand from the world; see views.py for what they say."""

from shoal_api.messages import CopyPhase

from .plans import plannable
from .values import ModelKey, ServiceKey
from .views import CopyState, CopyView, ModelView, ServiceView
from .world import Copy, Pod, Stage, World


def model_view(world: World, key: ModelKey, *, url: str) -> ModelView | None:
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
        )
        for copy in model.copies.values()
    )
    blocked = any(
        copy.stage is Stage.PLACED and copy.want != model.want and copy.pod_uid in own_pods
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
    )


def service_view(world: World, key: ServiceKey, *, url: str, gateways: int) -> ServiceView | None:
    """One InferenceService as it stands. None when there is no such service."""
    service = world.services.get(key)
    if service is None:
        return None
    pods = [world.pods[uid] for uid in world.pods_of.get(key, ())]
    problems = (pod.spec.problem for pod in sorted(pods, key=lambda pod: pod.spec.name))
    return ServiceView(
        spec=service.spec,
        url=url,
        pods_wanted=service.spec.min_replicas,
        pods_ready=sum(_usable(pod) for pod in pods),
        models_total=len(world.models_of.get(key, ())),
        models_ready=service.ready_count,
        models_failed=service.failed_count,
        pod_problem=next((problem for problem in problems if problem is not None), None),
        gateways=gateways,
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
    return CopyState.LOADING if report is not None and report.phase is CopyPhase.LOADING else CopyState.PENDING

"""Views of single objects, built on demand from the world; see views.py for what they say."""

from dataclasses import fields
from itertools import islice

from shoal_api.messages import CopyPhase

from shoal_operator.state import wish
from shoal_operator.state.copies import routes, unregistered, waking
from shoal_operator.state.demand import candidates, scaling, use
from shoal_operator.state.world.effects import Unavailable
from shoal_operator.state.world.entities import NEVER, Copy, Pod, Service, Stage, World
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import ModelKey, ModelSpec, ServiceKey, is_group
from shoal_operator.state.world.views import (
    ActivationView,
    CopyState,
    CopyView,
    Decision,
    Endpoint,
    ModelView,
    ServiceView,
)

MAX_KEPT_SHOWN = 5


def model_view(world: World, key: ModelKey, now: float, *, url: str) -> ModelView | None:
    """One TrainedModel as it stands; ``url`` is its InferenceService's. None when there is no such model."""
    model = world.models.get(key)
    if model is None:
        return None
    service = world.services.get(model.spec.service_key)
    own_pods = world.pods_of.get(model.spec.service_key, ())
    copies = tuple(
        CopyView(
            pod=world.pods[copy.pod_uid].spec.name,
            pod_uid=copy.pod_uid,
            state=_state(copy, model.wanted_id),
            serving=service is not None
            and copy.stage is Stage.PLACED
            and copy.answers
            and world.pods[copy.pod_uid].serves
            and copy.pod_uid in own_pods,
            failure=copy.report.failure if copy.report is not None else None,
            requests_per_second=round(copy.rate.at(now), 2),
            age_seconds=now - copy.loaded_at if copy.loaded_at is not None else None,
            revision=(copy.report.revision or "") if copy.report is not None else "",
        )
        for copy in model.copies.values()
    )
    blocked = any(
        wish.on_its_way(copy) and copy.answers and copy.serving != model.wanted_id and copy.pod_uid in own_pods
        for copy in model.copies.values()
    )
    facts = routes.facts(world, model, routes.last_failure(model, now), now)
    return ModelView(
        **{each.name: getattr(facts, each.name) for each in fields(facts)},
        url=url,
        copies=copies,
        update_blocked=blocked and model.refusal is not None,
        artifact_seen=model.artifact_seen == model.spec.content,
        on_demand=model.ready and not model.loaded,
        artifact_bytes=model.artifact_bytes,
        wanted_copies=wish.copies_wanted(service, model) if service is not None else 0,
        wish=wish.wish_of(service, model, now) if service is not None else "",
        idle_seconds=now - model.last_used if model.last_used != NEVER else None,
        requests_per_second=round(use.rate(model, now), 2),
        decisions=tuple(Decision(now - each.at, each.pod, each.what, each.why) for each in model.decisions),
        pressure=service is not None and _pressed(world, service, now),
        last_good=model.last_good,
        revision=model.revision,
        kept_by=_kept(world, service) if service is not None and facts.kept_out else (),
        obtainable_bytes=service.obtainable if service is not None else None,
        phase=service.rest.phase if service is not None else Phase.UP,
    )


def refused_view(world: World, spec: ModelSpec, *, url: str) -> ModelView:
    """A model that is not in the world, since its name is another's; ``spec.problem`` says so."""
    service = world.services.get(spec.service_key)
    return ModelView(
        spec=spec,
        service=service.spec if service is not None else None,
        service_ready=service is not None and service.usable,
        url=url,
        copies=(),
        min_copies=spec.min_copies or 0,
    )


def _kept(world: World, service: Service) -> tuple[str, ...]:
    """Some of the models that are kept on the pod that could make most room; found in O(pods)."""
    pods = candidates.counted_on(world, service.spec.key)
    best = max(pods, key=lambda pod: (pod.ledger.obtainable, pod.spec.name), default=None)
    if best is None or not best.ledger.kept:
        return ()
    kept = (slot for slot, account in best.ledger.accounts.items() if account.kept_bytes)
    return tuple(islice(kept, MAX_KEPT_SHOWN))


def home(world: World, asked: ServiceKey, name: str) -> ServiceKey:
    """Whose model it is that is asked for at a host: the group's, where the host is called as the model itself."""
    model = world.models.get(ModelKey(asked.namespace, name)) if asked.name == name else None
    return model.spec.service_key if model is not None and is_group(model.spec.service) else asked


def activation_view(world: World, key: ServiceKey, name: str, now: float) -> ActivationView | None:
    """What the activator needs of one model; None when nothing of that name belongs to the service."""
    model = world.models.get(ModelKey(key.namespace, name))
    service = world.services.get(key)
    if model is None and service is not None and unregistered.may_be(service, name, now):
        return ActivationView(
            endpoints=(),
            unavailable=Unavailable.COLD if service.usable else Unavailable.SERVICE_NOT_READY,
            timeout=waking.waits(service),
            max_held=service.spec.max_held,
            unknown=True,
        )
    if model is None or key not in (model.spec.service_key, model.former):
        return None
    target = model.routes.get(key)
    pods = [world.pods[uid].spec for uid in sorted(target.pods) if uid in world.pods] if target is not None else []
    why = routes.unavailable(world, model, now)
    # Its last failure says nothing about another cause, such as an InferenceService that is gone.
    failure = routes.failing(model, now) if why in (Unavailable.STORAGE_FAILED, Unavailable.LOAD_FAILED) else None
    limits = (waking.waits(service), service.spec.max_held) if service is not None else (60.0, 1000)
    return ActivationView(
        endpoints=tuple(Endpoint(spec.ip, spec.http_port, spec.grpc_port, spec.server_type) for spec in pods),
        unavailable=None if pods else why,
        message=failure.message if failure is not None else "",
        retry_after=max(1.0, model.retry_at - now) if failure is not None and model.retry_at > now else None,
        timeout=limits[0],
        max_held=limits[1],
    )


def held_as(world: World, pod_uid: str, name: str, said: str) -> str | None:
    """The copy id of what an agent calls ``said``; None: the pod neither has it nor is to have it, and what its agent
    says of others is nobody's business of its."""
    pod = world.pods.get(pod_uid)
    copy = pod.copies.get(name) if pod is not None else None
    if copy is None:
        return None
    if said == copy.told:
        return copy.aim_id
    return said if said in (copy.aim_id, copy.serving) else None


def _pressed(world: World, service: Service, now: float) -> bool:
    return now < service.pressed_at + world.timing.pressure


def service_view(world: World, key: ServiceKey, now: float, *, url: str, gateways: int) -> ServiceView | None:
    """One InferenceService as it stands. None when there is no such service."""
    service = world.services.get(key)
    if service is None:
        return None
    pods = [world.pods[uid] for uid in world.pods_of.get(key, ())]
    by_name = sorted(pods, key=lambda pod: pod.spec.name)
    problems = (pod.spec.problem for pod in by_name)
    return ServiceView(
        spec=service.spec,
        url=url,
        pods_wanted=scaling.wanted_pods(service),
        pods_ready=sum(_usable(pod) for pod in pods),
        models_total=len(world.models.of(key)),
        models_ready=service.ready_count,
        models_failed=service.failed_count,
        pod_problem=next((problem for problem in problems if problem is not None), None),
        pod_waiting=next((pod.spec.waiting for pod in by_name if pod.spec.waiting and not pod.leaving), ""),
        gateways=gateways,
        models_loaded=service.loaded_count,
        pressure=_pressed(world, service, now),
        memory_ratios=tuple(
            (framework, round(ratio.declared, 2))
            for framework, ratio in sorted(service.ratios.items())
            if ratio.samples
        ),
        scaling_reason=service.scale.reason,
        phase=service.rest.phase,
        pod_expected=wish.pod_expected(world, service, now),
    )


def _usable(pod: Pod) -> bool:
    return pod.spec.ready and pod.placeable


def _state(copy: Copy, wanted: str) -> CopyState:
    if copy.stage is Stage.DRAINING:
        return CopyState.DRAINING
    if copy.stage is Stage.UNLOADING:
        return CopyState.UNLOADING
    if copy.serving == wanted:
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

"""Between state and placement: what there is to plan, and carrying a plan out."""

from . import copies
from .context import Context
from .routes import refresh
from .values import CopyAt, ModelKey, ModelNeed, Plan, PlanInput, PodOffer, ServiceKey
from .world import Model, Pod, Service, Stage, World

_NOWHERE: frozenset[str] = frozenset()


def plan_input(world: World, key: ServiceKey) -> PlanInput | None:
    """What placement has to decide for one service now; None when there is no such service.

    Costs O(pods + models to plan); all models only when load is to be evened out.
    """
    service = world.services.get(key)
    if service is None:
        return None
    pods = [world.pods[uid] for uid in sorted(world.pods_of.get(key, ()))]
    keys = world.models_of.get(key, set()) if service.balance else service.dirty
    occupied = [pod for pod in pods if pod.occupied]
    models = [world.models[k] for k in sorted(keys) if k in world.models]
    return PlanInput(
        service=key,
        pods=tuple(_offer(pod) for pod in pods),
        needs=tuple(_need(world, model, occupied) for model in models if plannable(service, model)),
        balance=service.balance,
    )


def plannable(service: Service, model: Model) -> bool:
    """Some runtime of the service could load the model, and its spec can be used."""
    return (
        service.spec.problem is None
        and model.spec.problem is None
        and model.spec.framework.lower() in service.spec.formats
    )


def carry_out(ctx: Context, plan: Plan) -> None:
    """Apply a plan, checking each decision against the world as it is now."""
    world = ctx.world
    service = world.services.get(plan.service)
    if service is None:
        return
    service.plan_requested = False
    service.balance = False
    service.dirty.clear()
    for placement in plan.retire:
        found = _find(world, placement.model, placement.pod_uid)
        if found is not None and placement.pod_uid in found[0].copies:
            copies.retire(ctx, found[1], found[0].copies[placement.pod_uid])
    for placement in plan.replace:
        found = _find(world, placement.model, placement.pod_uid)
        if found is not None and placement.pod_uid in found[0].copies:
            copies.replace(ctx, *found, found[0].copies[placement.pod_uid])
    for placement in plan.add:
        found = _find(world, placement.model, placement.pod_uid)
        if found is not None and found[1].placeable and placement.model.name not in found[1].copies:
            copies.place(ctx, *found)
    for key in plan.considered:
        model = world.models.get(key)
        if model is not None:
            refusal = plan.refused.get(key)
            if refusal is not None:
                service.waiting.add(key)
            else:
                service.waiting.discard(key)
            if refusal != model.refusal:
                model.refusal = refusal
                refresh(ctx, model)
    if plan.unbalanced:
        service.balance = True
        service.retry_at = ctx.now + 1.0
        world.retrying.add(plan.service)


def retry(ctx: Context) -> None:
    """Plan again for models that were refused, and services that are not balanced yet."""
    world = ctx.world
    for key in list(world.retrying):
        service = world.services.get(key)
        if service is None or service.retry_at is None:
            world.retrying.discard(key)
        elif ctx.now >= service.retry_at:
            service.retry_at = None
            world.retrying.discard(key)
            service.dirty |= service.waiting
            ctx.plan(service)


def _find(world: World, key: ModelKey, pod_uid: str) -> tuple[Model, Pod] | None:
    model, pod = world.models.get(key), world.pods.get(pod_uid)
    return (model, pod) if model is not None and pod is not None else None


def _offer(pod: Pod) -> PodOffer:
    return PodOffer(
        uid=pod.spec.uid,
        name=pod.spec.name,
        node=pod.spec.node,
        zone=pod.spec.zone,
        capacity=pod.spec.capacity_bytes,
        committed=pod.committed,
        copies=len(pod.copies),
        server_ready=pod.serves,
        agent_connected=pod.connected,
        leaving=pod.leaving,
    )


def _need(world: World, model: Model, pods: list[Pod]) -> ModelNeed:
    """``pods``: those with slots whose copy is on its way out."""
    at = []
    for copy in model.copies.values():
        if copy.stage is not Stage.PLACED:
            continue
        pod = world.pods[copy.pod_uid]
        sized = copy.want != model.want or copy.memory == model.spec.memory_bytes
        taken_back = copy.want != model.want and copy.serving == model.want
        at.append(
            CopyAt(
                pod_uid=copy.pod_uid,
                answers=copy.answers and pod.serves,
                current=copy.want == model.want and sized,
                loaded=copy.serving == model.want and sized and pod.serves,
                # A lost agent goes on serving what is loaded, and loads nothing.
                leaving=pod.leaving
                or pod.spec.service_key != model.spec.service_key
                or (pod.lost and not copy.answers),
                failed=copy.report is not None and copy.report.failure is not None,
                growth=0 if sized and not taken_back else copies.growth(model, copy),
            )
        )
    spec = model.spec
    occupied = frozenset(pod.spec.uid for pod in pods if spec.name in pod.occupied) if pods else _NOWHERE
    return ModelNeed(spec.key, spec.memory_bytes, spec.min_copies, tuple(at), occupied)

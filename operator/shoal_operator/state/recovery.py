"""The recovery barrier: after a start nothing leaves until the world is known again.

Known means: metadata lists of every kind were matched by UID, the store was read (or is lost), the epoch is claimed
above every agent's, and every ready pod's agent has reported, or the time for that is over. What agents hold and
users still want is adopted as it is, so a restart, and also a lost store, load nothing again.
"""

from . import copies, policy, probes, reports, routes, scaling
from .context import Context
from .effects import ClaimEpoch, CopyForgotten, DesiredChanged, Recovered
from .events import Kind
from .pods import note_health, release
from .world import Model, Pod, Service, Stage, World


def advance(ctx: Context) -> None:
    """End the recovery if everything it waits for has come."""
    world = ctx.world
    if not world.recovering:
        if world.highest_agent_epoch > world.epoch:
            _claim_above(ctx)  # an agent that was away until now; it refuses ours
        return
    if world.listed != set(Kind) or not world.store_loaded or not world.epoch:
        return
    late = [pod.spec.name for pod in _awaited(world)]
    if late and ctx.now < world.started_at + world.timing.recovery:
        return
    if world.highest_agent_epoch >= world.epoch:
        _claim_above(ctx)
        return
    world.recovering = False
    adopted = 0
    for pod in world.pods.values():
        adopted += _adopt(ctx, pod)
    _forget_unused(ctx)
    _announce(ctx)
    ctx.emit(Recovered(len(world.models), adopted, tuple(sorted(late))))


def _place_or_probe(ctx: Context, service: Service, model: Model) -> None:
    """A model that was Ready and that nobody holds was cold, and stays so until it is asked for or memory is free."""
    if model.memory is None and model.spec.problem is None:
        probes.want(ctx, service, model)
    if model.vouched == model.spec.content and not model.copies and policy.may_be_cold(service, model):
        model.target = 0
        service.cold[model.spec.key] = None
        ctx.plan_waiting(service)


def _claim_above(ctx: Context) -> None:
    world = ctx.world
    if world.epoch_wanted <= world.highest_agent_epoch:
        world.epoch_wanted = world.highest_agent_epoch + 1
        ctx.effects.append(ClaimEpoch(world.epoch_wanted))


def _awaited(world: World) -> list[Pod]:
    """Ready pods of known services whose agents have not said yet what they hold."""
    return [
        pod
        for pod in world.pods.values()
        if pod.spec.ready and not pod.known and pod.spec.service_key in world.services
    ]


def _adopt(ctx: Context, pod: Pod) -> int:
    """Take over what the pod holds: from its agent's report, or, when that is missing, from the store."""
    world = ctx.world
    adopted = 0
    if not pod.known:
        for stored in world.stored.get(pod.spec.uid, ()):
            model = ctx.model(stored.model, stored.uid)
            # With another content than the stored one the agent's report, when it comes, says what to do.
            current = model is not None and stored.content == model.spec.content
            if model is None or not current or stored.model.name in pod.copies:
                continue
            fits = model.memory is not None and model.memory <= pod.room
            if fits and model.spec.service_key == pod.spec.service_key:
                copies.place(ctx, model, pod)
                adopted += 1
        return adopted
    return sum(reports.adopt(ctx, pod, report) for report in pod.slots.values())


def _forget_unused(ctx: Context) -> None:
    """What the store said of pods and models that are no more, or are elsewhere, is not true any more."""
    world = ctx.world
    for pod_uid, stored in world.stored.items():
        pod = world.pods.get(pod_uid)
        for copy in stored:
            held = pod.copies.get(copy.model.name) if pod is not None else None
            if held is None or held.uid != copy.uid:
                ctx.emit(CopyForgotten(copy.uid, pod_uid))
    world.stored.clear()


def _announce(ctx: Context) -> None:
    """Say everything once: endpoints, routes, desired lists, status; and plan every service."""
    world = ctx.world
    for pod in world.pods.values():
        routes.refresh_endpoint(ctx, pod)
    for pod in world.pods.values():
        note_health(ctx, pod)
        pod.joined_at = ctx.now if pod.placeable else None
        ctx.emit(DesiredChanged(pod.spec.uid))
        routes.refresh_pod(ctx, pod)
    for key, service in world.services.items():
        routes.refresh_service(ctx, key)
        service.dirty |= world.models_of.get(key, set())
        if any(
            copy.stage is Stage.PLACED for uid in world.pods_of.get(key, ()) for copy in world.pods[uid].copies.values()
        ):
            service.held = False
            world.held.discard(key)
        elif any(world.pods[uid].placeable for uid in world.pods_of.get(key, ())):
            service.hold_until = ctx.now + world.timing.first_placement
            world.held.add(key)
        for model_key in world.models_of.get(key, ()):
            _place_or_probe(ctx, service, world.models[model_key])
        probes.assign(ctx, service)  # what was seen before now waits since
        scaling.begin(ctx, service)
        scaling.announce(ctx, service)
        release(ctx, key)
        ctx.plan(service)
    for model in world.models.values():
        routes.refresh(ctx, model)
    for model in world.models.values():
        reports.end_settled_move(ctx, model)  # now that routes were sent, whose acknowledgement it waits for

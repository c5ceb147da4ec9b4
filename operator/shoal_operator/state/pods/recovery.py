"""The recovery barrier: after a start nothing leaves until the world is known again.

Known means: metadata lists of every kind were matched by UID, the store was read (or is lost), the epoch is claimed
above every agent's, and every ready pod's agent has reported, or the time for that is over, which begins when all
else is there: a slow store or API server does not use it up. What agents hold and
users still want is adopted as it is, so a restart, and also a lost store, load nothing again.

Adopting and saying everything once is work for all, in pieces (``World.recovery`` says how far it is); nothing is
planned, and no time passes for models, before it is done.
"""

from collections.abc import Iterable, Sequence
from functools import partial

from shoal_operator.state import wish
from shoal_operator.state.copies import life, probes, routes
from shoal_operator.state.demand import resting, scaling
from shoal_operator.state.pods import limits, reports
from shoal_operator.state.pods.health import end_gathering, gather, note_health, stop_gathering, weigh
from shoal_operator.state.pods.moves import end_finished_move
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import ClaimEpoch, CopyForgotten, DesiredChanged, Recovered
from shoal_operator.state.world.entities import Model, Pod, Recovery, Service, Stage, World
from shoal_operator.state.world.events import Kind, StoredCopy
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.values import ModelKey


def advance(ctx: Context) -> None:
    """Go on with the recovery if everything that its next part waits for has come."""
    if not ctx.world.silent and ctx.world.highest_agent_epoch > ctx.world.epoch:
        _claim_above(ctx)  # an agent that was away until now; it refuses ours
    if ctx.world.recovery is Recovery.WAITING:
        _wait(ctx)
    if ctx.world.recovery is Recovery.ADOPTING:
        _adopted(ctx)
    if ctx.world.recovery is Recovery.ANNOUNCING and not ctx.world.pieces.under_way(Task.ANNOUNCE):
        _end(ctx)


def _wait(ctx: Context) -> None:
    world = ctx.world
    if world.listed != set(Kind) or not world.store_loaded or not world.epoch:
        return
    if world.awaiting_since is None:
        world.awaiting_since = ctx.now  # agents of pods that are not known yet are sent away: their time begins now
    late = [pod.spec.name for pod in _awaited(world)]
    if late and ctx.now < world.awaiting_since + world.timing.recovery:
        return
    if world.highest_agent_epoch >= world.epoch:
        _claim_above(ctx)
        return
    world.recovery, world.late = Recovery.ADOPTING, tuple(sorted(late))
    world.pieces.put(Task.PODS, "", world.pods)


def store_loaded(ctx: Context, stored: Iterable[StoredCopy]) -> None:
    """What pods held by the store's word."""
    ctx.world.store_loaded = True
    for copy in stored:
        ctx.world.stored.setdefault(copy.pod_uid, []).append(copy)


def meet(ctx: Context, uids: Sequence[str]) -> None:
    """A piece of pods: where they are, and what they hold."""
    world = ctx.world
    for uid in uids:
        pod = world.pods.get(uid)
        if pod is None or pod.gone:
            continue
        routes.refresh_endpoint(ctx, pod)
        note_health(ctx, pod)
        ctx.emit(DesiredChanged(uid))
        if pod.known:
            limits.recovered(world, pod)
            reports.take_in(ctx, pod, reports.begin(ctx, pod))
        else:
            count = len(world.stored.get(uid, ()))
            restore(ctx, pod, world.pieces.begin(Task.STORED, uid, range(count)))


def _adopted(ctx: Context) -> None:
    """Once all is adopted: every service, then every model."""
    world = ctx.world
    if world.pieces.pending(Task.PODS, "") or any(map(partial(_unfinished, world), world.pods.values())):
        return
    world.recovery = Recovery.ANNOUNCING
    for key in world.models.services():
        with ctx.contained("recovery", key):
            world.pieces.put_all(Task.ANNOUNCE, key, world.models.of(key))
    for key, service in world.services.items():
        with ctx.contained("recovery", key):
            resting.begin(ctx, service)
            routes.refresh_service(ctx, key)
            if any(_holds_any(world.pods[uid]) for uid in world.pods_of.get(key, ())):
                stop_gathering(ctx, key)
            elif any(world.pods[uid].placeable for uid in world.pods_of.get(key, ())):
                gather(ctx, service)


def announce(ctx: Context, keys: Sequence[ModelKey]) -> None:
    """A piece of models: their routes and status, said once."""
    world = ctx.world
    for key in keys:
        model = world.models.get(key)
        if model is None:
            continue
        service = world.services.get(model.spec.service_key)
        if service is not None:
            ctx.plan_later(service, [key])
            wish.choose_content(ctx, model)
            _place_or_probe(ctx, service, model)
        routes.refresh(ctx, model)
        end_finished_move(ctx, model)  # now that routes were sent, whose acknowledgement it waits for


def _end(ctx: Context) -> None:
    world = ctx.world
    world.recovery = Recovery.DONE
    forget_unused(ctx, world.pieces.begin(Task.FORGET, "", world.stored))
    for key, service in world.services.items():
        with ctx.contained("recovery", key):
            probes.assign(ctx, service)  # what was seen before now waits since
            weigh(ctx, key)
            scaling.begin(ctx, service)
            scaling.announce(ctx, service)
            end_gathering(ctx, key)
            ctx.plan(service)
    adopted = sum(len(pod.copies) - len(pod.unloading) for pod in world.pods.values())
    ctx.emit(Recovered(len(world.models), adopted, world.late))


def _holds_any(pod: Pod) -> bool:
    return any(copy.stage is Stage.PLACED for copy in pod.copies.values())


def _place_or_probe(ctx: Context, service: Service, model: Model) -> None:
    """A model that was Ready and that nobody holds was cold, and stays so until it is asked for or memory is free."""
    if model.size is None and model.spec.problem is None:
        probes.look_up(ctx, service, model)
    if model.vouched == model.spec.content and not model.copies and wish.may_be_cold(service, model):
        wish.cool(service, model, used=True)
        ctx.offer_memory(service)


def _claim_above(ctx: Context) -> None:
    world = ctx.world
    if world.epoch_wanted <= world.highest_agent_epoch:
        world.epoch_wanted = world.highest_agent_epoch + 1
        ctx.say(ClaimEpoch(world.epoch_wanted))


def _awaited(world: World) -> list[Pod]:
    """Ready pods of known services whose agents have not said yet what they hold."""
    return [
        pod
        for pod in world.pods.values()
        if pod.spec.ready and not pod.known and pod.spec.service_key in world.services
    ]


def _unfinished(world: World, pod: Pod) -> bool:
    return (pod.known and not pod.taken_in and not pod.gone) or world.pieces.pending(Task.STORED, pod.spec.uid)


def restore(ctx: Context, pod: Pod, numbers: Iterable[int]) -> None:
    """A piece of what a pod held by the store's word, while its agent has not said it."""
    known = ctx.world.stored.get(pod.spec.uid, [])
    for stored in (known[number] for number in numbers if number < len(known)):
        model = ctx.model(stored.model, stored.uid)
        # With another content than the stored one the agent's report, when it comes, says what to do.
        names = (model.wanted_id, wish.name_of(model, model.revision)) if model is not None else ()
        current = f"{stored.uid}.{stored.content}" in names
        if model is None or not current or stored.model.name in pod.copies:
            continue
        fits = model.memory is not None and model.memory <= pod.room
        if fits and model.spec.service_key == pod.spec.service_key:
            life.place(ctx, model, pod)


def forget_unused(ctx: Context, uids: Iterable[str]) -> None:
    """A piece of what the store said: of pods and models that are gone, or are elsewhere, it is not true any more."""
    world = ctx.world
    for uid in uids:
        pod = world.pods.get(uid)
        for copy in world.stored.pop(uid, ()):
            copy_there = pod.copies.get(copy.model.name) if pod is not None else None
            if copy_there is None or copy_there.uid != copy.uid:
                ctx.emit(CopyForgotten(copy.uid, uid))

"""An agent's report: what its pod's slots and server are, and what follows from it."""

from shoal_api.messages import CopyPhase, SlotReport, SyncRequest

from . import copies
from .context import Context
from .pods import joined, note_health, start_leaving
from .routes import refresh, refresh_pod
from .values import ModelKey
from .world import Copy, Model, Pod, Stage


def apply(ctx: Context, request: SyncRequest) -> None:
    """Take in one sync request. Whether its delta fitted shows in ``Pod.observed_version`` (0: send everything)."""
    world = ctx.world
    pod = world.pods.get(request.pod_uid)
    if pod is None or request.session < pod.session:
        return  # unknown, or a late message of a process that has ended
    if request.session == pod.session and request.observed_version < pod.latest:
        return  # a late copy of an older message: what it says of anything is over
    if not pod.heard:
        pod.heard = True
        world.highest_agent_epoch = max(world.highest_agent_epoch, request.epoch)
    if pod.session != request.session:
        pod.session = request.session
        pod.observed_version = 0
    pod.latest = request.observed_version
    was_placeable, served = pod.placeable, pod.serves
    pod.server = request.server
    changed = _merge(pod, request)
    pod.known |= pod.observed_version > 0
    pod.connected = pod.known
    pod.lost = False
    was_draining, pod.draining = pod.draining, request.draining
    if world.recovering:
        return
    if pod.serves != served:
        note_health(ctx, pod)
        refresh_pod(ctx, pod)
    for name in changed:
        _slot_changed(ctx, pod, name)
    if pod.observed_version:  # else `slots` is not what the agent holds, which it is asked for
        copies.confirm(ctx, pod, request.desired_version)
    if pod.draining != was_draining:
        start_leaving(ctx, pod)  # or stays after all: its models are planned anew
    if pod.placeable and not was_placeable:
        joined(ctx, pod)


def _merge(pod: Pod, request: SyncRequest) -> set[str]:
    """Bring ``pod.slots`` up to date; returns the names whose slots may have changed."""
    reported = {slot.name: slot for slot in request.observed}
    if request.observed_base is None:
        changed = {name for name in pod.slots.keys() | reported.keys() if pod.slots.get(name) != reported.get(name)}
        pod.slots = reported
    elif request.observed_base == pod.observed_version and pod.observed_version:
        changed = reported.keys() | set(request.observed_gone)
        pod.slots.update(reported)
        for name in request.observed_gone:
            pod.slots.pop(name, None)
    else:
        pod.observed_version = 0
        return set()
    pod.observed_version = request.observed_version
    return changed


def _slot_changed(ctx: Context, pod: Pod, name: str) -> None:
    report = pod.slots.get(name)
    copy = pod.copies.get(name)
    if copy is None:
        model = ctx.world.models.get(ModelKey(pod.spec.namespace, name))
        if report is not None and adopt(ctx, pod, report) and model is not None:
            refresh(ctx, model)
            end_settled_move(ctx, model)
            ctx.plan_model(model)
        return
    answered, was_current, failed = (
        copy.answers,
        copy.current,
        copy.report is not None and copy.report.failure,
    )
    copy.report = report
    copy.serving = report.serving if report is not None else None
    if report is not None and report.target == copy.want:
        copy.replacing = False
    copies.charge(pod, copy)
    model = ctx.model(ModelKey(pod.spec.namespace, name), copy.uid)
    if model is None or copy.stage is not Stage.PLACED:
        return
    if report is not None and report.phase in (CopyPhase.LOADING, CopyPhase.LOADED) and report.target == model.want:
        model.artifact_seen = model.spec.content
    refresh(ctx, model)
    if copy.current and not was_current:
        _settled(ctx, pod, model, copy)
    elif answered and not copy.answers and not failed:
        ctx.plan_model(model)


def _settled(ctx: Context, pod: Pod, model: Model, copy: Copy) -> None:
    """The wanted content answers: copies that were only kept until now can go, and memory may be free again."""
    if model.former is not None and copy.pod_uid in ctx.world.pods_of.get(model.spec.service_key, ()):
        end_move(ctx, model)
    if len(model.copies) > model.spec.min_copies:
        ctx.plan_model(model)
    service = ctx.world.services.get(pod.spec.service_key)
    if service is not None:
        ctx.plan_waiting(service)


def end_move(ctx: Context, model: Model) -> None:
    """The model's new InferenceService serves it, or the time for that is over: the former one lets go."""
    former, model.former = model.former, None
    for copy in list(model.copies.values()):
        pod = ctx.world.pods[copy.pod_uid]
        if pod.spec.service_key == former:
            copies.retire(ctx, pod, copy)
    refresh(ctx, model)


def end_settled_move(ctx: Context, model: Model) -> None:
    """End a move that was found, not begun, when its new InferenceService serves the model already."""
    own = ctx.world.pods_of.get(model.spec.service_key, ())
    if model.former is not None and any(copy.current and copy.pod_uid in own for copy in model.copies.values()):
        end_move(ctx, model)


def adopt(ctx: Context, pod: Pod, report: SlotReport) -> bool:
    """Take over what the agent holds and nobody placed: as it is if its model exists and it fits, else to unload.

    What a former InferenceService's pod still serves is a move that another operator began: it goes on.
    """
    model = ctx.world.models.get(ModelKey(pod.spec.namespace, report.name))
    held = report.serving or report.target
    if model is None or held is None or not held.startswith(model.spec.uid + "."):
        copies.adopt_stray(pod, report.name, 0)
        return False
    double = report.serving is not None and report.target not in (None, report.serving)
    due = model.spec.memory_bytes * (2 if double else 1)
    # Loading what nobody wants any more has to go first, since both may not fit.
    superseded = report.serving is None and report.target != model.want
    free = pod.spec.capacity_bytes - pod.committed
    # What answers with the wanted content stays, also when it was declared larger meanwhile: placement moves it.
    fits = due <= free or (report.serving == model.want and not double and free >= 0)
    moving = pod.spec.service_key != model.spec.service_key
    foreign = moving and (report.serving is None or model.former not in (None, pod.spec.service_key))
    if superseded or not fits or foreign:
        copies.adopt_stray(pod, report.name, due)
        return False
    copy = copies.place(ctx, model, pod)
    if due > free:
        copy.memory = free
        pod.desired.set(copy.name, copy.intent())
    copy.report, copy.serving = report, report.serving
    if moving:
        model.former, model.former_until = pod.spec.service_key, ctx.now + ctx.world.timing.service_move
        ctx.world.moving.append((model.former_until, model.spec.key))
    if copy.serving == copy.want:
        model.artifact_seen = model.spec.content
    elif copy.serving is not None and (moving or report.target != copy.want):
        # The content changed while no operator ran: whether there is room for both is placement's to decide.
        copy.want = copy.serving
        pod.desired.set(copy.name, copy.intent())
    copies.charge(pod, copy)
    return True

"""An agent's report: what its pod's slots and server are, and what follows from it."""

from shoal_api.messages import Action, CopyFailure, CopyPhase, SlotReport, SyncRequest

from . import copies, demand, memory, probes, use
from .context import Context
from .pods import joined, note_health, start_leaving
from .policy import floor, on_its_way, wanted
from .routes import refresh, refresh_pod
from .values import ModelKey
from .world import Copy, Model, Pod, Service


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
    before, pod.server = pod.server, request.server
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
    service = world.services.get(pod.spec.service_key)
    if service is not None:
        memory.measured(service, pod, before, request.server)
    if request.use or request.use_now:
        use.apply(ctx, pod, request)
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
    elif 0 < request.observed_base <= pod.observed_version:
        # From an older base it says some things again, as they are now.
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
        _unplaced(ctx, pod, name, report)
        return
    answered, was_current, failed = copy.answers, copy.current, _failure_of(copy)
    copy.report = report
    copy.serving = report.serving if report is not None else None
    if report is not None and report.target == copy.want:
        copy.replacing = False
    copies.charge(pod, copy)
    model = ctx.model(ModelKey(pod.spec.namespace, name), copy.uid)
    if model is None or not on_its_way(copy):
        return
    service = ctx.world.services.get(pod.spec.service_key)
    if report is not None and report.target == model.want:
        if report.phase in (CopyPhase.PULLED, CopyPhase.LOADING, CopyPhase.LOADED):
            model.artifact_seen = model.spec.content
        if memory.learn_size(service, model, report.artifact_bytes):
            ctx.plan_model(model)
        if report.failure is not None and report.failure != failed:
            _failed(ctx, service, pod, model, copy)
    if copy.current and not was_current:
        model.worked()
        pod.failing.discard(name)
        memory.count(pod, copy, model)
        use.loaded(ctx, pod, copy, model)
    elif answered and not copy.answers:
        memory.count(pod, copy, None)
        pod.lru.pop(name, None)
    refresh(ctx, model)
    if copy.current and not was_current:
        _settled(ctx, pod, model, copy)
    elif answered and not copy.answers and not failed:
        ctx.plan_model(model)


def _unplaced(ctx: Context, pod: Pod, name: str, report: SlotReport | None) -> None:
    """A slot that is no copy: a probe, or something that nobody placed."""
    if report is None:
        return
    if name in pod.probes:
        probes.reported(ctx, pod, report)
        return
    model = ctx.world.models.get(ModelKey(pod.spec.namespace, name))
    if _only_looks(report):
        return  # its agent lets go of it
    if adopt(ctx, pod, report) and model is not None:
        refresh(ctx, model)
        end_settled_move(ctx, model)
        ctx.plan_model(model)


def _only_looks(report: SlotReport) -> bool:
    """The agent holds nothing for the slot but the knowledge of its artifact."""
    return report.serving is None and (report.action is Action.STAT or report.phase is CopyPhase.SEEN)


def _failure_of(copy: Copy) -> CopyFailure | None:
    return copy.report.failure if copy.report is not None else None


def _failed(ctx: Context, service: Service | None, pod: Pod, model: Model, copy: Copy) -> None:
    failure = _failure_of(copy)
    if failure is None:
        return
    if service is not None:
        service.stats.failed(failure.reason)
    if not copy.current:
        model.note_failure(failure)
        demand.settled(ctx, model)
        if not copy.answers:
            pod.failing.add(copy.name)
            if service is not None:
                ctx.plan_waiting(service)  # it may make way for others now


def _settled(ctx: Context, pod: Pod, model: Model, copy: Copy) -> None:
    """The wanted content answers: copies that were only kept until now can go, and memory may be free again."""
    service = ctx.world.services.get(pod.spec.service_key)
    why = "a request waited for it" if model.spec.key in ctx.world.asking else "there was room"
    model.decide(ctx.now, pod.spec.name, "Loaded", why)
    demand.settled(ctx, model)
    if service is not None:
        service.stats.loads += 1
    if model.former is not None and copy.pod_uid in ctx.world.pods_of.get(model.spec.service_key, ()):
        end_move(ctx, model)
    if service is not None and len(model.copies) > wanted(service, model):
        ctx.plan_model(model)
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
    if _only_looks(report):
        return False
    model = ctx.world.models.get(ModelKey(pod.spec.namespace, report.name))
    held = report.serving or report.target
    if model is not None:
        memory.learn_size(ctx.world.services.get(pod.spec.service_key), model, report.artifact_bytes)
    if model is None or held is None or not held.startswith(model.spec.uid + "."):
        copies.adopt_stray(pod, report.name, 0)
        return False
    double = report.serving is not None and report.target not in (None, report.serving)
    due = (model.memory or 0) * (2 if double else 1)
    # Loading what nobody wants any more has to go first, since both may not fit.
    superseded = report.serving is None and report.target != model.want
    free = pod.room
    # What answers with the wanted content stays, also when it was declared larger meanwhile: placement moves it.
    fits = due <= free or (report.serving == model.want and not double and free >= 0)
    moving = pod.spec.service_key != model.spec.service_key
    foreign = moving and (report.serving is None or model.former not in (None, pod.spec.service_key))
    if superseded or not fits or foreign:
        copies.adopt_stray(pod, report.name, due)
        return False
    probes.end(ctx, model)
    copy = copies.place(ctx, model, pod, memory=min(due, free) if due > free else None)
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
    service = ctx.world.services.get(pod.spec.service_key)
    if service is not None:
        service.cold.pop(model.spec.key, None)
    # Copies of a hot model, until its rate is known again; one too many after a move goes soon.
    model.target = max(model.target, sum(on_its_way(held) for held in model.copies.values()))
    if service is not None and model.target > max(1, floor(service, model)):
        service.hot.add(model.spec.key)
        ctx.review(service)
    if report.failure is not None and not copy.answers and report.target == model.want:
        _failed(ctx, None, pod, model, copy)  # counted already, by whom it was told to first
    if copy.answers:
        memory.count(pod, copy, model)
        use.loaded(ctx, pod, copy, model)
        copy.loaded_at = ctx.now - ctx.world.timing.residency  # or longer ago: it was there before this operator
        copy.requests = None  # what it counted before, somebody else was told
    return True

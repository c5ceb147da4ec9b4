"""An agent's report: what its pod's slots and server are, and what follows from it."""

from collections.abc import Collection, Iterable

from shoal_api.messages import CopyFailure, CopyPhase, SlotReport

from shoal_operator.state import wish
from shoal_operator.state.copies import checks, life, memory, outcomes, probes, recency
from shoal_operator.state.copies.routes import refresh, refresh_endpoint, refresh_pod
from shoal_operator.state.demand import cold, use
from shoal_operator.state.pods import adoption, limits, revisions
from shoal_operator.state.pods.health import joined, note_health, start_leaving, weigh
from shoal_operator.state.pods.moves import end_finished_move, end_move
from shoal_operator.state.wish import copies_wanted, on_its_way
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import Copy, Model, Pod, World
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.report import AgentReport
from shoal_operator.state.world.values import ModelKey


def apply(ctx: Context, request: AgentReport) -> None:
    """Take in one report. Whether its delta fitted shows in ``Pod.observed_version`` (0: send everything)."""
    world = ctx.world
    pod = world.pods.get(request.pod_uid)
    if pod is None or pod.gone or request.session < pod.session:
        return  # unknown, or a late message of a process that has ended
    if request.epoch > limits.epoch_limit(world):
        return  # the border has refused it, and said so
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
    changed = _merge(world, pod, request)
    if pod.observed_version:
        changed += _obeyed(pod, request.desired_version)
    pod.known |= pod.observed_version > 0
    pod.lost = False
    was_draining, pod.draining = pod.draining, request.draining
    if world.silent:
        return
    if request.server.frozen != (before is not None and before.frozen):
        refresh_endpoint(ctx, pod)  # ahead of routes that others' being believed leads to
        weigh(ctx, pod.spec.service_key)
    if pod.serves != served:
        note_health(ctx, pod)
        refresh_pod(ctx, pod)
    _take_in(ctx, pod, begin(ctx, pod, changed))
    service = world.services.get(pod.spec.service_key)
    if service is not None:
        memory.measured(service, pod, before, request.server)
    if request.use or request.use_now:
        use.apply(ctx, pod, request)
    if pod.observed_version:  # else `slots` is not what the agent holds, which it is asked for
        life.confirm(ctx, pod)
    if pod.draining != was_draining:
        start_leaving(ctx, pod)  # or stays after all: its models are planned anew
    if pod.placeable and not was_placeable:
        joined(ctx, pod)


def begin(ctx: Context, pod: Pod, changed: Collection[str] = ()) -> list[str]:
    """Slots that an agent reported: those to be taken in now, the rest in pieces. All of them the first time."""
    pieces, uid = ctx.world.pieces, pod.spec.uid
    first = pod.known and not pod.taken_in and not pieces.pending(Task.SLOTS, uid)
    if first:
        refresh_endpoint(ctx, pod)  # ahead of the first route there
    return pieces.begin(Task.SLOTS, uid, [*changed, *pod.slots] if first else changed)


def take_in(ctx: Context, pod: Pod, names: Iterable[str]) -> None:
    """One piece of them."""
    was_placeable = pod.placeable
    _take_in(ctx, pod, names)
    if pod.placeable and not was_placeable:
        joined(ctx, pod)


def _take_in(ctx: Context, pod: Pod, names: Iterable[str]) -> None:
    for name in names:
        _slot_changed(ctx, pod, name)
    if pod.known and not pod.taken_in and not ctx.world.pieces.pending(Task.SLOTS, pod.spec.uid):
        pod.taken_in = True


def _merge(world: World, pod: Pod, request: AgentReport) -> list[str]:
    """Bring ``pod.slots`` up to date; returns the names whose slots may have changed."""
    reported = {slot.name: slot for slot in limits.admitted(world, pod, request.observed)}
    if request.observed_base is None:
        changed = [name for name in {**pod.slots, **reported} if pod.slots.get(name) != reported.get(name)]
        pod.slots = reported
    elif 0 < request.observed_base <= pod.observed_version:
        # From an older base it says some things again, as they are now.
        changed = list(dict.fromkeys((*reported, *request.observed_gone)))
        pod.slots.update(reported)
        for name in request.observed_gone:
            pod.slots.pop(name, None)
    else:
        pod.observed_version = 0
        return []
    pod.observed_version = request.observed_version
    return changed


def _obeyed(pod: Pod, version: int) -> list[str]:
    """The agent holds this version of its list: slots that it says nothing new of, and means otherwise."""
    pod.obeyed = version
    found = [name for name in pod.unobeyed if pod.copies[name].replacing <= version]
    for name in found:
        pod.unobeyed.discard(name)
    return found


def _slot_changed(ctx: Context, pod: Pod, name: str) -> None:
    report = pod.slots.get(name)
    copy = pod.copies.get(name)
    if copy is None:
        _unplaced(ctx, pod, name, report)
        return
    answered, was_current, failed = copy.answers, copy.current, _failure_of(copy)
    report = revisions.heard(ctx, pod, copy, report)
    life.heard(pod, copy, report)
    life.observed(ctx, pod, copy)
    model = ctx.model(ModelKey(pod.spec.namespace, name), copy.uid)
    if model is None or not on_its_way(copy):
        return
    service = ctx.world.services.get(pod.spec.service_key)
    if was_current and not copy.current and wish.asked(model, ctx.now):
        life.hurry(ctx, model, urgent=True)  # a request came while it was there, and it is to be loaded again
    if report is not None and report.target == model.wanted_id:
        if report.phase in (CopyPhase.PULLED, CopyPhase.LOADING, CopyPhase.LOADED):
            wish.saw(model)
        if memory.learn_size(service, model, report.artifact_bytes):
            ctx.plan_model(model)
    if report is not None and report.target == copy.aim_id and report.failure not in (None, failed):
        outcomes.failed(ctx, service, pod, model, copy)
        if service is not None:
            cold.tried_in_vain(ctx, service, model)
    if copy.serving == model.wanted_id and copy.current and not was_current:
        wish.worked(model)
    if copy.current and not was_current:
        memory.count(pod, copy, model)
        use.loaded(ctx, pod, copy, model)
    elif answered and not copy.answers:
        memory.count(pod, copy, None)
        recency.answers_no_more(pod, name)
    refresh(ctx, model)
    if copy.current and not was_current:
        _answers_now(ctx, pod, model, copy)
    elif answered and not copy.answers and not failed:
        ctx.plan_model(model)


def _unplaced(ctx: Context, pod: Pod, name: str, report: SlotReport | None) -> None:
    """A slot that is no copy: a probe, or something that nobody placed."""
    if report is None:
        return
    if name in pod.probes:
        model = ctx.model(ModelKey(pod.spec.namespace, name), pod.probes[name])
        found = model is not None and report.target == model.wanted_id and report.phase is CopyPhase.SEEN
        if model is not None and found and not model.revision:
            revisions.seen(ctx, model, pod, report.listed_revision)  # ahead of what is said of it
        probes.reported(ctx, pod, report)
        if model is not None and found:
            revisions.seen(ctx, model, pod, report.listed_revision)
        return
    if adoption.only_looks(report):
        return  # its agent lets go of it
    adopted = adoption.adopt(ctx, pod, report)
    model = ctx.world.models.get(ModelKey(pod.spec.namespace, name))  # known since then, where nobody registered it
    if adopted and model is not None:
        refresh(ctx, model)
        end_finished_move(ctx, model)
        ctx.plan_model(model)


def _failure_of(copy: Copy) -> CopyFailure | None:
    return copy.report.failure if copy.report is not None else None


def _answers_now(ctx: Context, pod: Pod, model: Model, copy: Copy) -> None:
    """The wanted content answers: copies that were only kept until now can go, and memory may be free again."""
    service = ctx.world.services.get(pod.spec.service_key)
    why = "there was room"
    if model.spec.key in ctx.world.asked:
        why = "a request waited for it"
        copy.awaited_until = pod.awaited_until = ctx.now + ctx.world.timing.first_answer
    model.decide(ctx.now, pod.spec.name, "Loaded", why)
    wish.answered(ctx.world, model)
    checks.watch(ctx, model)
    if service is not None:
        service.stats.loads += 1
    if model.former is not None and copy.pod_uid in ctx.world.pods_of.get(model.spec.service_key, ()):
        end_move(ctx, model)
    if service is not None and (len(model.copies) > copies_wanted(service, model) or _others_follow(model)):
        ctx.plan_model(model)
    if service is not None:
        ctx.offer_memory(service)


def _others_follow(model: Model) -> bool:
    """Copies of an older revision waited for this one."""
    return any(on_its_way(copy) and copy.aim_id != model.aim_id for copy in model.copies.values())

"""Adoption: what agents hold and nobody placed, after a start or a change that nobody saw, is taken over as it is.

What users still want stays where it is, also in the middle of an update or a move that another operator began. The rest
is a stray: its name and its memory are taken until its agent has confirmed that it is gone.
"""

from shoal_api.messages import Action, CopyPhase, SlotReport

from shoal_operator.state import wish
from shoal_operator.state.copies import life, memory, outcomes, probes, unregistered
from shoal_operator.state.demand import use
from shoal_operator.state.pods import moves, revisions
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import Model, Pod
from shoal_operator.state.world.values import ModelKey


def only_looks(report: SlotReport) -> bool:
    """The agent holds nothing for the slot but the knowledge of its artifact."""
    return report.serving is None and (report.action is Action.STAT or report.phase is CopyPhase.SEEN)


def adopt(ctx: Context, pod: Pod, report: SlotReport) -> bool:
    """Take over what the agent holds: as it is if its model exists and it fits, else to unload (False).

    What a former InferenceService's pod still serves is a move that another operator began: it goes on.
    """
    if only_looks(report):
        return False
    service = ctx.world.services.get(pod.spec.service_key)
    key, said = ModelKey(pod.spec.namespace, report.name), report
    model = ctx.world.models.get(key) or unregistered.held(ctx, service, key, report.serving or report.target)
    if model is not None:
        report = revisions.met(model, report)
    holds = report.serving or report.target
    if model is None or holds is None or not holds.startswith(model.spec.uid + "."):
        life.adopt_stray(pod, report.name, memory.of_stray(report))
        return False
    memory.learn_size(service, model, report.artifact_bytes)
    memory.learn_from_holder(model, report)
    sizes, free = _sizes(model, report, pod.room), pod.room
    due = sum(sizes.values())
    # Loading what nobody wants any more has to go first, since both may not fit.
    superseded = report.serving is None and report.target != model.aim_id
    # What answers with the wanted content stays, also when it was declared larger meanwhile: placement moves it.
    tight = due > free >= 0 and sizes.keys() == {model.aim_id} and report.serving == model.aim_id
    moving = pod.spec.service_key != model.spec.service_key
    foreign = moving and (report.serving is None or model.former not in (None, pod.spec.service_key))
    # What only waits for memory has none, and must not get that of what has some and is told later. Its agent may know
    # more of the bytes: it was told to load since.
    waits = report.serving is None and report.action is Action.PULL
    if waits or superseded or foreign or (due > free and not tight):
        life.adopt_stray(pod, report.name, (report.held_bytes or 0) if waits else due)
        return False
    probes.end(ctx, model)
    # An update that was begun goes on. Whether there is room for one that was not is placement's to decide.
    begun = report.serving is None or (report.target == model.aim_id and not moving)
    aim_id = model.aim_id if begun or report.serving is None else report.serving
    told = said.target if report.target == aim_id else said.serving if report.serving == aim_id else aim_id
    if tight:
        copy = life.adopt_tight(ctx, model, pod, due, told=told or aim_id)
    else:
        copy = life.adopt(ctx, model, pod, sizes, aim_id=aim_id, told=told or aim_id)
    life.heard(pod, copy, report)
    revisions.adopted(ctx, model, copy)
    if moving:
        moves.begin_move(ctx, model, pod.spec.service_key)
    if copy.serving == model.aim_id:
        wish.saw(model)
    if copy.serving == model.wanted_id:
        wish.worked(model)  # whatever its status says of an attempt before
    # Copies of a hot model, until its rate is known again; one too many after a move goes soon.
    there = sum(map(wish.on_its_way, model.copies.values()))
    owner = ctx.world.services.get(model.spec.service_key)  # of a model that moves, not the pod's
    if wish.found(owner, model, there) and owner is not None:
        ctx.review(owner)
    if report.failure is not None and not copy.answers and report.target == model.aim_id:
        outcomes.failed(ctx, None, pod, model, copy)  # counted already, by whom it was told to first
    if copy.answers:
        memory.count(pod, copy, model)
        # It was there before this operator, to whose predecessor it has told what it counted before.
        use.goes_on(ctx, pod, copy, model, since=ctx.now - ctx.world.timing.residency)
    return True


def _sizes(model: Model, report: SlotReport, room: int) -> dict[str, int]:
    """Bytes by content of what the slot may hold: as its model declares, else by its agent's word.

    What nobody knows the size of takes all the room there is, until it is known.
    """
    contents = [content for content in dict.fromkeys((report.serving, report.target)) if content is not None]
    sizes = {content: model.memory for content in contents if content == model.aim_id and model.memory is not None}
    for content in contents:
        if content not in sizes:
            told = report.held_bytes - sum(sizes.values()) if report.held_bytes is not None else model.memory
            sizes[content] = max(0, room - sum(sizes.values()) if told is None else told)
    return sizes

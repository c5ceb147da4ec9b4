"""Copies of an artifact that was overwritten in place: what agents found, and having all copies follow the newest.

Whoever has found another revision in the storage has looked there last: its word counts. No clocks are compared. A copy
that is told to follow looks there as well, so if two words crossed, the storage's own comes last. Revisions that follow
each other soon are followed after growing pauses (``Timing.revise_first``).
"""

from shoal_api.messages import SlotReport

from shoal_operator.state import wish
from shoal_operator.state.copies import checks, life, memory, probes
from shoal_operator.state.copies.routes import refresh
from shoal_operator.state.demand import use
from shoal_operator.state.world.agenda import Topic
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import NEVER, Copy, Model, Pod, World
from shoal_operator.state.world.values import ModelKey


def heard(ctx: Context, pod: Pod, copy: Copy, report: SlotReport | None) -> SlotReport | None:
    """What a copy's agent said, by the copy ids that are used here; what it has found is learnt."""
    model = ctx.model(ModelKey(pod.spec.namespace, copy.name), copy.uid)
    if report is None or model is None:
        return report
    found = _found(copy, report)
    if found is not None and copy.aim_id == model.wanted_id:
        if not model.revision:
            wish.learn(model, found)
        elif found != model.revision:
            _news(ctx, model, pod, found)
    elif found is not None and found != model.revision and _keeps_another(model, copy, found):
        _news(ctx, model, pod, found)
    if copy.check and report.checked == copy.check:
        life.checked(pod, copy)
        if copy.storage_uri == model.spec.storage_uri:
            seen(ctx, model, pod, report.listed_revision)
    said = _said(model, copy, report)
    if said.serving == model.wanted_id != copy.aim_id and report.serving == report.target == copy.told:
        life.relabel(pod, copy, model.wanted_id)  # told to load another one, it has found what is wanted
        said = _said(model, copy, report)
    return said


def met(model: Model, report: SlotReport) -> SlotReport:
    """What an agent said of a slot that is no copy yet, likewise."""
    serving = report.revision if report.serving is not None else report.target_revision
    said = report.serving if report.serving is not None else report.target
    if not model.revision and serving and said in (model.wanted_id, wish.name_of(model, serving)):
        wish.learn(model, serving)
    return _renamed(
        report,
        wish.known_as(model, report.serving, report.revision),
        wish.known_as(model, report.target, _of_target(report)),
    )


def adopted(ctx: Context, model: Model, copy: Copy) -> None:
    """A copy was taken over: which of two revisions is the newer one only the storage can say."""
    report = copy.report
    if report is None or not copy.answers:
        return
    checks.watch(ctx, model)
    known = {report.revision, report.target_revision, report.listed_revision} - {None, model.revision}
    if known or copy.serving != model.wanted_id:
        checks.order(ctx, model.spec.key)


def seen(ctx: Context, model: Model, pod: Pod, revision: str | None) -> None:
    """An agent has looked into the storage, which holds that revision; None: it did not say."""
    if revision and not model.revision:
        wish.learn(model, revision)
    elif revision and revision != model.revision:
        _news(ctx, model, pod, revision)


def forget(world: World, key: ModelKey) -> None:
    """The model is gone."""
    world.revised.pop(key, None)


def _news(ctx: Context, model: Model, pod: Pod, revision: str) -> None:
    world, key = ctx.world, model.spec.key
    at, pause = world.revised.get(key, (NEVER, 0.0))
    if ctx.now < at + pause:
        world.agenda.put(at + pause, key, Topic.CHECK)
        return
    first, last = world.timing.revise_first, world.timing.revise_last
    world.revised[key] = ctx.now, first if ctx.now > at + 2 * last else min(2 * pause, last)
    model.decide(ctx.now, pod.spec.name, "Revised", f"its artifact was overwritten: {revision} after {model.revision}")
    _revise(ctx, model, revision)


def _revise(ctx: Context, model: Model, revision: str) -> None:
    """What the storage holds now is wanted: copies that have it are what is wanted, others are to follow."""
    world, wanted = ctx.world, model.wanted_id
    before = wish.name_of(model, model.revision)
    probes.end(ctx, model)
    wish.revise(model, revision)
    for copy in model.copies.values():
        pod = world.pods[copy.pod_uid]
        world.touch(copy.pod_uid)
        report = pod.slots.get(copy.name)
        found = _found(copy, report) if report is not None else None
        if copy.aim_id == wanted:
            # What it will find, where it has not said so, is what is wanted now; unless it has that, and loads another.
            follows = found == revision or (found is None and (report is None or report.revision != revision))
            life.relabel(pod, copy, model.wanted_id if follows else before)
        elif copy.aim_id == wish.name_of(model, revision):
            life.relabel(pod, copy, model.wanted_id)
        if report is not None:
            life.heard(pod, copy, _said(model, copy, report))
            life.observed(ctx, pod, copy)
        if copy.current and copy.loaded_at is None:  # it was there before anybody knew that it is what is wanted
            memory.count(pod, copy, model)
            use.loaded(ctx, pod, copy, model)
    memory.unlearn(model, content=not model.copies)
    wish.worked(model)
    if any(map(wish.on_its_way, model.copies.values())):
        wish.want(world.services.get(model.spec.service_key), model)
    wish.choose_content(ctx, model)
    refresh(ctx, model)
    ctx.plan_model(model)


def _keeps_another(model: Model, copy: Copy, found: str) -> bool:
    """Told to load what was last good, its agent has found something else."""
    good = model.last_good
    return good is not None and copy.aim_id == wish.former_id(model) and found != good.revision


def _found(copy: Copy, report: SlotReport) -> str | None:
    """The revision of what it was told to load; None: its agent has not said yet."""
    return _of_target(report) if report.target == copy.told else None


def _of_target(report: SlotReport) -> str | None:
    return report.revision if report.serving == report.target else report.target_revision


def _said(model: Model, copy: Copy, report: SlotReport) -> SlotReport:
    """What it works on is what it was told to, whatever comes of that; what it serves is what it has."""
    told = bool(copy.sent) and report.serving == copy.told and _ours(model, copy, report.revision)
    serving = wish.known_as(model, report.serving, report.revision, told=told)
    if serving == copy.told and not report.revision:
        serving = copy.aim_id
    target = copy.aim_id if report.target == copy.told else wish.known_as(model, report.target, _of_target(report))
    return _renamed(report, serving, target)


def _ours(model: Model, copy: Copy, revision: str | None) -> bool:
    """What the copy is to load is of what the spec names."""
    names = (model.wanted_id, wish.former_id(model), wish.name_of(model, revision or ""))
    return bool(revision) and copy.aim_id in names


def _renamed(report: SlotReport, serving: str | None, target: str | None) -> SlotReport:
    if (serving, target) == (report.serving, report.target):
        return report
    return report.model_copy(update={"serving": serving, "target": target})

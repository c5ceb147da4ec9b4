"""Artifacts that are only looked up: is it there, how large is it. For models that are cold before anyone loads them.

A probe is a slot with action STAT on some pod of the service. Agents do few at a time; what waits, waits here. One that
failed makes way for others, and comes again later: otherwise some hundred broken models would keep all others waiting.
"""

import heapq
from collections.abc import Iterable

from shoal_api.messages import Action, CopyIntent, CopyPhase, FailureStage, SlotReport

from shoal_operator.state import wish
from shoal_operator.state.copies import memory, waking
from shoal_operator.state.copies.routes import refresh
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import DesiredChanged
from shoal_operator.state.world.entities import Model, Pod, Service
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.values import ModelKey, ServiceKey, Source

MAX_PER_POD = 64
MAX_HURRIED_PER_POD = 64


def look_up(ctx: Context, service: Service, model: Model) -> None:
    """Have the model's artifact looked up, unless that is known or under way."""
    known = model.artifact_seen == model.spec.content and model.size is not None and model.failure is None
    if known or model.probe is not None or model.spec.key in service.to_probe:
        return
    service.to_probe[model.spec.key] = None
    waking.look_up(ctx, service, model)
    assign(ctx, service)


def hurry(ctx: Context, service: Service, model: Model) -> None:
    """A request waits for the model: it is looked up before all others, also by agents that have enough to do."""
    if model.spec.key in service.to_probe:
        service.to_probe.move_to_end(model.spec.key, last=False)
        _assign(ctx, service, models=1, beyond=MAX_HURRIED_PER_POD)
    pod = ctx.world.pods.get(model.probe) if model.probe is not None else None
    if pod is not None and model.spec.name in pod.probes and pod.desired.set(model.spec.name, _intent(ctx, model)):
        ctx.emit(DesiredChanged(pod.spec.uid))


def assign(ctx: Context, service: Service) -> None:
    """Have waiting probes given to pods whose agents have few: soon, and for all that wait by then together, since that
    looks through all pods."""
    if service.to_probe and not ctx.world.recovering:
        ctx.world.pieces.put(Task.PROBES, service.spec.key, [service.spec.key])


def _assign(ctx: Context, service: Service, *, models: int | None = None, beyond: int = 0) -> None:
    """Give waiting probes, of so many ``models`` (None: a piece), to the pods whose agents have fewest; ``beyond``:
    some more than usual. O(pods), and O(log pods) a model."""
    world, most = ctx.world, MAX_PER_POD + beyond
    if not service.to_probe or world.recovering:
        return
    pods = [world.pods[uid] for uid in world.pods_of.get(service.spec.key, ()) if world.pods[uid].placeable]
    order = [(len(pod.probes), place, pod) for place, pod in enumerate(pods) if len(pod.probes) < most]
    heapq.heapify(order)
    for _ in range(len(service.to_probe) if models is None else models):
        if models is None and not world.pieces.spend():
            assign(ctx, service)
            return
        if not order or not service.to_probe:
            return
        key, _ = service.to_probe.popitem(last=False)
        model = world.models.get(key)
        if model is None or model.spec.service_key != service.spec.key or model.probe is not None:
            continue
        passed = []
        while order and (key.name in order[0][2].copies or key.name in order[0][2].probes):
            passed.append(heapq.heappop(order))
        if order:
            _, place, pod = heapq.heappop(order)
            _begin(ctx, model, pod)
            if len(pod.probes) < most:
                heapq.heappush(order, (len(pod.probes), place, pod))
        elif not any(wish.on_its_way(copy) for copy in model.copies.values()):  # else its load tells the same
            service.to_probe[key] = None  # its name is still taken, by what is being unloaded
        for entry in passed:
            heapq.heappush(order, entry)


def assign_all(ctx: Context, keys: Iterable[ServiceKey]) -> None:
    """Go on with those of services that were left."""
    for service in filter(None, map(ctx.world.services.get, keys)):
        _assign(ctx, service)


def _begin(ctx: Context, model: Model, pod: Pod) -> None:
    model.probe = pod.spec.uid
    pod.probes[model.spec.name] = model.spec.uid
    pod.desired.set(model.spec.name, _intent(ctx, model))
    ctx.emit(DesiredChanged(pod.spec.uid))
    said = pod.slots.get(model.spec.name)
    # A name that nobody registered is asked for again as soon as it was not there: sooner than its agent lets go of it.
    if said is not None and (said.failure is None or model.spec.source is Source.PREFIX):
        reported(ctx, pod, said, more=False)  # its agent knows already, and would not say it again


def _intent(ctx: Context, model: Model) -> CopyIntent:
    return CopyIntent(
        name=model.spec.name,
        copy_id=model.wanted_id,
        storage_uri=model.spec.storage_uri,
        framework=model.spec.framework,
        memory_bytes=0,
        action=Action.STAT,
        tuning=model.spec.tuning,
        urgent=wish.asked(model, ctx.now),
    )


def end(ctx: Context, model: Model, *, more: bool = True) -> None:
    """The model is not to be looked up any more: it was, or it changed, went away, or is loaded there.

    ``more``: let another one be looked up instead.
    """
    service = ctx.world.services.get(model.spec.service_key)
    if service is not None:
        service.to_probe.pop(model.spec.key, None)
    uid, model.probe = model.probe, None
    pod = ctx.world.pods.get(uid) if uid is not None else None
    if pod is None:
        return
    pod.probes.pop(model.spec.name, None)
    if model.spec.name not in pod.copies and pod.desired.remove(model.spec.name):
        ctx.emit(DesiredChanged(pod.spec.uid))
    if service is not None and more:
        assign(ctx, service)


def lost(ctx: Context, pod: Pod) -> None:
    """The pod takes nothing any more: others look up what it was to."""
    for name in list(pod.probes):
        uid = pod.probes.pop(name)
        if name not in pod.copies:
            pod.desired.remove(name)
        model = ctx.model(ModelKey(pod.spec.namespace, name), uid)
        service = ctx.world.services.get(model.spec.service_key) if model is not None else None
        if model is not None:
            model.probe = None
            if service is not None:
                look_up(ctx, service, model)


def reported(ctx: Context, pod: Pod, report: SlotReport, *, more: bool = True) -> None:
    """An agent says how the probe of this slot goes."""
    model = ctx.model(ModelKey(pod.spec.namespace, report.name), pod.probes[report.name])
    if model is None or report.target != model.wanted_id:
        return
    service = ctx.world.services.get(model.spec.service_key)
    ctx.settle_later(model)
    if report.phase in (CopyPhase.SEEN, CopyPhase.PULLED):
        if service is not None:
            service.stats.probes += 1
        wish.saw(model)
        if model.failure is not None and model.failure.stage is FailureStage.STORAGE:
            wish.worked(model)
            wish.choose_content(ctx, model)
        memory.learn_size(service, model, report.artifact_bytes)
        end(ctx, model, more=more)
        refresh(ctx, model)
        ctx.plan_model(model)
    elif report.failure is not None and report.action is Action.STAT:
        if service is not None:
            service.stats.failed(report.failure.reason)
        wish.fail(ctx, model, report.failure)
        wish.back_off(ctx.world, model, ctx.now)
        wish.choose_content(ctx, model)
        end(ctx, model)
        refresh(ctx, model)

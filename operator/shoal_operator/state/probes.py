"""Artifacts that are only looked up: is it there, how large is it. For models that are cold before anyone loads them.

A probe is a slot with action STAT on some pod of the service. Agents do few at a time; what waits, waits here. One that
failed makes way for others, and comes again later: otherwise some hundred broken models would keep all others waiting.
"""

from shoal_api.messages import Action, CopyIntent, CopyPhase, FailureStage, SlotReport

from . import demand, failures, memory, policy
from .context import Context
from .effects import DesiredChanged
from .routes import refresh
from .values import ModelKey
from .world import Model, Pod, Service

MAX_PER_POD = 64


def want(ctx: Context, service: Service, model: Model) -> None:
    """Have the model's artifact looked up, unless that is known or under way."""
    known = model.artifact_seen == model.spec.content and model.memory is not None and model.failure is None
    if known or model.probe is not None or model.spec.key in service.to_probe:
        return
    service.to_probe[model.spec.key] = None
    assign(ctx, service)


def assign(ctx: Context, service: Service) -> None:
    """Give waiting probes to pods whose agents have few."""
    world = ctx.world
    if not service.to_probe or world.recovering:
        return
    pods = [world.pods[uid] for uid in world.pods_of.get(service.spec.key, ()) if world.pods[uid].placeable]
    for _ in range(len(service.to_probe)):
        pods = [pod for pod in pods if len(pod.probes) < MAX_PER_POD]
        if not pods or not service.to_probe:
            return
        key, _ = service.to_probe.popitem(last=False)
        model = world.models.get(key)
        if model is None or model.spec.service_key != service.spec.key or model.probe is not None:
            continue
        free = [pod for pod in pods if key.name not in pod.copies and key.name not in pod.probes]
        if free:
            _begin(ctx, model, min(free, key=lambda pod: len(pod.probes)))
        elif not any(policy.on_its_way(copy) for copy in model.copies.values()):  # else its load tells the same
            service.to_probe[key] = None  # its name is still taken, by what is being unloaded


def _begin(ctx: Context, model: Model, pod: Pod) -> None:
    model.probe = pod.spec.uid
    pod.probes[model.spec.name] = model.spec.uid
    intent = CopyIntent(
        name=model.spec.name,
        copy_id=model.want,
        storage_uri=model.spec.storage_uri,
        framework=model.spec.framework,
        memory_bytes=0,
        action=Action.STAT,
    )
    pod.desired.set(model.spec.name, intent)
    ctx.emit(DesiredChanged(pod.spec.uid))
    said = pod.slots.get(model.spec.name)
    if said is not None and said.failure is None:
        reported(ctx, pod, said, more=False)  # its agent knows already, and would not say it again


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
                want(ctx, service, model)


def reported(ctx: Context, pod: Pod, report: SlotReport, *, more: bool = True) -> None:
    """An agent says how the probe of this slot goes."""
    model = ctx.model(ModelKey(pod.spec.namespace, report.name), pod.probes[report.name])
    if model is None or report.target != model.want:
        return
    service = ctx.world.services.get(model.spec.service_key)
    if report.phase in (CopyPhase.SEEN, CopyPhase.PULLED):
        if service is not None:
            service.stats.probes += 1
        model.artifact_seen = model.spec.content
        if model.failure is not None and model.failure.stage is FailureStage.STORAGE:
            model.worked()
        memory.learn_size(service, model, report.artifact_bytes)
        end(ctx, model, more=more)
        refresh(ctx, model)
        ctx.plan_model(model)
    elif report.failure is not None and report.action is Action.STAT:
        if service is not None:
            service.stats.failed(report.failure.reason)
        model.note_failure(report.failure)
        failures.back_off(ctx.world, model, ctx.now)
        demand.settled(ctx, model)
        end(ctx, model)
        refresh(ctx, model)

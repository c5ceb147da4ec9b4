"""Artifacts that are only looked up: is it there, how large is it. For models that are cold before anyone loads them.

A probe is a slot with action STAT on some pod of the service. Agents do few at a time; what waits, waits here.
"""

from shoal_api.messages import Action, CopyIntent, CopyPhase, FailureStage, SlotReport

from . import memory
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
    while service.to_probe:
        pods = [pod for pod in pods if len(pod.probes) < MAX_PER_POD]
        if not pods:
            return
        key, _ = service.to_probe.popitem(last=False)
        model = world.models.get(key)
        if model is None or model.spec.service_key != service.spec.key or model.probe is not None:
            continue
        free = [pod for pod in pods if key.name not in pod.copies and key.name not in pod.probes]
        if free:  # else it is being loaded everywhere, which tells the same
            _begin(ctx, model, min(free, key=lambda pod: len(pod.probes)))


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
    if said is not None:
        reported(ctx, pod, said)  # its agent knows already, and would not say it again


def end(ctx: Context, model: Model) -> None:
    """The model is not to be looked up any more: it was, or it changed, went away, or is loaded there."""
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
    if service is not None:
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


def reported(ctx: Context, pod: Pod, report: SlotReport) -> None:
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
            model.failure = None
        memory.learn_size(service, model, report.artifact_bytes)
        end(ctx, model)
        refresh(ctx, model)
        ctx.plan_model(model)
    elif report.failure is not None and report.failure != model.failure:
        if service is not None:
            service.stats.failed(report.failure.reason)
        model.failure = report.failure
        model.retry_at = ctx.now + ctx.world.timing.failure_first
        refresh(ctx, model)

"""The life of a copy: placed, replaced, drained, unloaded, freed; and the ledger of committed memory.

Order of leaving: out of the routes -> every connected Envoy acknowledged -> grace for requests on the wire -> out of
the desired list -> the agent confirmed. Only then is its memory free. An evicted copy has no grace: its model is cold
from then on, and a request that still comes to its pod is sent on to the activator.

A copy whose memory is still being freed is held: its agent pulls already, and is told to load once there is room.
"""

from . import memory as memories
from . import probes
from .context import Context
from .effects import CopyForgotten, CopyStored, DesiredChanged
from .policy import on_its_way, wanted
from .routes import refresh
from .values import ModelKey
from .world import Copy, Model, Pod, Stage, Waiting


def charge(pod: Pod, copy: Copy) -> None:
    """Bring the pod's ledger up to date: while a copy is replaced, old and new content are both in memory.

    What is to go keeps its charge: the agent may still finish what it has begun to load.
    """
    if copy.name in pod.occupied or copy.stage is Stage.HELD:
        return
    due = copy.memory * _contents(copy)
    pod.committed += due - copy.charged
    copy.charged = due


def resize(ctx: Context, model: Model, pod: Pod, copy: Copy) -> bool:
    """Count the copy with the memory that its model declares now; False when the pod has no room for that."""
    memory = _memory(model)
    if growth(model, copy) > pod.room:
        return False
    if copy.stage is Stage.HELD:
        pod.promised += memory - copy.memory
    copy.memory = memory
    charge(pod, copy)
    if pod.desired.set(copy.name, copy.intent()):
        ctx.emit(DesiredChanged(pod.spec.uid))
    return True


def growth(model: Model, copy: Copy) -> int:
    """Bytes that the copy takes beyond its charge once it is counted as its model declares now."""
    if copy.stage is Stage.HELD:
        return _memory(model) - copy.memory
    return _memory(model) * _contents(copy) - copy.charged


def growth_of_update(model: Model, copy: Copy) -> int:
    """Bytes that the copy takes beyond its charge once it loads another content beside what it holds."""
    if copy.stage is Stage.HELD:
        return _memory(model) - copy.memory
    return 2 * _memory(model) - copy.charged


def _contents(copy: Copy) -> int:
    """How many contents of the slot may be in memory."""
    outdated = copy.serving is not None and copy.serving != copy.want
    report = copy.report
    other = report is not None and report.serving is not None and report.target not in (None, report.serving)
    return 2 if copy.replacing or outdated or other else 1


def place(ctx: Context, model: Model, pod: Pod, memory: int | None = None) -> Copy:
    """Want a model on a pod whose slot of that name is free; where there is no room yet, the copy is held.

    ``memory`` in bytes, where it is counted with less than its model declares by now.
    """
    memory = _memory(model) if memory is None else memory
    copy = Copy(
        name=model.spec.name,
        uid=model.spec.uid,
        pod_uid=pod.spec.uid,
        want=model.want,
        storage_uri=model.spec.storage_uri,
        framework=model.spec.framework,
        memory=memory,
        stage=Stage.PLACED if memory <= pod.room else Stage.HELD,
    )
    pod.copies[copy.name] = copy
    model.copies[pod.spec.uid] = copy
    if copy.stage is Stage.HELD:
        pod.held[copy.name] = None
        pod.promised += memory
    charge(pod, copy)
    desire(ctx, model, pod, copy)
    return copy


def release_held(ctx: Context, pod: Pod) -> None:
    """Have held copies loaded, in order, as memory is freed; those that nothing makes room for are given up."""
    while pod.held and pod.promised > pod.spec.capacity_bytes - pod.committed + pod.outgoing:
        retire(ctx, pod, pod.copies[next(reversed(pod.held))])
    while pod.held and pod.server is not None:
        copy = pod.copies[next(iter(pod.held))]
        if copy.memory > pod.spec.capacity_bytes - pod.committed:
            return
        del pod.held[copy.name]
        pod.promised -= copy.memory
        copy.stage = Stage.PLACED
        charge(pod, copy)
        pod.desired.set(copy.name, copy.intent())
        ctx.emit(DesiredChanged(pod.spec.uid))


def replace(ctx: Context, model: Model, pod: Pod, copy: Copy) -> None:
    """Want the model's present content in a slot that serves an older one, which keeps serving meanwhile."""
    if copy.name in pod.occupied:
        return
    if copy.want == model.want:
        resize(ctx, model, pod, copy)  # only its declared memory was outdated
        return
    copy.want = model.want
    if copy.stage is Stage.HELD:
        pod.promised += _memory(model) - copy.memory
    copy.memory = _memory(model)
    copy.storage_uri = model.spec.storage_uri
    copy.framework = model.spec.framework
    copy.report = None
    copy.replacing = copy.stage is Stage.PLACED
    pod.failing.discard(copy.name)
    charge(pod, copy)
    desire(ctx, model, pod, copy)


def desire(ctx: Context, model: Model, pod: Pod, copy: Copy) -> None:
    """Put the copy into the pod's desired list and into the store."""
    pod.desired.set(copy.name, copy.intent())
    ctx.emit(DesiredChanged(pod.spec.uid))
    ctx.emit(CopyStored(model.spec.key, copy.uid, model.spec.content, pod.spec.service, pod.spec.uid))


def retire(ctx: Context, pod: Pod, copy: Copy, *, evicted: bool = False) -> None:
    """Begin to take a copy away: out of the routes first."""
    if copy.name in pod.occupied:
        return
    if copy.stage is Stage.HELD:
        del pod.held[copy.name]
        pod.promised -= copy.memory
    copy.stage = Stage.DRAINING
    copy.evicted = evicted
    pod.occupied.add(copy.name)
    pod.outgoing += copy.charged
    pod.lru.pop(copy.name, None)
    pod.failing.discard(copy.name)
    model = ctx.model(ModelKey(pod.spec.namespace, copy.name), copy.uid)
    if model is not None:
        refresh(ctx, model)
    if not copy.answers or not pod.serves:
        _unload(ctx, pod, copy)
        return
    waiting = Waiting(ctx.world.sequence, pod.spec.uid, copy.name, copy.uid)
    if ctx.world.acknowledged >= ctx.world.sequence:
        _start_grace(ctx, waiting)
    else:
        ctx.world.draining.append(waiting)


def acknowledged(ctx: Context, sequence: int) -> None:
    """Every connected Envoy has route changes up to ``sequence``: start the grace of copies that waited for it."""
    world = ctx.world
    world.acknowledged = max(world.acknowledged, sequence)
    while world.draining and world.draining[0].at <= world.acknowledged:
        _start_grace(ctx, world.draining.popleft())


def _start_grace(ctx: Context, waiting: Waiting) -> None:
    pod = ctx.world.pods.get(waiting.pod_uid)
    copy = pod.copies.get(waiting.name) if pod is not None else None
    if pod is not None and copy is not None and copy.uid == waiting.uid and copy.evicted:
        if copy.stage is Stage.DRAINING:
            _unload(ctx, pod, copy)
        return
    waiting.at = ctx.now + ctx.world.timing.drain_grace
    ctx.world.grace.append(waiting)


def end_grace(ctx: Context) -> None:
    """Unload the copies whose grace has passed."""
    while ctx.world.grace and ctx.world.grace[0].at <= ctx.now:
        waiting = ctx.world.grace.popleft()
        pod = ctx.world.pods.get(waiting.pod_uid)
        copy = pod.copies.get(waiting.name) if pod else None
        if pod is not None and copy is not None and copy.uid == waiting.uid and copy.stage is Stage.DRAINING:
            _unload(ctx, pod, copy)


def confirm(ctx: Context, pod: Pod, desired_version: int) -> None:
    """Free the slots that the agent knows to be unwanted and no longer reports."""
    for name in [name for name in pod.unloading if name not in pod.slots]:
        copy = pod.copies[name]
        if desired_version >= copy.removed_version:
            free(ctx, pod, copy)


def free(ctx: Context, pod: Pod, copy: Copy) -> None:
    """The copy is no more: give its memory back, and let models that wait for memory or for the name try."""
    if copy.stage is Stage.HELD:
        del pod.held[copy.name]
        pod.promised -= copy.memory
    elif copy.name in pod.occupied:
        pod.outgoing -= copy.charged
    pod.copies.pop(copy.name, None)
    pod.unloading.discard(copy.name)
    pod.occupied.discard(copy.name)
    pod.lru.pop(copy.name, None)
    pod.failing.discard(copy.name)
    memories.count(pod, copy, None)
    pod.committed -= copy.charged
    service = ctx.world.services.get(pod.spec.service_key)
    if service is not None and copy.serving is not None:
        service.stats.unloads += 1
    ctx.emit(CopyForgotten(copy.uid, pod.spec.uid))
    model = ctx.model(ModelKey(pod.spec.namespace, copy.name), copy.uid)
    if model is not None:
        model.copies.pop(pod.spec.uid, None)
        refresh(ctx, model)
        if service is not None and sum(on_its_way(other) for other in model.copies.values()) < wanted(service, model):
            ctx.plan_model(model)
    release_held(ctx, pod)
    if service is not None:
        ctx.plan_waiting(service)
        probes.assign(ctx, service)  # one may have waited for the name


def adopt_stray(pod: Pod, name: str, memory: int) -> None:
    """The agent holds a slot that nobody wants: keep its name and memory taken until it is confirmed gone."""
    copy = Copy(name, "", pod.spec.uid, "", "", "", memory, stage=Stage.UNLOADING)
    copy.memory = copy.charged = min(memory, pod.spec.capacity_bytes - pod.committed)
    copy.removed_version = pod.desired.version
    pod.committed += copy.charged
    pod.outgoing += copy.charged
    pod.copies[name] = copy
    pod.unloading.add(name)
    pod.occupied.add(name)


def _memory(model: Model) -> int:
    """Bytes to count for a copy; a model whose memory is not known yet is placed nowhere."""
    return model.memory or 0


def _unload(ctx: Context, pod: Pod, copy: Copy) -> None:
    copy.stage = Stage.UNLOADING
    pod.desired.remove(copy.name)
    copy.removed_version = pod.desired.version
    pod.unloading.add(copy.name)
    ctx.emit(DesiredChanged(pod.spec.uid))

"""The life of a copy: placed, replaced, drained, unloaded, freed.

Order of leaving: out of the routes -> every connected Envoy acknowledged -> grace for requests on the wire -> out of
the desired list -> the agent confirmed. Only then is its memory free. An evicted copy has no grace: its model is cold
from then on, and a request that still comes to its pod is sent on to the activator.

A copy whose memory is still being freed is only promised it: its agent pulls already, and is told to load once there is
room.
"""

from collections.abc import Iterable

from shoal_api.messages import SlotReport

from shoal_operator.state.copies import memory as memories
from shoal_operator.state.copies import probes, recency
from shoal_operator.state.copies.routes import refresh
from shoal_operator.state.ledger import STRAY, Account, Claim
from shoal_operator.state.wish import asked, choose_content, copies_wanted, keep, on_its_way
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import CopyForgotten, CopyStored, DesiredChanged
from shoal_operator.state.world.entities import Copy, Departure, Model, Pod, Stage
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.values import ModelKey


def hurry(ctx: Context, model: Model, *, urgent: bool) -> None:
    """A request waits for the model, or none any more: its agents take what is to be loaded in that order."""
    for copy in model.copies.values():
        if copy.urgent != urgent and not copy.current and on_its_way(copy):
            copy.urgent = urgent
            pod = ctx.world.pods[copy.pod_uid]
            pod.desired.set(copy.name, copy.intent())
            ctx.emit(DesiredChanged(copy.pod_uid))


def relabel(pod: Pod, copy: Copy, aim_id: str) -> None:
    """What it is to load is known by another copy id from now on; its agent goes on with the one that it was told."""
    if aim_id == copy.aim_id:
        return
    told = copy.told
    pod.ledger.rename(copy.name, copy.aim_id, aim_id)
    copy.aim_id, copy.sent = aim_id, told if told != aim_id else ""


def check(ctx: Context, pod: Pod, copy: Copy) -> None:
    """Have its agent look once whether the storage still holds what is loaded."""
    copy.check = ctx.world.versions.take()
    pod.desired.set(copy.name, copy.intent())
    ctx.emit(DesiredChanged(pod.spec.uid))


def checked(pod: Pod, copy: Copy) -> None:
    """It did, which it need not be told at once."""
    copy.check = 0
    if copy.name in pod.desired:
        pod.desired.set(copy.name, copy.intent())


def heard(pod: Pod, copy: Copy, report: SlotReport | None) -> None:
    """Its agent's last word about the slot; None: it holds nothing there. An update and its being taken back look the
    same to an agent that knows of neither yet: only the version of its list tells."""
    copy.report = report
    copy.serving = report.serving if report is not None else None
    if report is not None and report.target == copy.aim_id and pod.obeyed >= copy.replacing:
        copy.replacing = 0
    if copy.current:
        copy.urgent = copy.late = False  # which its agent need not be told


def observed(ctx: Context, pod: Pod, copy: Copy) -> None:
    """The agent has said what the slot holds: charge that, and what it may still be loading."""
    report = copy.report
    if copy.replacing or report is None:
        return  # until it says that it works on what is wanted, it may still load the content before
    contents = {copy.aim_id: None, report.serving: None, report.target: None}
    pod.ledger.observe(copy.name, [content for content in contents if content is not None], report.held_bytes)
    pay(ctx, pod)


def resize(ctx: Context, model: Model, pod: Pod, copy: Copy) -> None:
    """Count the copy with what is known of its model's memory now, if the pod has room for that."""
    if copy.aim_id != model.aim_id or model.memory is None:
        return  # what it was counted with until now stays
    if growth(model, pod, copy) > pod.room:
        return
    pod.ledger.aim(copy.name, copy.aim_id, model.memory)
    pay(ctx, pod)
    if pod.desired.set(copy.name, copy.intent()):
        ctx.emit(DesiredChanged(pod.spec.uid))


def growth(model: Model, pod: Pod, copy: Copy) -> int:
    """Bytes that the copy takes beyond its charge once it wants what its model wants now, beside what it holds."""
    return pod.ledger.growth(copy.name, model.aim_id, _memory(model))


def place(ctx: Context, model: Model, pod: Pod) -> Copy:
    """Want a model on a pod whose slot of that name is free; where there is no room yet, it is promised."""
    copy = _enter(ctx, model, pod, model.aim_id, pod.ledger.open(model.spec.name, model.aim_id, _memory(model)))
    if copy.stage is Stage.PROMISED:
        pod.promised[copy.name] = None
    return copy


def adopt(ctx: Context, model: Model, pod: Pod, sizes: dict[str, int], *, aim_id: str, told: str) -> Copy:
    """Take over a slot that holds contents of ``sizes`` bytes by copy id, and have it go on with ``aim_id``, which its
    agent knows as ``told``."""
    return _enter(ctx, model, pod, aim_id, pod.ledger.adopt(model.spec.name, sizes), told=told)


def adopt_tight(ctx: Context, model: Model, pod: Pod, size: int, *, told: str) -> Copy:
    """Take over a slot that answers with the wanted content, where there seems to be less room than it takes."""
    account = pod.ledger.adopt_tight(model.spec.name, model.aim_id, size)
    return _enter(ctx, model, pod, model.aim_id, account, told=told)


def pay(ctx: Context, pod: Pod) -> None:
    """Memory was freed: first of all it covers what is there and was not charged."""
    for slot in pod.ledger.pay():
        copy = pod.copies[slot]
        if copy.name not in pod.occupied:
            _desire(ctx, pod, copy)


def _enter(ctx: Context, model: Model, pod: Pod, aim_id: str, account: Account, *, told: str = "") -> Copy:
    copy = Copy(
        name=model.spec.name,
        uid=model.spec.uid,
        pod_uid=pod.spec.uid,
        aim_id=aim_id,
        storage_uri=model.aim.storage_uri,
        framework=model.aim.framework,
        tuning=model.aim.tuning,
        account=account,
        sent=told if told != aim_id else "",
        keep=_kept(model),
        stage=Stage.PROMISED if account.claim is Claim.PROMISED else Stage.PLACED,
        urgent=asked(model, ctx.now),
        placed_at=ctx.now,
    )
    pod.copies[copy.name] = copy
    model.copies[pod.spec.uid] = copy
    keep(ctx.world, model)
    _desire(ctx, pod, copy)
    return copy


def grant_promised(ctx: Context, pod: Pod) -> None:
    """Have promised copies loaded, in order, as memory is freed; those that a request waits for before others.

    Those that nothing makes room for are given up, the last ones first.
    """
    while pod.promised and pod.ledger.overdrawn:
        last = [name for name in pod.promised if not pod.copies[name].urgent] or list(pod.promised)
        retire(ctx, pod, pod.copies[last[-1]])
    while pod.promised and pod.server is not None:
        first = next((name for name in pod.promised if pod.copies[name].urgent), next(iter(pod.promised)))
        copy = pod.copies[first]
        if not pod.ledger.grant(copy.name):
            return
        del pod.promised[copy.name]
        copy.stage, copy.placed_at = Stage.PLACED, ctx.now
        _desire(ctx, pod, copy)


def replace(ctx: Context, model: Model, pod: Pod, copy: Copy) -> None:
    """Want the model's present content in a slot that serves an older one, which keeps serving meanwhile."""
    if copy.name in pod.occupied:
        return
    if copy.aim_id == model.aim_id:
        resize(ctx, model, pod, copy)  # only its declared memory was outdated
        return
    pod.ledger.aim(copy.name, model.aim_id, _memory(model))
    copy.sent = _told(copy, pod, model.aim_id)
    copy.keep = _kept(model)
    copy.aim_id = model.aim_id
    copy.storage_uri = model.aim.storage_uri
    copy.framework = model.aim.framework
    copy.tuning = model.aim.tuning
    copy.placed_at, copy.late, copy.check = ctx.now, False, 0
    copy.report = None
    recency.tries(pod, copy.name)
    _desire(ctx, pod, copy)
    if copy.stage is Stage.PLACED:
        copy.replacing = pod.desired.version
        pod.unobeyed.add(copy.name)


def _desire(ctx: Context, pod: Pod, copy: Copy) -> None:
    """Put the copy into the pod's desired list and into the store, which knows nothing of copies that only wait."""
    pod.desired.set(copy.name, copy.intent())
    ctx.emit(DesiredChanged(pod.spec.uid))
    if copy.stage is not Stage.PROMISED:
        content = copy.aim_id.removeprefix(f"{copy.uid}.")
        ctx.emit(CopyStored(ModelKey(pod.spec.namespace, copy.name), copy.uid, content, pod.spec.service, pod.spec.uid))


def retire(ctx: Context, pod: Pod, copy: Copy, *, evicted: bool = False) -> None:
    """Begin to take a copy away: out of the routes first."""
    if copy.name in pod.occupied:
        return
    if copy.stage is Stage.PROMISED:
        del pod.promised[copy.name]
    pod.ledger.leave(copy.name)
    copy.stage = Stage.DRAINING
    copy.evicted = evicted
    pod.occupied.add(copy.name)
    ctx.world.touch(pod.spec.uid)
    by = ctx.now + ctx.world.timing.unload
    ctx.world.outgoing.append(Departure(by, pod.spec.uid, copy.name, copy.uid))
    recency.leaves(pod, copy.name)
    model = ctx.model(ModelKey(pod.spec.namespace, copy.name), copy.uid)
    if model is not None:
        refresh(ctx, model)
    if not copy.answers or not pod.serves:
        _unload(ctx, pod, copy)
        return
    departure = Departure(ctx.world.sequence, pod.spec.uid, copy.name, copy.uid)
    if ctx.world.acknowledged >= ctx.world.sequence:
        _start_grace(ctx, departure)
    else:
        ctx.world.draining.append(departure)


def acknowledged(ctx: Context, sequence: int) -> None:
    """Every connected Envoy has route changes up to ``sequence``: ``start_graces`` has copies that waited for it go."""
    ctx.world.acknowledged = max(ctx.world.acknowledged, sequence)


def start_graces(ctx: Context) -> None:
    """What every Envoy has out of its routes leaves a little later, or at once."""
    world = ctx.world
    while world.draining and world.draining[0].at <= world.acknowledged and world.pieces.spend():
        _start_grace(ctx, world.draining.popleft())


def _start_grace(ctx: Context, departure: Departure) -> None:
    pod = ctx.world.pods.get(departure.pod_uid)
    copy = pod.copies.get(departure.name) if pod is not None else None
    if pod is not None and copy is not None and copy.uid == departure.uid and copy.evicted:
        if copy.stage is Stage.DRAINING:
            _unload(ctx, pod, copy)
        return
    departure.at = ctx.now + ctx.world.timing.drain_grace
    ctx.world.grace.append(departure)


def end_grace(ctx: Context) -> None:
    """Unload the copies whose grace has passed."""
    while ctx.world.grace and ctx.world.grace[0].at <= ctx.now and ctx.world.pieces.spend():
        departure = ctx.world.grace.popleft()
        pod = ctx.world.pods.get(departure.pod_uid)
        copy = pod.copies.get(departure.name) if pod else None
        if pod is not None and copy is not None and copy.uid == departure.uid and copy.stage is Stage.DRAINING:
            _unload(ctx, pod, copy)


def end_patience(ctx: Context) -> None:
    """What should be gone by now, and is not, is not counted on any more: copies that wait for it give up."""
    outgoing = ctx.world.outgoing
    while outgoing and outgoing[0].at <= ctx.now and ctx.world.pieces.spend():
        departure = outgoing.popleft()
        pod = ctx.world.pods.get(departure.pod_uid)
        copy = pod.copies.get(departure.name) if pod else None
        if pod is not None and copy is not None and copy.uid == departure.uid and copy.name in pod.occupied:
            pod.ledger.overdue(copy.name)
            ctx.world.touch(pod.spec.uid)
            grant_promised(ctx, pod)


def confirm(ctx: Context, pod: Pod) -> None:
    """Free the slots that the agent knows to be unwanted and no longer reports."""
    free_some(ctx, pod, ctx.world.pieces.begin(Task.FREE, pod.spec.uid, (n for n in pod.unloading if _let_go(pod, n))))


def free_some(ctx: Context, pod: Pod, names: Iterable[str]) -> None:
    """One piece of ``confirm``."""
    for name in names:
        if name in pod.unloading and _let_go(pod, name):
            free(ctx, pod, pod.copies[name])


def _let_go(pod: Pod, name: str) -> bool:
    return name not in pod.slots and pod.obeyed >= pod.copies[name].removed_version


def free(ctx: Context, pod: Pod, copy: Copy) -> None:
    """The copy is no more: give its memory back, and let models that wait for memory or for the name try."""
    pod.promised.pop(copy.name, None)
    pod.ledger.close(copy.name)
    pod.copies.pop(copy.name, None)
    pay(ctx, pod)
    pod.unloading.discard(copy.name)
    pod.unobeyed.discard(copy.name)
    pod.occupied.discard(copy.name)
    recency.leaves(pod, copy.name)
    memories.count(pod, copy, None)
    service = ctx.world.services.get(pod.spec.service_key)
    # Its agent says what it serves no more before it confirms: only that it was loaded once is still known.
    if service is not None and copy.stage is Stage.UNLOADING and copy.loaded_at is not None:
        service.stats.unloads += 1
    ctx.emit(CopyForgotten(copy.uid, pod.spec.uid))
    model = ctx.model(ModelKey(pod.spec.namespace, copy.name), copy.uid)
    if model is not None:
        model.copies.pop(pod.spec.uid, None)
        if model.failure is not None:
            choose_content(ctx, model)  # it may have been the last one that answered
        refresh(ctx, model)
        # One that still serves former content counts for nothing: what is no more may have been its successor.
        left = sum(on_its_way(other) and other.aim_id == model.aim_id for other in model.copies.values())
        if service is not None and left < copies_wanted(service, model):
            ctx.plan_model(model)
    grant_promised(ctx, pod)
    if service is not None:
        ctx.offer_memory(service)
        probes.assign(ctx, service)  # one may have waited for the name


def adopt_stray(pod: Pod, name: str, memory: int | None) -> None:
    """The agent holds a slot that nobody wants: keep its name and memory taken until it is confirmed gone.

    ``memory`` in bytes; None: nobody knows.
    """
    account = pod.ledger.adopt_stray(name, memory)
    copy = Copy(name, "", pod.spec.uid, STRAY, "", "", account, stage=Stage.UNLOADING)
    copy.removed_version = pod.desired.version
    pod.copies[name] = copy
    pod.unloading.add(name)
    pod.occupied.add(name)


def _told(copy: Copy, pod: Pod, aim_id: str) -> str:
    """By which copy id its agent is told to load that; empty: by just that."""
    said = pod.slots.get(copy.name)
    if copy.serving == aim_id and said is not None and said.serving is not None:
        return said.serving if said.serving != aim_id else ""  # it has it, and knows it by that
    # What it was told before was the same, and it has found something else: told otherwise, it looks again.
    return f"{aim_id}+" if copy.told == aim_id else ""


def _kept(model: Model) -> str:
    return model.last_good.revision if model.fallback and model.last_good is not None else ""


def _memory(model: Model) -> int:
    """Bytes to count for a copy; a model whose memory is not known yet is placed nowhere."""
    return model.memory or 0


def _unload(ctx: Context, pod: Pod, copy: Copy) -> None:
    copy.stage = Stage.UNLOADING
    pod.desired.remove(copy.name)
    copy.removed_version = pod.desired.version
    pod.unloading.add(copy.name)
    ctx.emit(DesiredChanged(pod.spec.uid))

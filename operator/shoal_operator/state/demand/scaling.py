"""How many pods an autoscaled InferenceService should have: by load (KServe's scaleMetric) and by memory pressure.

More pods when that was wanted for a while, fewer only after a long one, one at a time: each move of a model costs a
load. Who goes first is told to Kubernetes by deletion costs: the pod with the fewest requests.
"""

import math
from collections.abc import Iterable
from itertools import islice

from shoal_operator.state import wish
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import DeletionCost, ReplicasWanted, ServiceStatusChanged
from shoal_operator.state.world.entities import Service
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.scale import InUse
from shoal_operator.state.world.values import ModelKey, ScaleMetric, ServiceKey

MISSES_PER_SECOND = 0.05
"""Evictions of models in use, per second and pod, above which memory is too small: one in 20 s."""
IDLE_RATE = 0.01
"""Requests a second below which nothing is in use."""
TOLERANCE = 0.1
"""Of a pod: load that is so little above the target asks for no further one."""
MAX_REFUSED = 2000
"""Models without room that are looked at."""
FILL = 0.8
"""With a pod less, what is in use may take this part of the memory that is left."""


def begin(ctx: Context, service: Service) -> None:
    """After a start, or when a service begins to be autoscaled: as many pods as there are, within its bounds."""
    spec, scale = service.spec, service.scale
    if not spec.autoscaled:
        scale.replicas = None
        return
    if service.rest.resting:
        reset(service)
        return
    ctx.review(service)  # also when nobody ever asks for its models: there may be too many
    there = scale.replicas or sum(not ctx.world.pods[uid].leaving for uid in ctx.world.pods_of.get(spec.key, ()))
    _set(ctx, service, there, scale.reason or "as many as there were")


def review(ctx: Context, service: Service) -> bool:
    """By load and memory as they are now, change the number of pods if another one was right for long enough.

    False: nothing will change while nothing happens.
    """
    spec, scale, timing = service.spec, service.scale, ctx.world.timing
    if not spec.autoscaled or service.rest.phase is not Phase.UP:
        return False
    now_wanted = scale.replicas or spec.min_replicas
    wanted, reason = _wanted(ctx, service, now_wanted)
    if wanted > now_wanted:
        scale.down_since = None
        scale.up_since = scale.up_since if scale.up_since is not None else ctx.now
        if ctx.now >= scale.up_since + timing.scale_up and _all_there(ctx, service, now_wanted):
            _set(ctx, service, wanted, reason)
    elif wanted < now_wanted:
        scale.up_since = None
        scale.down_since = scale.down_since if scale.down_since is not None else ctx.now
        if ctx.now >= scale.down_since + timing.scale_down:
            _mark(ctx, service)
            _set(ctx, service, now_wanted - 1, reason)
    else:
        scale.up_since = scale.down_since = None
    idle = scale.replicas == spec.min_replicas and scale.up_since is None
    return not idle or service.rate.at(ctx.now) > IDLE_RATE


def wanted_pods(service: Service) -> int:
    """Pods that the service should have now."""
    return 0 if service.rest.phase is Phase.ZERO else service.scale.replicas or service.spec.min_replicas


def reset(service: Service) -> None:
    """There are no pods: who comes back begins with as few as there may be."""
    scale = service.scale
    scale.replicas = service.spec.min_replicas if service.spec.autoscaled else None
    scale.reason, scale.up_since, scale.down_since = "", None, None


def _set(ctx: Context, service: Service, replicas: int, reason: str) -> None:
    spec, scale = service.spec, service.scale
    replicas = min(max(replicas, spec.min_replicas), spec.max_replicas)
    scale.up_since = scale.down_since = None
    if (replicas, reason) != (scale.replicas, scale.reason):
        scale.replicas, scale.reason = replicas, reason
        ctx.emit(ReplicasWanted(spec.key, replicas, reason))
        ctx.emit(ServiceStatusChanged(spec.key))
        on_each_pod(ctx, service)


def on_each_pod(ctx: Context, service: Service) -> None:
    """There are to be more pods, or fewer: so are copies of a model that has pods of its own."""
    model = ctx.world.models.get(ModelKey(*service.spec.key)) if not service.spec.multi_model else None
    if model is not None and service.spec.takes(model.spec):
        ctx.plan_model(model)


def announce(ctx: Context, service: Service) -> None:
    """Say again what is wanted: the operator has just started."""
    scale = service.scale
    if scale.replicas is not None or service.spec.idle is not None:
        ctx.emit(ReplicasWanted(service.spec.key, wanted_pods(service), scale.reason or "as many as there were"))


def _wanted(ctx: Context, service: Service, replicas: int) -> tuple[int, str]:
    by_load, why_load = _by_load(ctx, service)
    by_memory, why_memory = _by_memory(ctx, service, replicas) if service.spec.multi_model else _of_one_model(service)
    wanted, reason = (by_load, why_load) if by_load >= by_memory else (by_memory, why_memory)
    return min(max(wanted, service.spec.min_replicas), service.spec.max_replicas), reason


def _of_one_model(service: Service) -> tuple[int, str]:
    """Each pod holds it: more of them give it no more memory."""
    return service.spec.min_replicas, "no load asks for more"


def _by_load(ctx: Context, service: Service) -> tuple[int, str]:
    spec = service.spec
    if spec.scale_metric is None or not spec.scale_target:
        return 0, ""
    if spec.scale_metric is ScaleMetric.RPS:
        value, what = service.rate.at(ctx.now), "requests a second"
    else:
        value, what = service.concurrency.at(ctx.now), "requests in flight"
    return math.ceil(value / spec.scale_target - TOLERANCE), f"{value:.1f} {what}, {spec.scale_target:g} wanted per pod"


def _by_memory(ctx: Context, service: Service, replicas: int) -> tuple[int, str]:
    misses, lacking = service.misses.at(ctx.now), _lacking_bytes(ctx, service)
    if lacking:
        more = math.ceil(lacking / max(1, service.spec.capacity_bytes))
        return replicas + more, f"models that are to be kept in memory lack {math.ceil(lacking / (1 << 20))}Mi"
    if _keeps_out(ctx, service):
        return replicas + 1, "models that minCopies keeps in memory leave no pod with room for others"
    if misses > MISSES_PER_SECOND * replicas:
        return replicas + 1, f"{misses:.2f} models in use a second had to make way for others"
    return _by_what_is_used(ctx, service, replicas)


def _by_what_is_used(ctx: Context, service: Service, replicas: int) -> tuple[int, str]:
    """As many as there are, or one less."""
    if replicas <= service.spec.min_replicas or ctx.now < service.evicted_at + ctx.world.timing.scale_down:
        return replicas, "memory is in use"
    in_use = _in_use(ctx, service)
    if in_use is None:
        return replicas, "memory is in use"
    if replicas <= in_use.most_copies:
        return replicas, "copies that are to be kept need a pod each"
    left = service.spec.capacity_bytes * (replicas - 1)
    if service.cold and in_use.kept + min(service.sizes.largest(), service.spec.capacity_bytes) > left:
        return replicas, "models that minCopies keeps in memory would leave no room for others on fewer pods"
    if in_use.used <= FILL * left:
        return replicas - 1, f"models in use take {in_use.used >> 20}Mi, which fits fewer pods"
    return replicas, f"models in use take {in_use.used >> 20}Mi"


def _in_use(ctx: Context, service: Service) -> InUse | None:
    """As it was when all pods were looked at last; has them looked at again, in pieces. None: not yet."""
    key, scale, pieces = service.spec.key, service.scale, ctx.world.pieces
    if not pieces.pending(Task.IN_USE, key):
        scale.adding_up = InUse()
        add_up(ctx, key, pieces.begin(Task.IN_USE, key, ctx.world.pods_of.get(key, ())))
    return scale.in_use


def add_up(ctx: Context, key: ServiceKey, uids: Iterable[str]) -> None:
    """A piece of the service's pods: what was used lately, or must be kept."""
    service = ctx.world.services.get(key)
    if service is None:
        return
    total, since = service.scale.adding_up, ctx.now - ctx.world.timing.working_set
    for pod in filter(None, map(ctx.world.pods.get, uids)):
        for name, copy in pod.copies.items():
            model = ctx.model(ModelKey(pod.spec.namespace, name), copy.uid)
            if model is None:
                continue
            kept = wish.floor(service, model)
            total.most_copies = max(total.most_copies, kept)
            taken = max(copy.charged, copy.memory)
            total.kept += taken if kept else 0
            total.used += taken if kept or model.last_used >= since else 0
    if not ctx.world.pieces.pending(Task.IN_USE, key):
        service.scale.in_use = total


def _keeps_out(ctx: Context, service: Service) -> bool:
    """What minCopies keeps leaves no pod with room for a model that may be cold; of so many as are looked at."""
    if service.obtainable is None:
        return False
    larger = service.sizes.between(service.obtainable, service.spec.capacity_bytes)
    models = (ctx.world.models[key] for key in islice(larger, MAX_REFUSED))
    return any(wish.may_be_cold(service, model) and not wish.finds_room(service, model) for model in models)


def _lacking_bytes(ctx: Context, service: Service) -> int:
    """Of models that are to be kept in memory, and that wait for a pod that can hold them; of so many as are asked
    about, which is enough for some more pods, after which it is asked again."""
    total = 0
    for key in islice(service.refused, MAX_REFUSED):
        model = ctx.world.models[key]
        if wish.fits_a_pod(service, model):
            copies = wish.floor(service, model) - len(wish.staying(ctx.world, model))
            total += max(0, copies) * (model.memory or 0)
    return total


def _all_there(ctx: Context, service: Service, replicas: int) -> bool:
    """The pods asked for last are there: more pods take effect before still more are asked for."""
    return sum(ctx.world.pods[uid].placeable for uid in ctx.world.pods_of.get(service.spec.key, ())) >= replicas


def _mark(ctx: Context, service: Service) -> None:
    """Tell Kubernetes which pod to take: one that holds nothing up, else with the fewest requests, or least in it."""
    pods = [ctx.world.pods[uid] for uid in ctx.world.pods_of.get(service.spec.key, ())]
    staying = [pod for pod in pods if not pod.leaving]
    ordered = sorted(staying, key=lambda pod: (pod.placeable, pod.rate.at(ctx.now), pod.committed, pod.spec.name))
    for cost, pod in enumerate(ordered):
        if pod.deletion_cost != cost:
            pod.deletion_cost = cost
            ctx.emit(DeletionCost(pod.spec.uid, pod.spec.namespace, pod.spec.name, cost))

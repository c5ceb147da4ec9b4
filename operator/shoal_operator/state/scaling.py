"""How many pods an autoscaled InferenceService should have: by load (KServe's scaleMetric) and by memory pressure.

More pods when that was wanted for a while, fewer only after a long one, one at a time: each move of a model costs a
load. Who goes first is told to Kubernetes by deletion costs: the pod with the fewest requests.
"""

import math

from . import policy
from .context import Context
from .effects import DeletionCost, ReplicasWanted, ServiceStatusChanged
from .values import ModelKey, ScaleMetric
from .world import Pod, Service

MISSES_PER_SECOND = 0.05
"""Evictions of models in use, per second and pod, above which memory is too small: one in 20 s."""
IDLE_RATE = 0.01
"""Requests a second below which nothing is in use."""
TOLERANCE = 0.1
"""Of a pod: load that is so little above the target asks for no further one."""
FILL = 0.8
"""With a pod less, what is in use may take this part of the memory that is left."""


def begin(ctx: Context, service: Service) -> None:
    """After a start, or when a service begins to be autoscaled: as many pods as there are, within its bounds."""
    spec, scale = service.spec, service.scale
    if not spec.autoscaled:
        scale.replicas = None
        return
    ctx.review(service)  # also when nobody ever asks for its models: there may be too many
    there = scale.replicas or sum(not ctx.world.pods[uid].leaving for uid in ctx.world.pods_of.get(spec.key, ()))
    _set(ctx, service, there, scale.reason or "as many as there were")


def review(ctx: Context, service: Service) -> bool:
    """Look at load and memory now, and change the number of pods if another one was right for long enough.

    False: nothing will change while nothing happens.
    """
    spec, scale, timing = service.spec, service.scale, ctx.world.timing
    if not spec.autoscaled:
        return False
    if scale.replicas is None:
        begin(ctx, service)
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
    return service.scale.replicas or service.spec.min_replicas


def _set(ctx: Context, service: Service, replicas: int, reason: str) -> None:
    spec, scale = service.spec, service.scale
    replicas = min(max(replicas, spec.min_replicas), spec.max_replicas)
    scale.up_since = scale.down_since = None
    if (replicas, reason) != (scale.replicas, scale.reason):
        scale.replicas, scale.reason = replicas, reason
        ctx.emit(ReplicasWanted(spec.key, replicas, reason))
        ctx.emit(ServiceStatusChanged(spec.key))


def announce(ctx: Context, service: Service) -> None:
    """Say again what is wanted: the operator has just started."""
    scale = service.scale
    if scale.replicas is not None:
        ctx.emit(ReplicasWanted(service.spec.key, scale.replicas, scale.reason))


def _wanted(ctx: Context, service: Service, replicas: int) -> tuple[int, str]:
    by_load, why_load = _by_load(ctx, service)
    by_memory, why_memory = _by_memory(ctx, service, replicas)
    wanted, reason = (by_load, why_load) if by_load >= by_memory else (by_memory, why_memory)
    return min(max(wanted, service.spec.min_replicas), service.spec.max_replicas), reason


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
    if misses > MISSES_PER_SECOND * replicas:
        return replicas + 1, f"{misses:.2f} models in use a second had to make way for others"
    if replicas <= service.spec.min_replicas or ctx.now < service.evicted_at + ctx.world.timing.scale_down:
        return replicas, "memory is in use"
    pods = [ctx.world.pods[uid] for uid in ctx.world.pods_of.get(service.spec.key, ())]
    used = sum(_used_bytes(ctx, service, pod) for pod in pods)
    if replicas <= _most_copies(ctx, service, pods):
        return replicas, "copies that are to be kept need a pod each"
    if used <= FILL * service.spec.capacity_bytes * (replicas - 1):
        return replicas - 1, f"models in use take {used >> 20}Mi, which fits fewer pods"
    return replicas, f"models in use take {used >> 20}Mi"


def _used_bytes(ctx: Context, service: Service, pod: Pod) -> int:
    """What was used lately, or must be kept; O(copies on the pod)."""
    total, since = 0, ctx.now - ctx.world.timing.working_set
    for name, copy in pod.copies.items():
        model = ctx.model(ModelKey(pod.spec.namespace, name), copy.uid)
        if model is not None and (model.last_used >= since or not policy.may_be_cold(service, model)):
            total += max(copy.charged, copy.memory)
    return total


def _most_copies(ctx: Context, service: Service, pods: list[Pod]) -> int:
    """Of one model, that are to be kept; O(copies)."""
    names = {(name, copy.uid) for pod in pods for name, copy in pod.copies.items()}
    models = (ctx.model(ModelKey(service.spec.namespace, name), uid) for name, uid in names)
    return max((policy.floor(service, model) for model in models if model is not None), default=0)


def _lacking_bytes(ctx: Context, service: Service) -> int:
    """Of models that are to be kept in memory, and that wait for a pod that can hold them."""
    total = 0
    for key in service.waiting:
        model = ctx.world.models[key]
        if policy.fits_a_pod(service, model):
            copies = policy.floor(service, model) - len(policy.staying(ctx.world, model))
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

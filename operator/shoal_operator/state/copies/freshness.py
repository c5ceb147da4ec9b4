"""Use as of now, before anyone is evicted: agents tell of use each second, and what was used since must not go.

Asked for by a request that no pod has room for, and when room is made ahead. An agent that does not say so in time is
not waited for: its last word counts.
"""

from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import DesiredChanged
from shoal_operator.state.world.entities import Pod, Service, World
from shoal_operator.state.world.values import ServiceKey

FRESH_SECONDS = 0.25
MAX_ASKED = 64
"""With more pods than that nobody is asked: the news of a second must do."""


def known(ctx: Context, service: Service, memory_bytes: int) -> bool:
    """A plan may be made for a model of that size now: there is room for it, or use is as fresh as it gets.

    If not, agents are asked, and the service is planned once they have answered, or Timing.use_wait later.
    """
    world, key = ctx.world, service.spec.key
    uids = world.pods_of.get(key, ())
    if len(uids) > MAX_ASKED or not world.timing.use_wait:
        return True
    pods = [world.pods[uid] for uid in uids if world.pods[uid].placeable]
    stale = [pod for pod in pods if not _fresh(ctx, pod)]
    if not stale or any(pod.room >= memory_bytes for pod in pods):
        return True
    if key not in world.freshening:
        world.freshening[key] = ctx.now + world.timing.use_wait
    for pod in stale:
        ask(ctx, pod)
    return False


def ask(ctx: Context, pod: Pod) -> bool:
    """Have the pod's agent tell its use; False when there is nothing to wait for."""
    if _fresh(ctx, pod) or not ctx.world.timing.use_wait:
        return False
    if not pod.use_wanted:
        pod.use_wanted = True
        ctx.emit(DesiredChanged(pod.spec.uid))
    return True


def told(ctx: Context, pod: Pod) -> None:
    """The pod's agent has said what is used now."""
    pod.use_at, pod.use_wanted = ctx.now, False
    key = pod.spec.service_key
    if key in ctx.world.freshening and all(
        _fresh(ctx, other)
        for other in map(ctx.world.pods.__getitem__, ctx.world.pods_of.get(key, ()))
        if other.placeable
    ):
        _plan(ctx, key)


def end_waits(ctx: Context) -> None:
    """Plan without those who have not answered in time."""
    for key, until in list(ctx.world.freshening.items()):
        if ctx.now >= until:
            for uid in ctx.world.pods_of.get(key, ()):
                ctx.world.pods[uid].use_wanted = False
            _plan(ctx, key)


def wanted(world: World, pod_uid: str) -> bool:
    """The pod's agent should tell its use at once."""
    pod = world.pods.get(pod_uid)
    return pod is not None and pod.use_wanted


def _plan(ctx: Context, key: ServiceKey) -> None:
    del ctx.world.freshening[key]
    service = ctx.world.services.get(key)
    if service is not None and service.dirty:
        ctx.plan(service)


def _fresh(ctx: Context, pod: Pod) -> bool:
    return not pod.lru or ctx.now <= pod.use_at + FRESH_SECONDS

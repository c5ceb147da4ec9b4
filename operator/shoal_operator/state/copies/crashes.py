"""Models whose load ends the model server's process: how that came about, and when they are left alone.

The agent says during which model's load the process ended; Kubernetes says, a little before or after, why.
"""

from shoal_operator.state import wish
from shoal_operator.state.copies import life
from shoal_operator.state.copies.routes import refresh
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.entities import NEVER, Model, Pod, Service


def crashed(ctx: Context, service: Service | None, pod: Pod, model: Model) -> None:
    """The pod's server ended while it was loading this model and no other."""
    pod.crashed, pod.crashed_at = (model.spec.key, model.spec.uid), ctx.now
    _find_cause(ctx, pod)
    if wish.deadly(model) and not model.fallback:
        _leave_alone(ctx, service, model)


def ended(ctx: Context, pod: Pod) -> None:
    """Kubernetes tells how the pod's server ended."""
    pod.ended_at = ctx.now
    _find_cause(ctx, pod)


def _find_cause(ctx: Context, pod: Pod) -> None:
    if pod.crashed is None or abs(pod.ended_at - pod.crashed_at) > ctx.world.timing.crash_told:
        return
    model = ctx.model(*pod.crashed)
    pod.crashed, pod.ended_at = None, NEVER
    if model is not None and pod.spec.out_of_memory:
        wish.starved(model)
        refresh(ctx, model)


def _leave_alone(ctx: Context, service: Service | None, model: Model) -> None:
    """Its copies go, so that no agent tries again by itself; the next try is a request's, after a pause."""
    wish.back_off(ctx.world, model, ctx.now)
    for copy in [copy for copy in model.copies.values() if wish.on_its_way(copy) and not copy.answers]:
        life.retire(ctx, ctx.world.pods[copy.pod_uid], copy)
    left = any(map(wish.on_its_way, model.copies.values()))
    if service is not None and not left and wish.may_be_cold(service, model):
        wish.cool(service, model, used=False)
        wish.rest(service, model)

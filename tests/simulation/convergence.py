"""What holds once nothing has happened for a while: everything is loaded that can be, every refusal is true, and quiet.

A model whose object cannot be used goes on by its last usable one.
"""

from typing import TYPE_CHECKING

from shoal_operator.state.wish import floor
from shoal_operator.state.world.effects import RouteChanged, Unavailable
from shoal_operator.state.world.entities import World
from shoal_operator.state.world.values import ModelSpec, Source

from .unregistered import MOST

if TYPE_CHECKING:
    from .simulation import Simulation


def check_converged(simulation: "Simulation", world: World) -> None:
    cluster = simulation.cluster
    assert not world.recovering
    registered = {key for key, model in world.models.items() if model.spec.source is not Source.PREFIX}
    assert registered == set(cluster.models)
    idle = [model for key, model in world.models.items() if key not in registered and not model.copies]
    assert len(idle) <= MOST * len(cluster.services), "names that nobody uses"
    assert set(world.pods) == set(cluster.pods)
    assert world.services.keys() == cluster.services.keys()
    assert not any(pod.leaving or pod.occupied for pod in world.pods.values()), "a drain that never ends"
    for waiting in (world.draining, world.grace, world.unhealthy, world.gathering, world.gating, world.retrying):
        assert not waiting, "something waits for ever"
    for model in cluster.models.values():
        assert model.problem is None, "a spoilt model that nobody mended"
        _check_model(simulation, world, model)
    for pod in cluster.pods.values():
        assert pod.loaded.keys() <= world.pods[pod.uid].copies.keys(), "a server holds what nobody wants"


def _check_model(simulation: "Simulation", world: World, model: ModelSpec) -> None:
    """Loaded and routed right, or a good reason: its artifact is broken, or no pod has room."""
    cluster = simulation.cluster
    state = world.models[model.key]
    routes = [envoy.table.get((model.service_key, model.name)) for envoy in simulation.operator.envoys]
    route = routes[0]
    assert routes[1] == route, "Envoys differ"
    assert route is not None, f"{model.name} is unknown to Envoy"
    broken = cluster.broken_spec(model)
    revisions = set()
    for pod_uid in route.pods:
        held = cluster.pods[pod_uid].loaded.get(model.name)
        assert held is not None, "routed to a pod without it"
        assert held.copy_id.startswith(model.uid + "."), "routed to another model of that name"
        same = (held.storage_uri, held.framework) == (model.storage_uri, model.framework)
        assert same or broken or state.refusal is not None, "old content stays"
        revisions.add(cluster.pods[pod_uid].revisions[model.name])
    if not broken and state.refusal is None:
        assert len(revisions) < 2, f"two contents of {model.name} at once: {revisions}"
        if model.check:
            assert revisions <= {cluster.storage(model.storage_uri)}, f"{model.name} does not follow its artifact"
    strict, idle = cluster.services[model.service_key].strict, cluster.services[model.service_key].idle
    least = 0 if idle is not None else model.min_copies or (1 if strict else 0)
    if model.max_copies is not None:
        assert len(route.pods) <= max(least, model.max_copies), "more copies than allowed"
    if state.refusal is not None:
        _check_refusal(world, model)
    elif not broken:
        assert len(route.pods) >= least, f"{len(route.pods)} of {least} copies"
    if not route.pods and not broken:
        _check_cold(simulation, world, model, route)
    tried = "missing" in model.storage_uri or state.failure is not None or strict
    instead = state.last_good is not None and state.last_good.digest != model.content
    if broken and not route.pods and tried and not instead:
        assert not state.ready, f"{model.name} is broken and says Ready"
        assert state.failed, f"{model.name} is broken and does not say so"
    table = simulation.operator.envoys[0].table
    others = [key for key in table if key[1] == model.name and key[0] != model.service_key]
    assert not others, "a former service still routes"


def _check_refusal(world: World, model: ModelSpec) -> None:
    memory = world.models[model.key].memory
    assert memory is not None
    for pod in world.pods.values():
        if pod.spec.service == model.service and pod.placeable and model.name not in pod.copies:
            assert pod.spec.capacity_bytes - pod.committed < memory, "refused although there is room"


def _check_cold(simulation: "Simulation", world: World, model: ModelSpec, route: RouteChanged) -> None:
    """A model that is loaded nowhere: because it may be, and because there is no room."""
    state = world.models[model.key]
    if state.refusal is not None:
        return
    assert not simulation.cluster.services[model.service_key].strict, f"{model.name} is not loaded without a reason"
    idle = simulation.cluster.services[model.service_key].idle
    assert not model.min_copies or idle is not None, f"{model.name} is not loaded without a reason"
    if model.idle_unload is not None:
        return
    pods = [pod for pod in world.pods.values() if pod.spec.service == model.service and pod.placeable]
    if route.unavailable is not Unavailable.COLD:
        kept = {pod.spec.name: sum(_kept(world, pod.spec.service, name) for name in pod.copies) for pod in pods}
        assert route.unavailable is Unavailable.NO_MEMORY, f"{model.name} would not be held: {route.unavailable}"
        assert kept, f"{model.name} would not be held although nothing is kept"
    for pod in pods:
        if state.memory is not None:
            assert pod.room < state.memory, f"{model.name} is cold although {pod.spec.name} has room"


def _kept(world: World, service: str, name: str) -> bool:
    return any(
        floor(world.services[model.spec.service_key], model) > 0
        for key, model in world.models.items()
        if key.name == name and model.spec.service == service
    )

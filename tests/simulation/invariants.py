"""What holds after every event, whatever happens: memory, the ledgers, placement's orders, counts."""

from typing import TYPE_CHECKING

from shoal_operator.state.demand.candidates import standing
from shoal_operator.state.ledger import Claim
from shoal_operator.state.owners.project import model_view, service_view
from shoal_operator.state.wish import Wish, on_its_way, wish_of
from shoal_operator.state.world.entities import Pod, Service, Stage, World
from shoal_operator.state.world.pieces import Task
from shoal_operator.status.explain import explain
from shoal_operator.status.model_status import diagnose, model_status
from shoal_operator.status.service_status import service_status

from .parts import SimPod

if TYPE_CHECKING:
    from .simulation import Simulation


def check(simulation: "Simulation", world: World) -> None:
    """After every event."""
    now = simulation.loop.now
    pods = simulation.cluster.pods
    for real in pods.values():  # also while the operator knows nothing yet
        assert sum(real.physical().values()) <= real.capacity, f"{real.name} is out of memory at {now}"
    for pod in world.pods.values():
        check_sums(pod)
        assert pod.committed <= pod.spec.capacity_bytes, f"{pod.spec.name} is overcommitted at {now}"
        if pod.taken_in and not world.recovering and not world.pieces.pending(Task.SLOTS, pod.spec.uid):
            _check_against_server(pod, pods.get(pod.spec.uid))
    check_standings(world)
    for service in world.services.values():
        check_wishes(world, service, now)
        if not world.touched:
            own_pods = [world.pods[uid] for uid in world.pods_of.get(service.spec.key, ())]
            counted = [pod for pod in own_pods if pod.placeable] or [pod for pod in own_pods if pod.serves]
            most = max((pod.ledger.obtainable for pod in counted), default=None)
            assert service.obtainable == most, "what a request could have drifted"
        own = [world.models[key] for key in world.models.of(service.spec.key)]
        models = [model for model in own if model.counted_in is service]  # a new service's in pieces
        if not world.recovering:
            assert service.ready_count == sum(model.ready for model in models), "ready count drifted"
            assert service.failed_count == sum(model.failed for model in models), "failed count drifted"


def check_wishes(world: World, service: Service, now: float) -> None:
    """A model is where its wish says, and nowhere else."""
    own = world.models.of(service.spec.key)
    for keys in (service.cold.keys(), service.refused, service.hot):
        assert keys <= own, "another service's model"
    assert not service.cold.keys() & service.refused, "cold and refused at once"
    for key in service.cold:
        assert world.models[key].target == 0, f"{key.name} is cold and wants copies"
        assert wish_of(service, world.models[key], now) is not Wish.ASKED, f"{key.name} is asked for and cold"
    for key in own:
        if wish_of(service, world.models[key], now) is Wish.ASKED:
            assert key in world.asked, f"nobody gives {key.name} up"
        for uid, copy in world.models[key].copies.items():
            asked = world.models[key].asked_until > now
            if on_its_way(copy) and not copy.current and not world.recovering:
                assert copy.urgent or not asked, f"the agent of {uid} does not know that {key.name} is asked for"


def check_sums(pod: Pod) -> None:
    assert pod.committed == sum(copy.charged for copy in pod.copies.values()), "the ledger drifted"
    assert pod.unloading <= pod.occupied <= pod.copies.keys()
    leaving = {name: copy for name, copy in pod.copies.items() if not on_its_way(copy)}
    held = {name: copy for name, copy in pod.copies.items() if copy.stage is Stage.PROMISED}
    assert pod.occupied == leaving.keys()
    outgoing = sum(c.charged for c in leaving.values() if c.account.claim is Claim.OUTGOING)
    assert pod.ledger.outgoing == outgoing, "outgoing bytes drifted"
    assert pod.promised.keys() == held.keys()
    promised = sum(copy.memory for copy in held.values())
    assert pod.ledger.promised == promised, "promised bytes drifted"
    assert not any(copy.charged for copy in held.values()), "a held copy is charged"
    assert not pod.ledger.overdrawn, "promised what is not there"
    kept = sum(account.charged for account in pod.ledger.accounts.values() if account.claim is Claim.OVERDUE)
    kept += sum(c.charged or c.memory for c in pod.copies.values() if on_its_way(c) and c.account.kept)
    assert pod.ledger.kept == kept, "kept bytes drifted"
    assert pod.lru.keys() <= pod.copies.keys()
    assert pod.failing <= pod.copies.keys()


def _check_against_server(pod: Pod, real: SimPod | None) -> None:
    """What the server really holds is charged, slot by slot; where the pod is full, all of it together."""
    if real is None or real.session != pod.session:
        return
    physical = real.physical()
    assert sum(physical.values()) <= pod.committed, f"{pod.spec.name} holds more than is charged"
    for name, taken in physical.items():
        copy = pod.copies.get(name)
        assert copy is not None, f"{pod.spec.name} holds {name}, which is not charged"
        assert copy.charged >= taken or pod.ledger.free <= 0, f"{name} takes more than is charged"


def check_standings(world: World) -> None:
    """Placement's orders are right for all pods but those that it will look at again anyway."""
    for uid, pod in world.pods.items():
        if uid in world.touched:
            continue
        assert uid in world.standing_in, "a pod that placement does not know"
        known, now = world.standings[world.standing_in[uid]].get(uid), standing(world, pod)
        assert (known is None) == (now is None), "placement does not know whether the pod takes models"
        if known is not None and now is not None:
            assert known[:5] == now[:5], "placement takes the pod for fuller or emptier than it is"
            # Use is told of one pod at a time: the same model may have been used on another one since.
            assert (known.unused_since or 0) <= (now.unused_since or 0), "its copies are longer unused than known"


def check_counts(simulation: "Simulation", world: World) -> None:
    """InferenceService, TrainedModels and explain say the same of how many models are Ready, and how many failed."""
    if not world.recovering and not world.pieces:
        for service in world.services.values():
            _check_counts(simulation, world, service)


def _check_counts(simulation: "Simulation", world: World, service: Service) -> None:
    now, moment = simulation.loop.now, simulation.statuses.moment
    ready = failed = 0
    for key in world.models.of(service.spec.key):
        view = model_view(world, key, now, url="")
        assert view is not None
        said = diagnose(view)["Ready"]
        ready += said.good
        failed += model_status(view, None, moment)["serving"] == "Failed"
        told = explain(view)
        shown = next(each for each in told["conditions"] if each["type"] == "Ready")
        assert (shown["status"], shown["reason"]) == (said.verdict.value, said.reason)
        assert (told["answers"] or told["onDemand"]) == said.good, f"explain and Ready differ about {key.name} at {now}"
    whole = service_view(world, service.spec.key, now, url="", gateways=1)
    assert whole is not None
    models = service_status(whole, None, moment)["models"]
    assert (models["ready"], models["failed"]) == (ready, failed), f"the counts differ at {now}"

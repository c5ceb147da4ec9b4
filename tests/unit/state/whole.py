"""What holds of a small world after every event of every test: indices say the same as what they are indices of.

Whoever forgets to note something in one place has some test fail, whatever it is about. What the simulation checks of
its worlds is checked here too.
"""

from shoal_operator.state.wish import on_its_way
from shoal_operator.state.world.entities import Model, Pod, Service, Stage, World
from shoal_operator.state.world.values import ModelKey

from tests.simulation.invariants import check_standings, check_sums, check_wishes

MANY = 40
"""Models and pods; tests of larger worlds are about how much is looked at."""


def is_large(world: World) -> bool:
    return len(world.models) + len(world.pods) > MANY


def check(world: World, now: float) -> None:
    check_indices(world)
    if world.pieces:
        return
    if not world.recovering:
        check_plans(world)
    if is_large(world):
        return
    for pod in world.pods.values():
        check_sums(pod)
        _check_pod(world, pod)
    for model in world.models.values():
        _check_model(world, model)
    if world.recovering:
        return
    check_standings(world)
    for service in world.services.values():
        check_wishes(world, service, now)
        _check_service(world, service)
    _check_queues(world, now)


def check_indices(world: World) -> None:
    """They name nothing that is not there, also while an InferenceService is kept aside."""
    for index in (world.unhealthy, world.gating, *world.pods_of.values()):
        assert set(index) <= world.pods.keys(), "an index names a pod that is not there"
    assert set(world.gathering) <= world.services.keys()


def check_plans(world: World) -> None:
    """What is to be planned is, or waits for something."""
    for key, service in world.services.items():
        waits = service.plan_requested or service.gathering or key in world.freshening
        assert waits or not service.dirty, "nobody plans what is to be planned"


def _check_pod(world: World, pod: Pod) -> None:
    uid = pod.spec.uid
    assert (uid in world.pods_of.get(pod.spec.service_key, ())) == (not pod.gone)
    for name, copy in pod.copies.items():
        model = world.models.get(ModelKey(pod.spec.namespace, name))
        if copy.uid and model is not None and model.spec.uid == copy.uid:
            assert model.copies.get(uid) is copy, "a model does not know its copy"
        intent = pod.desired.get(name)
        if copy.stage is Stage.UNLOADING:
            assert intent is None, "an agent is told to hold what is to go"
        elif on_its_way(copy):
            wanted = copy.intent()
            assert intent is not None, "an agent is not told what it is to hold"
            told = {"urgent": wanted.urgent, "check": wanted.check}  # which it need not be told
            assert intent.model_copy(update=told) == wanted, "an agent is told something else"
    for intent in pod.desired:
        assert intent.name in pod.copies or intent.name in pod.probes, "an agent is told of what is nothing"
    for name in pod.lru:
        assert pod.copies[name].answers, "what answers no more is among those that do"
        assert on_its_way(pod.copies[name])
    for name in pod.failing:
        assert not pod.copies[name].answers
        assert on_its_way(pod.copies[name])
    counted = [copy.tally for copy in pod.copies.values() if copy.tally is not None]
    for framework, total in pod.tallies.items():
        own = [tally for kind, tally in counted if kind == framework]
        assert total.memory == sum(tally.memory for tally in own), "what is loaded was counted otherwise"
        assert total.artifacts == sum(tally.artifacts for tally in own)
    assert {kind for kind, _ in counted} == pod.tallies.keys()
    for name, owner in pod.probes.items():
        model = world.models.get(ModelKey(pod.spec.namespace, name))
        if model is not None and model.spec.uid == owner:
            assert model.probe == uid, "a pod looks up what nobody has asked it to"


def _check_model(world: World, model: Model) -> None:
    for uid, copy in model.copies.items():
        assert world.pods[uid].copies.get(copy.name) is copy, "a model has a copy that its pod does not know"
    if model.probe is not None:
        assert model.spec.name in world.pods[model.probe].probes, "nobody looks up what is said to be looked up"
    if world.recovering:
        return
    for service, target in model.routes.items():
        answering = {
            uid
            for uid, copy in model.copies.items()
            if copy.stage is Stage.PLACED
            and copy.answers
            and world.pods[uid].serves
            and world.pods[uid].spec.service_key == service
        }
        assert target.pods == (answering if service in world.services else set()), "requests go elsewhere"
    assert model.loaded == bool(model.routes[model.spec.service_key].pods)


def _check_service(world: World, service: Service) -> None:
    key = service.spec.key
    own = {each: world.models[each] for each in world.models.of(key)}
    counts = (service.loaded_count, service.ready_count, service.failed_count)
    assert counts == tuple(
        sum(getattr(model, name) for model in own.values()) for name in ("loaded", "ready", "failed")
    ), "the counts drifted"
    assert service.sizes._size == {each: model.memory for each, model in own.items() if model.memory is not None}
    pods = [world.pods[uid] for uid in world.pods_of.get(key, ())]
    if service.spec.idle is None:
        usable = service.spec.problem is None and any(pod.serves for pod in pods)
        assert service.usable == usable, "whether requests may come is not known"
    serving = {pod.spec.uid for pod in pods if pod.serves}
    assert service.route <= serving, "requests without a model go to pods that serve no more"
    assert bool(service.route) == bool(serving)
    assert service.to_probe.keys() <= own.keys()
    assert not any(own[each].probe for each in service.to_probe), "looked up, and waiting for that"
    assert service.retry_at is None or key in world.retrying


def _check_queues(world: World, now: float) -> None:
    since = {uid for uid, pod in world.pods.items() if pod.unhealthy_since is not None}
    waiting = {uid for uid in since if not world.pods[uid].abandoned and not world.pods[uid].gone}
    assert set(world.unhealthy) == waiting, "a pod that is down is not looked after"
    leaving = {(each.pod_uid, each.name, each.uid) for each in (*world.draining, *world.grace)}
    for uid, pod in world.pods.items():
        for name, copy in pod.copies.items():
            if copy.stage is Stage.DRAINING:
                assert (uid, name, copy.uid) in leaving, "what is on its way out is forgotten"
    for queue in (world.grace, world.outgoing):
        assert all(each.at > now for each in queue), "what is due was not done"
    assert world.agenda.next is None or world.agenda.next > now
    assert world.wake is None or world.wake > now

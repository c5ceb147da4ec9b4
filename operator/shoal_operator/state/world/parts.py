"""One InferenceService's part of the world, lifted out of it and put into it: every index, and nothing else.

Everything that is added to the world has to be thought of here; a test compares with the world's fields.
"""

from collections import deque
from collections.abc import Collection, Container, Iterable
from operator import attrgetter

from shoal_operator.state.world.entities import Departure, Pod, Service, World
from shoal_operator.state.world.models import Members
from shoal_operator.state.world.pieces import Task
from shoal_operator.state.world.values import ServiceKey


def lift(world: World, key: ServiceKey) -> tuple[Service | None, Members, dict[str, Pod]]:
    """Take out the service, its models and its pods; O(pods). The indices are not relied on, since they may be what is
    wrong."""
    service = world.services.pop(key, None)
    models = world.models.lift(key)
    pods = {uid: pod for uid, pod in world.pods.items() if pod.spec.service_key == key}
    for uid in pods:
        del world.pods[uid]
    return service, models, pods


def forget(world: World, key: ServiceKey, models: Container[object], pods: Collection[str]) -> None:
    """Drop what the world's indices hold of them. The agenda names models that are not there until they are due."""
    world.pods_of.pop(key, None)
    for services in (world.retrying, world.gathering, world.reviewing):
        services.discard(key)
    world.freshening.pop(key, None)
    world.alarms.forget(key)
    world.asked.difference_update([asked for asked in world.asked if asked in models])
    world.unhealthy.difference_update(pods)
    world.gating.difference_update(pods)
    world.draining = deque(departure for departure in world.draining if departure.pod_uid not in pods)
    world.grace = deque(departure for departure in world.grace if departure.pod_uid not in pods)
    world.outgoing = deque(departure for departure in world.outgoing if departure.pod_uid not in pods)
    world.moving = deque(entry for entry in world.moving if entry[1] not in models)
    world.standings.pop(key, None)
    for uid in pods:
        for by_pod in (world.stored, world.standing_in, world.touched, world.ordered):
            by_pod.pop(uid, None)
    for task in set(Task) - {Task.REMAINS}:
        for subject in (key, *pods):
            world.pieces.drop(task, subject)


def put_in(world: World, own: World) -> None:
    """What is in the small world, where one InferenceService was built anew, is in the world from now on."""
    world.services.update(own.services)
    world.models.take_over(own.models)
    world.pods.update(own.pods)
    world.freshening.update(own.freshening)
    for uid in own.pods:
        world.touch(uid)  # and is put in order with the next plan
    for key, pods in own.pods_of.items():
        if world.pods_of.get(key):
            world.pods_of[key].update(pods)
        else:
            world.pods_of[key] = pods
    world.retrying.update(own.retrying)
    world.gathering.update(own.gathering)
    world.reviewing.update(own.reviewing)
    world.asked.update(own.asked)
    world.unsettled.update(own.unsettled)
    world.unhealthy.update(own.unhealthy)
    world.gating.update(own.gating)
    for departure in own.draining:
        departure.at = world.sequence  # all that the gateway was told
    world.draining = _in_order(world.draining, own.draining)
    world.grace = _in_order(world.grace, own.grace)
    world.outgoing = _in_order(world.outgoing, own.outgoing)
    world.moving = deque(sorted([*world.moving, *own.moving]))
    world.agenda.take_over(own.agenda)
    world.alarms.take_over(own.alarms)
    world.checks.update(own.checks)
    world.check_at = max(world.check_at, own.check_at)
    world.revised.update(own.revised)
    world.review_at = _sooner(world.review_at, own.review_at)
    world.gate_at = _sooner(world.gate_at, own.gate_at)


def _in_order(some: Iterable[Departure], others: Iterable[Departure]) -> deque[Departure]:
    return deque(sorted([*some, *others], key=attrgetter("at")))


def _sooner(at: float | None, other: float | None) -> float | None:
    return min((each for each in (at, other) if each is not None), default=None)

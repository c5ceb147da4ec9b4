"""Which models could move when pods joined: the most recently used ones of the fullest pods, not all that there are.

One round moves a bounded number of models, so it needs to know no more than that many of each pod that gives some away.
"""

from itertools import islice

from shoal_operator.state import wish
from shoal_operator.state.world.entities import Model, Pod, Service, World
from shoal_operator.state.world.values import ModelKey

MAX_FULL_PODS = 64
MAX_CANDIDATES = 256
"""Of all pods together; a round makes at most a quarter as many moves (placement.balance)."""
MAX_PASSED = 512
"""Copies that a pod is searched for them."""


def candidates(world: World, service: Service) -> tuple[list[Model], int]:
    """Models that could move or are being moved, and how many copies are on their way to any pod; O(pods)."""
    pods = [world.pods[uid] for uid in sorted(world.pods_of.get(service.spec.key, ()))]
    usable = [pod for pod in pods if pod.placeable and pod.spec.capacity_bytes]
    found: dict[ModelKey, Model] = {}
    for key in list(service.evening_out):
        model = world.models.get(key)
        copies = [] if model is None else [copy for copy in model.copies.values() if wish.on_its_way(copy)]
        if (
            model is None
            or model.spec.service_key != service.spec.key
            or len(copies) <= wish.copies_wanted(service, model)
        ):
            del service.evening_out[key]
        else:
            found[key] = model
    if len(usable) >= 2:
        mean = sum(map(_fullness, usable)) / len(usable)
        full = sorted((pod for pod in usable if _fullness(pod) > mean), key=_fullness, reverse=True)[:MAX_FULL_PODS]
        for pod in full:
            found.update(_movable(world, service, pod, MAX_CANDIDATES // len(full)))
    return list(found.values()), sum(max(0, _on_their_way(pod)) for pod in pods)


def _movable(world: World, service: Service, pod: Pod, most: int) -> dict[ModelKey, Model]:
    found: dict[ModelKey, Model] = {}
    for name in islice(reversed(pod.lru), MAX_PASSED):
        model = world.models.get(ModelKey(pod.spec.namespace, name))
        if model is not None and model.spec.service_key == service.spec.key and model.memory is not None:
            found[model.spec.key] = model
            if len(found) >= most:
                break
    return found


def _fullness(pod: Pod) -> float:
    return pod.committed / pod.spec.capacity_bytes


def _on_their_way(pod: Pod) -> int:
    """Copies that neither answer, nor have failed, nor leave."""
    return len(pod.copies) - len(pod.lru) - len(pod.failing) - len(pod.occupied)

"""How the copies of a pod stand among each other: those that answer in the order of their use, and those that failed.

Whoever must make way is found by this. A copy that is still being loaded, or is leaving, is in neither.
"""

from collections.abc import Iterable

from shoal_operator.state.world.entities import Model, Pod, World


def use(world: World, model: Model, at: float, pods: Iterable[Pod]) -> None:
    """The model was used at that time: on these of its pods it is the last to make way."""
    model.last_used = at
    for pod in pods:
        if model.spec.name in pod.lru:
            pod.lru.move_to_end(model.spec.name)
            world.touch(pod.spec.uid)


def answers(pod: Pod, name: str, *, unused: bool) -> None:
    """The copy answers from now on. ``unused``: nobody waits for it, so it is the first to make way."""
    pod.failing.discard(name)
    pod.lru[name] = None
    if unused:
        pod.lru.move_to_end(name, last=False)


def answers_no_more(pod: Pod, name: str) -> None:
    """Its server has lost it."""
    pod.lru.pop(name, None)


def fails(pod: Pod, name: str) -> None:
    """Its last attempt failed, and it answers nothing: everybody else goes before it."""
    pod.failing.add(name)


def tries(pod: Pod, name: str) -> None:
    """It is to load something else: what failed says nothing of that."""
    pod.failing.discard(name)


def leaves(pod: Pod, name: str) -> None:
    """It makes way already, or is gone."""
    pod.lru.pop(name, None)
    pod.failing.discard(name)


def keep(world: World, pod: Pod, names: Iterable[str]) -> None:
    """These may not make way now: they go behind the others, which they would hide for ever."""
    for name in names:
        pod.lru.move_to_end(name)
        world.touch(pod.spec.uid)

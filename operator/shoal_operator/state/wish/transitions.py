"""How the state of a model's wish changes: every transition has a name, and is made here alone.

They change what is wanted and nothing else. Copies, routes and plans that follow are their callers'.
"""

from shoal_operator.state.wish.states import asked, floor
from shoal_operator.state.world.entities import NEVER, Model, Service, World
from shoal_operator.state.world.values import ModelKey, Refusal


def want(service: Service | None, model: Model) -> None:
    """At least one copy is wanted: it is new or changed, memory is free, or a copy is being placed."""
    model.target = max(1, model.target)
    if service is not None:
        service.cold.pop(model.spec.key, None)


def ask(world: World, service: Service, model: Model, now: float, seconds: float) -> bool:
    """A request waits for it, which counts for so many ``seconds``. True: it is the first."""
    first = not asked(model, now)
    if first:
        model.asked_at = now
        world.asked.add(model.spec.key)
    model.asked_until = now + seconds
    want(service, model)
    return first


def answered(world: World, model: Model) -> None:
    """It is loaded, or failed, or nobody asks any more: nobody waits for it."""
    model.asked_until = NEVER
    world.asked.discard(model.spec.key)


def refuse(service: Service, model: Model, why: Refusal | None) -> bool:
    """It wants a copy more, or its update, and no pod takes that: it is offered memory when some is freed.

    ``why`` None: what it waits for is on its way, so nobody is told that it was refused. True: that has changed.
    """
    service.refused.add(model.spec.key)
    service.cold.pop(model.spec.key, None)
    return _say(model, why)


def admit(service: Service | None, model: Model) -> bool:
    """It has what it wanted, or there is nobody who could refuse it. True: it was refused until now."""
    if service is not None:
        service.refused.discard(model.spec.key)
    return _say(model, None)


def _say(model: Model, why: Refusal | None) -> bool:
    changed, model.refusal = why != model.refusal, why
    return changed


def cool(service: Service, model: Model, *, used: bool) -> None:
    """No copy is wanted now. ``used``: it was in memory before, and comes back before those that never were."""
    model.target = 0
    admit(service, model)
    service.hot.discard(model.spec.key)
    service.cold[model.spec.key] = None
    if not used:
        service.cold.move_to_end(model.spec.key, last=False)


def rest(service: Service, model: Model) -> None:
    """It is cold, and stays so until it is asked for, also when memory is free."""
    service.cold.pop(model.spec.key, None)


def evicted(model: Model, left: int) -> None:
    """A copy made way: no more than those that are ``left`` are wanted for its use."""
    model.target = min(model.target, left)


def scale(service: Service, model: Model, copies: int, least: int) -> bool:
    """So many copies are wanted for its rate; more than ``least`` make it a hot model. True: they were others."""
    if copies > least:
        service.hot.add(model.spec.key)
    else:
        service.hot.discard(model.spec.key)
    if copies:
        service.cold.pop(model.spec.key, None)  # it was used until its last copy left
    changed, model.target = copies != model.target, copies
    return changed


def cools_down(service: Service, key: ModelKey) -> None:
    """No model of that name has more copies than its minimum for its rate."""
    service.hot.discard(key)


def crowd(model: Model, copies: int, until: float) -> None:
    """There is no room for more than these copies; it is not tried again before that time."""
    model.target, model.crowded_until = copies, until


def found(service: Service | None, model: Model, copies: int) -> bool:
    """It was found loaded so many times: they are its wish until its rate is known. True: it is hot."""
    want(service, model)
    model.target = max(model.target, copies)
    if service is None or model.target <= max(1, floor(service, model)):
        return False
    service.hot.add(model.spec.key)
    return True


def move(service: Service | None, model: Model) -> None:
    """It leaves the InferenceService for another one, of which it wants a copy."""
    if service is not None:
        forget(service, model)
    model.refusal = None
    model.target = max(1, model.target)


def forget(service: Service, model: Model) -> None:
    """It is not the InferenceService's any more."""
    key = model.spec.key
    service.refused.discard(key)
    service.dirty.discard(key)
    service.hot.discard(key)
    service.cold.pop(key, None)
    service.sizes.discard(key)

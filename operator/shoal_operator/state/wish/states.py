"""The states of a model's wish, each by what makes it so, and how many copies it comes to. Pure questions."""

from enum import StrEnum

from shoal_operator.state.world.entities import Model, Service
from shoal_operator.state.world.rest import Phase
from shoal_operator.state.world.values import ModelKey

MAX_CRASHES = 3
"""How often a content may take a model server down before it is tried only for those who ask."""


class Wish(StrEnum):
    """What a model wants now: exactly one of these. See ``transitions`` for what leads there."""

    FAILED = "Failed"  # the last try failed: left alone until the next one, or until its content changes
    UNSIZED = "Unsized"  # nobody knows yet how much memory it takes: it is looked up, and nothing is placed before
    REFUSED = "Refused"  # it wants a copy more than it has, and no pod takes it: offered memory when some is freed
    ASKED = "Asked"  # a request waits for it
    WANTED = "Wanted"  # copies are wanted for its use or its minimum: it has them, or they are being placed and loaded
    COLD = "Cold"  # no copy is wanted until somebody asks, or memory is free


def wish_of(service: Service, model: Model, now: float) -> Wish:
    """The state of the model's wish."""
    if model.failure is not None and not model.fallback and (model.retry_at > now or not model.copies):
        return Wish.FAILED
    if model.memory is None:
        return Wish.UNSIZED
    if refused(service, model.spec.key):
        return Wish.REFUSED
    if asked(model, now):
        return Wish.ASKED
    return Wish.WANTED if copies_wanted(service, model) else Wish.COLD


def refused(service: Service, key: ModelKey) -> bool:
    return key in service.refused


def floor(service: Service, model: Model) -> int:
    """Copies that are kept whatever the use: spec.serving.minCopies; 0 by default, 1 where nothing may be cold. Of a
    model that has pods of its own one on each of them. Where there may be no pod (minReplicas 0) nothing is kept, but a
    model of its own while there are some."""
    if service.spec.idle is not None and (service.spec.multi_model or service.rest.phase is not Phase.UP):
        return 0
    if not service.spec.multi_model:
        return service.scale.replicas or service.spec.min_replicas
    least = model.spec.min_copies or 0
    return max(1, least) if service.spec.strict else least


def copies_wanted(service: Service, model: Model) -> int:
    """Copies wanted now."""
    if service.rest.resting:
        return 0
    count = max(floor(service, model), model.target)
    return count if model.spec.max_copies is None else min(count, max(model.spec.max_copies, floor(service, model)))


def may_be_cold(service: Service, model: Model) -> bool:
    return floor(service, model) == 0


def may_wait(service: Service, model: Model) -> bool:
    """It may be loaded nowhere, and a request have it loaded: also what is kept, where its pods may have gone."""
    return service.spec.idle is not None or may_be_cold(service, model)


def lacks_any(service: Service, model: Model) -> bool:
    """It is to answer at any time, and nothing of it does: what works comes before what is only tried again."""
    return not may_wait(service, model) and not any(copy.answers for copy in model.copies.values())


def asked(model: Model, now: float) -> bool:
    """A request waits for it, or gave up waiting while its load goes on."""
    return model.asked_until > now


def deadly(model: Model) -> bool:
    """What the spec names has taken model servers down too often: each further try costs others theirs."""
    return model.crashes >= MAX_CRASHES and model.failure is not None


def fits_a_pod(service: Service, model: Model) -> bool:
    """Some pod could hold it, were it empty."""
    return model.memory is not None and model.memory <= service.spec.capacity_bytes


def plannable(service: Service, model: Model) -> bool:
    """Some runtime of the service could load the model, its spec can be used, and its memory is known."""
    return (
        service.spec.problem is None
        and model.spec.problem is None
        and service.spec.takes(model.spec)
        and model.aim.framework.lower() in service.spec.formats
        and model.memory is not None
    )

"""Models that nobody registered come with the first request for them, or with an agent that holds them already.

From then on they are models like any other: looked up before anything is loaded, cold or hot, evicted, moved. How they
go, ``owners/unregistered.py`` says.
"""

import uuid

from shoal_api.messages import content_digest

from shoal_operator.state import wish
from shoal_operator.state.copies import probes, routes
from shoal_operator.state.world.agenda import Topic
from shoal_operator.state.world.context import Context
from shoal_operator.state.world.effects import ServiceStatusChanged
from shoal_operator.state.world.entities import Model, Service
from shoal_operator.state.world.prefix import NEVER_SEEN_SECONDS, UNUSED_SECONDS
from shoal_operator.state.world.values import ModelKey, ModelSpec, ServiceKey, ServiceSpec, Source

MAX_UNKNOWN = 1_000
"""Models beyond those that there may be, which agents may say that they hold."""
LOOKS = 16
"""Names that are looked at for one that can go, those that were looked at longest ago."""


def spec_of(service: ServiceSpec, name: str) -> ModelSpec | None:
    """The model of that name, whether or not there is such an artifact; None: there can be none.

    Its UID is computed, so that what agents hold is known again by an operator that has never heard of it. Its size is
    not known before its artifact was seen, whatever each is declared with: made-up names have nothing evicted.
    """
    place = service.models_from
    uri = place.location(name) if place is not None else None
    if place is None or uri is None:
        return None
    return ModelSpec(
        namespace=service.namespace,
        name=name,
        uid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{service.uid}/{name}")),
        generation=0,
        service=service.name,
        storage_uri=uri,
        framework=place.framework,
        memory_bytes=None,
        content=content_digest(uri, place.framework),
        source=Source.PREFIX,
    )


def may_be(service: Service, name: str, now: float) -> bool:
    """A request for the name can be held until it is known whether there is such an artifact."""
    return service.spec.may_have(name) and not service.asked_for.is_absent(name, now)


def asked(ctx: Context, key: ServiceKey, name: str) -> Model | None:
    """A request waits for a name that no model has. None: there can be none, or not now; who waits asks again."""
    service = ctx.world.services.get(key)
    if service is None or ctx.world.recovering or service.asked_for.is_absent(name, ctx.now):
        return None
    spec = spec_of(service.spec, name)
    if spec is None or not service.asked_for.begin(name, ctx.now):
        return None
    _make_place(ctx, service)
    model = _begin(ctx, spec)
    routes.refresh(ctx, model)
    probes.look_up(ctx, service, model)
    return model


def held(ctx: Context, service: Service | None, key: ModelKey, copy_id: str | None) -> Model | None:
    """An agent holds what only a request of an earlier operator's time can have asked for: it is one of them again."""
    spec = spec_of(service.spec, key.name) if service is not None else None
    if service is None or spec is None or copy_id is None or not copy_id.startswith(spec.uid + "."):
        return None
    if crowded(ctx, service, beyond=MAX_UNKNOWN):
        return None  # what agents say has an end as well
    service.asked_for.found(key.name)
    return _begin(ctx, spec)


def _begin(ctx: Context, spec: ModelSpec) -> Model:
    model = ctx.world.models[spec.key] = wish.begin(spec, None, vouched=False)
    ctx.world.agenda.put(ctx.now + patience(model), spec.key, Topic.UNUSED)
    ctx.emit(ServiceStatusChanged(spec.service_key))
    return model


def _make_place(ctx: Context, service: Service) -> None:
    """Where there are as many as there may be, one that nobody uses goes. What pods hold, and who waits, is bounded
    elsewhere: it may be more of those."""
    key = service.spec.key
    if not crowded(ctx, service):
        return
    for name in service.asked_for.oldest(LOOKS):
        model = ctx.world.models.get(ModelKey(key.namespace, name))
        if model is None or model.spec.service_key != key or model.spec.source is not Source.PREFIX:
            service.asked_for.drop(name)  # it has an object of its own now, or had one
        elif idle(model, ctx.now):
            ctx.settle_later(model)
            return


def crowded(ctx: Context, service: Service, *, beyond: int = 0) -> bool:
    """The InferenceService has as many models as it may have, or so many ``beyond``."""
    place = service.spec.models_from
    return place is not None and len(ctx.world.models.of(service.spec.key)) >= place.most + beyond


def patience(model: Model) -> float:
    """Seconds without use after which it is forgotten: sooner where nobody has ever seen its artifact."""
    return UNUSED_SECONDS if model.artifact_seen else NEVER_SEEN_SECONDS


def idle(model: Model, now: float) -> bool:
    """No pod holds it or looks it up, and nobody waits for it."""
    return not model.copies and model.probe is None and not wish.asked(model, now)

"""An InferenceService with a model of its own -> the state's ModelSpec. Pure.

The other source of models beside ``parse``: past this, nothing depends on which of the two a model comes from.
"""

from dataclasses import replace

from shoal_api.common import unread_annotations
from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService
from shoal_api.messages import content_digest
from shoal_api.names import MEMBER_ANNOTATIONS
from shoal_api.storage_uri import StorageUriError, parse_storage_uri

from shoal_operator.state.world.values import ModelSpec, Problem, Source

from .moments import seconds

PINNED_BYTES = 1
"""What a model on pods of its own is counted with: nobody shares them, and its update finds room beside it."""


_OF_A_MODEL = frozenset({"storageUri", "storage", "protocolVersion", "modelFormat", "runtime", "name"})


def own_model(isvc: InferenceService, *, shared: bool = False) -> ModelSpec | None:
    """The predictor's own model; None where it has none. ``shared``: on its runtime's pods, whose name as a service it
    is still to be given, not on its own. What is wrong with it is its ``problem``; raises SpecError where the predictor
    cannot be read."""
    predictor = isvc.spec.predictor
    model_format = predictor.model_format()
    if predictor.containers and predictor.multi_model():
        return None
    if not predictor.own_model() or model_format is None:
        return None
    meta, framework = isvc.metadata, model_format.name.lower()
    spec = ModelSpec(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        service=meta.name,
        storage_uri="",
        framework=framework,
        memory_bytes=None if shared else PINNED_BYTES,
        content=content_digest("", framework),
        ignored_fields=_without_effect(isvc) if shared else (),
        source=Source.INFERENCE_SERVICE,
        created=seconds(meta.creation_timestamp),
    )
    for part in (_location, _serving):  # of what cannot be used the rest is told all the same
        try:
            spec = part(spec, isvc)
        except (SpecError, StorageUriError) as error:
            spec = replace(spec, problem=spec.problem or Problem(error.reason, error.message))
    return replace(spec, content=content_digest(spec.storage_uri, framework, spec.tuning))


def _location(spec: ModelSpec, isvc: InferenceService) -> ModelSpec:
    location = isvc.own_location()
    try:
        parse_storage_uri(location)
    except StorageUriError as error:  # the URI is told all the same
        return replace(spec, storage_uri=location, problem=Problem(error.reason, error.message))
    return replace(spec, storage_uri=location)


def _serving(spec: ModelSpec, isvc: InferenceService) -> ModelSpec:
    serving = isvc.own_serving()
    spec = replace(spec, tuning=serving.tuning("spec.serving"))
    if spec.memory_bytes is not None:
        return spec
    return replace(
        spec,
        min_copies=serving.min_copies,
        max_copies=serving.max_copies,
        idle_unload=serving.idle_unload_seconds(),
    )


def _without_effect(isvc: InferenceService) -> tuple[str, ...]:
    """What is written about pods, which are the runtime's."""
    written = isvc.spec.predictor.to_object()
    key = isvc.spec.predictor.implementation().key
    pods = [f"spec.predictor.{name}" for name in sorted(written.keys() - {key, "name"})]
    inside = [f"spec.predictor.{key}.{name}" for name in sorted(written[key].keys() - _OF_A_MODEL)]
    annotations = unread_annotations(isvc.metadata, MEMBER_ANNOTATIONS)
    return tuple(dict.fromkeys((*isvc.ignored_fields(), *annotations, *pods, *inside)))

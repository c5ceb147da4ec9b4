"""An InferenceService with a model of its own -> the state's ModelSpec. Pure.

The other source of models beside ``parse``: past this, nothing depends on which of the two a model comes from.
"""

from dataclasses import replace

from shoal_api.errors import SpecError
from shoal_api.inference_service import InferenceService
from shoal_api.messages import content_digest
from shoal_api.storage_uri import StorageUriError, parse_storage_uri

from shoal_operator.state.world.values import ModelSpec, Problem, Source

from .moments import seconds

PINNED_BYTES = 1
"""What a model on pods of its own is counted with: nobody shares them, and its update finds room beside it."""


def own_model(isvc: InferenceService) -> ModelSpec | None:
    """The predictor's own model, on pods of its own; None where it has none. What is wrong with it is its
    ``problem``; raises SpecError where the predictor cannot be read."""
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
        memory_bytes=PINNED_BYTES,
        content=content_digest("", framework),
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
    return replace(spec, tuning=isvc.own_serving().tuning("spec.serving"))

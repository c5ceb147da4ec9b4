"""A TrainedModel object of the API server -> the state's ModelSpec. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from shoal_api.errors import SpecError
from shoal_api.grammar import MODEL_NAME, SERVICE_NAME
from shoal_api.messages import CopyFailure, FailureStage, content_digest
from shoal_api.names import ANNOTATION_ARTIFACT_CHECK, LOADED, READY, STORAGE_RESOLVED
from shoal_api.quantity import check_seconds, quantity_bytes
from shoal_api.storage_uri import StorageUriError, parse_storage_uri
from shoal_api.trained_model import ServedContent, TrainedModel
from shoal_api.tuning import UNTUNED

from shoal_operator.state.world.values import Content, ModelSpec, Problem

from .moments import seconds

_VOUCHING = frozenset({"Loaded", "OnDemand", "ScaledToZero", "Waking"})
"""Reasons of Ready that speak of the wanted content, not of one that serves meanwhile; the last two of an
InferenceService's own model."""


def model_spec(obj: Mapping[str, Any]) -> ModelSpec:
    """What the state knows of a TrainedModel; what is wrong with its spec becomes ``problem``."""
    try:
        model = TrainedModel.read(obj)
    except SpecError as error:
        return _unusable(obj, Problem(error.reason, error.message))
    if (problem := _misnamed(model)) is not None:
        return _unusable(obj, problem)
    meta, artifact = model.metadata, model.spec.model
    spec = ModelSpec(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        service=model.spec.inference_service,
        storage_uri="",
        framework=artifact.framework,
        memory_bytes=None,
        content=content_digest("", artifact.framework),
        ignored_fields=model.ignored_fields(),
        created=seconds(meta.creation_timestamp),
    )
    spec = _check(spec, model)
    for part in (_uri, _memory, _serving):  # of what cannot be used the rest is told all the same
        try:
            spec = part(spec, model)
        except (SpecError, StorageUriError) as error:
            spec = replace(spec, problem=spec.problem or Problem(error.reason, error.message))
    return spec


def _uri(spec: ModelSpec, model: TrainedModel) -> ModelSpec:
    location = model.spec.model.location()
    spec = replace(spec, storage_uri=location, content=content_digest(location, spec.framework))
    try:
        parse_storage_uri(location)
    except StorageUriError as error:  # the URI is told all the same
        spec = replace(spec, problem=Problem(error.reason, error.message))
    return spec


def _memory(spec: ModelSpec, model: TrainedModel) -> ModelSpec:
    return replace(spec, memory_bytes=model.memory_bytes())


def _serving(spec: ModelSpec, model: TrainedModel) -> ModelSpec:
    serving = model.serving()
    tuning = serving.tuning("spec.serving")
    return replace(
        spec,
        tuning=tuning,
        content=content_digest(spec.storage_uri, spec.framework, tuning),
        # What is declared is what one worker takes.
        memory_bytes=spec.memory_bytes * tuning.workers if spec.memory_bytes is not None else None,
        min_copies=serving.min_copies,
        max_copies=serving.max_copies,
        idle_unload=serving.idle_unload_seconds(),
    )


def _check(spec: ModelSpec, model: TrainedModel) -> ModelSpec:
    """How often somebody looks is no reason not to serve."""
    text = model.metadata.annotations.get(ANNOTATION_ARTIFACT_CHECK)
    where = f"metadata.annotations[{ANNOTATION_ARTIFACT_CHECK}]"
    try:
        return replace(spec, check=check_seconds(text, where)) if text is not None else spec
    except SpecError:
        return replace(spec, ignored_fields=(*spec.ignored_fields, where))


def _misnamed(model: TrainedModel) -> Problem | None:
    """Where KServe's CRD stands instead of ours, an object may have a name that no request can ask for."""
    if not MODEL_NAME.matches(model.metadata.name):
        return Problem(
            "InvalidName",
            f"metadata.name is part of the model's URL: use {MODEL_NAME.in_words()}. Create it under another name.",
        )
    if not SERVICE_NAME.matches(model.spec.inference_service):
        return Problem(
            "InvalidSpec",
            f"spec.inferenceService is no InferenceService's name: that is of {SERVICE_NAME.in_words()}. "
            "Correct the TrainedModel and apply it again.",
        )
    return None


def vouched(obj: Mapping[str, Any]) -> bool:
    """The status says that this very spec is Ready. What a new operator has to go on for models that are cold."""
    return any(
        each.get("type") == READY and each.get("status") == "True" and each.get("reason") in _VOUCHING
        for each in _conditions(obj)
    )


_FAILED = {STORAGE_RESOLVED: FailureStage.STORAGE, LOADED: FailureStage.LOAD}


def failure(obj: Mapping[str, Any]) -> CopyFailure | None:
    """By its status, why this very spec could not be loaded. For one that nobody holds no agent says so again."""
    for each in _conditions(obj):
        stage = _FAILED.get(str(each.get("type")))
        if stage is not None and each.get("status") == "False":
            try:
                return CopyFailure.model_validate({**each, "stage": stage, "message": each.get("message") or ""})
            except ValidationError:
                return None  # somebody else's words
    return None


def _conditions(obj: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the status says of the spec as it is now."""
    meta, status = obj.get("metadata") or {}, obj.get("status") or {}
    if not isinstance(status, Mapping) or status.get("observedGeneration") != meta.get("generation"):
        return []
    return [each for each in status.get("conditions") or () if isinstance(each, Mapping)]


def last_good(obj: Mapping[str, Any]) -> Content | None:
    """By its status, the content that requests could last count on."""
    status = obj.get("status") or {}
    given = status.get("content") if isinstance(status, Mapping) else None
    try:
        content = ServedContent.model_validate(given, by_alias=True, by_name=False)
        memory = quantity_bytes(content.memory, "status.content.memory") if content.memory is not None else None
        tuning = content.serving.tuning("status.content.serving") if content.serving is not None else UNTUNED
    except (ValidationError, SpecError):
        return None
    digest = content_digest(content.storage_uri, content.framework, tuning)
    return Content(content.storage_uri, content.framework, digest, memory, tuning, content.revision or "")


def _unusable(obj: Mapping[str, Any], problem: Problem) -> ModelSpec:
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    service = spec.get("inferenceService") if isinstance(spec, Mapping) else None
    return ModelSpec(
        namespace=str(meta.get("namespace", "")),
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        generation=int(meta.get("generation") or 0),
        service=str(service or ""),
        storage_uri="",
        framework="",
        memory_bytes=None,
        content=content_digest("", ""),
        problem=problem,
        created=seconds(meta.get("creationTimestamp")),
    )

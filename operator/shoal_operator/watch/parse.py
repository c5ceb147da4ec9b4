"""A TrainedModel object of the API server -> the state's ModelSpec. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from shoal_api.common import describe
from shoal_api.errors import SpecError
from shoal_api.messages import content_digest
from shoal_api.storage_uri import StorageUriError, parse_storage_uri
from shoal_api.trained_model import TrainedModel

from shoal_operator.state.values import ModelSpec, Problem

DEFAULT_MEMORY_BYTES = 128 << 20
"""What a TrainedModel without spec.model.memory is counted as."""


def model_spec(obj: Mapping[str, Any]) -> ModelSpec:
    """What the state knows of a TrainedModel; what is wrong with its spec becomes ``problem``."""
    try:
        model = TrainedModel.model_validate(obj)
    except ValidationError as error:
        return _unusable(obj, Problem("InvalidSpec", f"{describe(error)} Correct the TrainedModel and apply it again."))
    meta, artifact = model.metadata, model.spec.model
    problem, memory, copies = None, DEFAULT_MEMORY_BYTES, 1
    try:
        parse_storage_uri(artifact.storage_uri)
        memory = model.memory_bytes() or DEFAULT_MEMORY_BYTES
        wanted = model.serving().min_copies
        copies = 1 if wanted is None else max(1, wanted)
    except (SpecError, StorageUriError) as error:
        problem = Problem(error.reason, error.message)
    return ModelSpec(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        service=model.spec.inference_service,
        storage_uri=artifact.storage_uri,
        framework=artifact.framework,
        memory_bytes=memory,
        content=content_digest(artifact.storage_uri, artifact.framework),
        min_copies=copies,
        problem=problem,
    )


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
        memory_bytes=DEFAULT_MEMORY_BYTES,
        content=content_digest("", ""),
        problem=problem,
    )

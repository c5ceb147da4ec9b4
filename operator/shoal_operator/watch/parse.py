"""A TrainedModel object of the API server -> the state's ModelSpec. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from shoal_api.common import describe
from shoal_api.errors import SpecError
from shoal_api.messages import content_digest
from shoal_api.names import READY
from shoal_api.storage_uri import StorageUriError, parse_storage_uri
from shoal_api.trained_model import TrainedModel

from shoal_operator.state.values import ModelSpec, Problem

_VOUCHING = frozenset({"Loaded", "OnDemand"})
"""Reasons of Ready that speak of the wanted content, not of one that serves meanwhile."""


def model_spec(obj: Mapping[str, Any]) -> ModelSpec:
    """What the state knows of a TrainedModel; what is wrong with its spec becomes ``problem``."""
    try:
        model = TrainedModel.model_validate(obj)
    except ValidationError as error:
        return _unusable(obj, Problem("InvalidSpec", f"{describe(error)} Correct the TrainedModel and apply it again."))
    meta, artifact = model.metadata, model.spec.model
    spec = ModelSpec(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        service=model.spec.inference_service,
        storage_uri=artifact.storage_uri,
        framework=artifact.framework,
        memory_bytes=None,
        content=content_digest(artifact.storage_uri, artifact.framework),
    )
    try:
        parse_storage_uri(artifact.storage_uri)
        serving = model.serving()
        return replace(
            spec,
            memory_bytes=model.memory_bytes(),
            min_copies=serving.min_copies,
            max_copies=serving.max_copies,
            idle_unload=serving.idle_unload_seconds(),
        )
    except (SpecError, StorageUriError) as error:
        return replace(spec, problem=Problem(error.reason, error.message))


def vouched(obj: Mapping[str, Any]) -> bool:
    """The status says that this very spec is Ready. What a new operator has to go on for models that are cold."""
    meta, status = obj.get("metadata") or {}, obj.get("status") or {}
    if not isinstance(status, Mapping) or status.get("observedGeneration") != meta.get("generation"):
        return False
    return any(
        isinstance(each, Mapping)
        and each.get("type") == READY
        and each.get("status") == "True"
        and each.get("reason") in _VOUCHING
        for each in status.get("conditions") or ()
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
        memory_bytes=None,
        content=content_digest("", ""),
        problem=problem,
    )

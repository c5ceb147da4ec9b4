"""TrainedModel (serving.kserve.io/v1alpha1): one model, the InferenceService that serves it, and where it lies.

Fields, names and rules are those of KServe's TrainedModel; `spec.serving` and a `spec.model.memory` that may be left
out are additions.
"""

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, ValidationError

from .common import (
    ApiModel,
    CommonStatus,
    Duration,
    Quantity,
    Resource,
    describe,
    tolerant_status,
)
from .errors import SpecError
from .quantity import duration_seconds, quantity_bytes

ANNOTATION_SERVING = "shoal.dev/serving"
"""JSON of spec.serving, for clusters whose TrainedModel CRD is KServe's own and drops the field."""

KSERVE_FINALIZER = "trainedmodel.finalizer"
"""What KServe's controller puts on every TrainedModel and only it removes: without KServe, deletion hangs on it."""

STORAGE_SCHEMES = ("s3", "gs", "https", "http")
"""What KServe accepts in a TrainedModel; which of them this build can pull is the agent's word."""

MAX_COPIES = 1000

_MEMORY = "spec.model.memory"


class Range(ApiModel):
    """A lower and an upper bound."""

    min: Annotated[int, Field(ge=1, le=1024)] | None = None
    """At least this many."""
    max: Annotated[int, Field(ge=1, le=1024)] | None = None
    """At most this many."""


class Batch(ApiModel):
    """How the model server joins requests."""

    size: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Requests in one batch, at most."""
    delay: Duration | None = None
    """How long a request waits for others, at most."""


class Serving(ApiModel):
    """How one model is served; every field is optional. Not in KServe."""

    min_copies: Annotated[int, Field(ge=0, le=MAX_COPIES)] | None = None
    """Pods that hold the model at any time; 0: it may be cold, loaded by a request. Default 0, or 1 where the
    InferenceService is annotated shoal.dev/placement: strict."""
    max_copies: Annotated[int, Field(ge=1, le=MAX_COPIES)] | None = None
    """Pods that hold the model, at most; a busy model gets more copies up to this (default: as many as there are)."""
    workers: Range | None = None
    """Worker processes or threads of the model server for this model, where it has such a setting."""
    batch: Batch | None = None
    """Batching in the model server, where it has such a setting."""
    queue_size: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Requests that may wait in the model server."""
    idle_unload: Duration | None = None
    """Unload after this long without a request, down to minCopies; 0s or left out: only to make room for others."""
    timeout: Duration | None = None
    """Longest time a request may take."""

    def idle_unload_seconds(self) -> float | None:
        """idleUnload; None when left out or 0. Raises SpecError (InvalidDuration)."""
        if self.idle_unload is None:
            return None
        return duration_seconds(self.idle_unload, "spec.serving.idleUnload") or None


class TrainedModelArtifact(ApiModel):
    """What is loaded."""

    storage_uri: Annotated[str, Field(max_length=2048)]
    """Folder or archive of the model: s3://bucket/prefix, gs://, https:// or http://."""
    framework: Annotated[str, Field(max_length=128)]
    """Model format, such as sklearn, xgboost, lightgbm, pytorch, tensorflow or onnx."""
    memory: Quantity | None = None
    """Memory the model takes once loaded; estimated from the artifact when left out."""


class TrainedModelSpec(ApiModel):
    """What the user wants."""

    inference_service: Annotated[str, Field(max_length=253)]
    """Name of the InferenceService, in the same namespace, that serves the model."""
    model: TrainedModelArtifact
    """What is loaded."""
    serving: Serving | None = None
    """How it is served (not in KServe)."""


class TrainedModelStatus(CommonStatus):
    """What the operator last observed."""


class TrainedModel(Resource):
    """One model on an InferenceService that serves many."""

    kind_name: ClassVar[str] = "TrainedModel"
    plural: ClassVar[str] = "trainedmodels"
    version: ClassVar[str] = "v1alpha1"

    spec: TrainedModelSpec
    status: Annotated[TrainedModelStatus, BeforeValidator(lambda value: tolerant_status(TrainedModelStatus, value))] = (
        TrainedModelStatus()
    )

    def memory_bytes(self) -> int | None:
        """Declared memory; None when left out or 0. Raises SpecError (InvalidQuantity)."""
        if self.spec.model.memory is None:
            return None
        return quantity_bytes(self.spec.model.memory, _MEMORY) or None

    def serving(self) -> Serving:
        """spec.serving, or the annotation where the field is absent. Raises SpecError (InvalidSpec)."""
        where, serving = "spec.serving", self.spec.serving
        if serving is None:
            where, text = f"annotation {ANNOTATION_SERVING}", self.metadata.annotations.get(ANNOTATION_SERVING)
            serving = Serving() if text is None else _from_annotation(text, where)
        _check(serving, where)
        return serving


def _from_annotation(text: str, where: str) -> Serving:
    try:
        return Serving.model_validate_json(text)
    except ValidationError as error:
        raise SpecError(
            "InvalidSpec", f'{where}: {describe(error)} It is JSON with the fields of spec.serving: {{"minCopies": 2}}.'
        ) from None


def _check(serving: Serving, where: str) -> None:
    workers = serving.workers or Range()
    for least, low, most, high in (
        ("minCopies", serving.min_copies, "maxCopies", serving.max_copies),
        ("workers.min", workers.min, "workers.max", workers.max),
    ):
        if low is not None and high is not None and low > high:
            raise SpecError(
                "InvalidSpec", f"{where}: {least} ({low}) is above {most} ({high}): lower one or raise the other."
            )
    for field, value in (
        ("idleUnload", serving.idle_unload),
        ("timeout", serving.timeout),
        ("batch.delay", serving.batch and serving.batch.delay),
    ):
        if value is not None:
            duration_seconds(value, f"{where}.{field}")

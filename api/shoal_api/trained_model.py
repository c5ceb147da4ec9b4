"""TrainedModel (serving.kserve.io/v1alpha1): one model, the InferenceService that serves it, and where it lies.

Fields, names and rules are those of KServe's TrainedModel; `spec.serving`, `spec.model.storage` (which KServe has for
an InferenceService's own model) and a `spec.model.memory` that may be left out are additions.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, ValidationError

from .common import (
    ApiModel,
    CommonStatus,
    Duration,
    ObjectMeta,
    Quantity,
    Resource,
    describe,
    tolerant_status,
    unread_annotations,
    unread_fields,
)
from .errors import SpecError
from .model_storage import ModelStorage
from .names import ANNOTATION_SERVING, MODEL_ANNOTATIONS
from .quantity import duration_seconds, quantity_bytes
from .tuning import MAX_TUNING_SECONDS, Tuning

KSERVE_FINALIZER = "trainedmodel.finalizer"
"""What KServe's controller puts on every TrainedModel and only it removes: without KServe, deletion hangs on it."""

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


class ServerTuning(ApiModel):
    """How the model server runs one model; what a server has no such setting for is named in a condition."""

    workers: Range | None = None
    """Worker processes or threads of the model server for this model."""
    batch: Batch | None = None
    """Batching in the model server."""
    queue_size: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Requests that may wait in the model server; more are refused with 503."""
    timeout: Duration | None = None
    """Longest time a request may take in the model server; at most the InferenceService's own timeout."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads that one prediction may use."""

    def tuning(self, where: str) -> Tuning:
        """As the model server's adapter gets it. Raises SpecError (InvalidDuration, InvalidSpec)."""
        workers, batch = self.workers or Range(), self.batch or Batch()
        return Tuning(
            workers_min=workers.min,
            workers_max=workers.max,
            batch_size=batch.size,
            batch_delay=_seconds(batch.delay, f"{where}.batch.delay"),
            queue_size=self.queue_size,
            timeout=_seconds(self.timeout, f"{where}.timeout"),
            threads=self.threads,
        )

    @classmethod
    def of(cls, tuning: Tuning) -> Self:
        """The same as a user would write it."""
        return cls(
            workers=Range(min=tuning.workers_min, max=tuning.workers_max)
            if tuning.workers_min or tuning.workers_max
            else None,
            batch=Batch(size=tuning.batch_size, delay=_duration(tuning.batch_delay))
            if tuning.batch_size is not None or tuning.batch_delay is not None
            else None,
            queue_size=tuning.queue_size,
            timeout=_duration(tuning.timeout),
            threads=tuning.threads,
        )


class Serving(ServerTuning):
    """How one model is served; every field is optional. Not in KServe."""

    min_copies: Annotated[int, Field(ge=0, le=MAX_COPIES)] | None = None
    """Pods that hold the model at any time; 0: it may be cold, loaded by a request. Default 0, or 1 where the
    InferenceService is annotated shoal.dev/placement: strict."""
    max_copies: Annotated[int, Field(ge=1, le=MAX_COPIES)] | None = None
    """Pods that hold the model, at most; a busy model gets more copies up to this (default: as many as there are)."""
    idle_unload: Duration | None = None
    """Unload after this long without a request, down to minCopies; 0s or left out: only to make room for others."""

    def idle_unload_seconds(self) -> float | None:
        """idleUnload; None when left out or 0. Raises SpecError (InvalidDuration)."""
        if self.idle_unload is None:
            return None
        return duration_seconds(self.idle_unload, "spec.serving.idleUnload") or None


class TrainedModelArtifact(ApiModel):
    """What is loaded."""

    storage_uri: Annotated[str, Field(max_length=2048)] | None = None
    """Folder or archive of the model: s3://bucket/prefix, gs://bucket/prefix, https:// or http://,
    or in Azure (https://account.blob.core.windows.net/container/prefix, az://, abfs://). This or storage."""
    storage: ModelStorage | None = None
    """Where the model lies, by an entry of the Secret storage-config; as in KServe's InferenceService."""
    framework: Annotated[str, Field(max_length=128)]
    """Model format, such as sklearn, xgboost, lightgbm, pytorch, tensorflow or onnx."""
    memory: Quantity | None = None
    """Memory the model takes once loaded, in one worker; estimated from the artifact when left out."""

    def location(self) -> str:
        """storageUri, or what storage stands for. Raises SpecError (InvalidSpec) where not exactly one is set."""
        if self.storage_uri is not None and self.storage is None:
            return self.storage_uri
        if self.storage is not None and self.storage_uri is None:
            return self.storage.location()
        found = "both" if self.storage is not None else "neither"
        raise SpecError("InvalidSpec", f"spec.model has {found} of storageUri and storage: set exactly one of them.")


class TrainedModelSpec(ApiModel):
    """What the user wants."""

    inference_service: Annotated[str, Field(max_length=253)]
    """Name of the InferenceService, in the same namespace, that serves the model."""
    model: TrainedModelArtifact
    """What is loaded."""
    serving: Serving | None = None
    """How it is served (not in KServe)."""


class ServingState(StrEnum):
    """How requests to a model are answered; the same whether it is loaded at the moment."""

    KEPT = "Kept"  # at least minCopies pods hold it
    ON_DEMAND = "OnDemand"  # loaded by a request, and unloaded for others
    FAILED = "Failed"  # not: somebody has to do something
    WAITING = "Waiting"  # not yet


class ServedContent(ApiModel):
    """What requests can count on."""

    storage_uri: Annotated[str, Field(max_length=2048)]
    """As in spec.model when it was found to be there, or was loaded."""
    framework: Annotated[str, Field(max_length=128)]
    """Likewise."""
    memory: Quantity | None = None
    """Memory that it is counted with: declared, or estimated; for all of its workers."""
    serving: ServerTuning | None = None
    """What of spec.serving tunes the model server, likewise."""
    revision: Annotated[str, Field(max_length=64)] | None = None
    """Which bytes storageUri named: a digest of its objects' names, sizes and ETags, another one once they were
    overwritten."""
    revision_seen: Annotated[str, Field(max_length=64)] | None = None
    """When this revision was seen first (RFC 3339)."""


class TrainedModelStatus(CommonStatus):
    """What the operator last observed."""

    serving: str | None = None
    """Kept, OnDemand, Failed or Waiting: how requests are answered. Loading and unloading do not change it."""
    content: ServedContent | None = None
    """What requests are answered with, or were last: it is loaded again while what spec.model names does not load."""


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

    def ignored_fields(self) -> tuple[str, ...]:
        """Paths of what the user wrote and nothing here honours, misspelt names among it; the status names them."""
        by_fields = self.spec.serving is not None  # then the annotation is not looked at
        read = MODEL_ANNOTATIONS - {ANNOTATION_SERVING} if by_fields else MODEL_ANNOTATIONS
        found = unread_fields(self.spec, "spec") + unread_annotations(self.metadata, read)
        storage = self.spec.model.storage
        if storage is not None and storage.schema_path is not None:
            found.append("spec.model.storage.schemaPath")
        if not by_fields:
            found += unread_in_annotation(self.metadata)
        return tuple(found)

    def serving(self) -> Serving:
        """spec.serving, or the annotation where the field is absent. Raises SpecError (InvalidSpec)."""
        if self.spec.serving is None:
            return serving_by_annotation(self.metadata)
        _check(self.spec.serving, "spec.serving")
        return self.spec.serving


def serving_by_annotation(metadata: ObjectMeta) -> Serving:
    """How a model is served by the annotation shoal.dev/serving. Raises SpecError (InvalidSpec)."""
    where, text = f"annotation {ANNOTATION_SERVING}", metadata.annotations.get(ANNOTATION_SERVING)
    serving = Serving() if text is None else _from_annotation(text, where)
    _check(serving, where)
    return serving


def unread_in_annotation(metadata: ObjectMeta) -> list[str]:
    """Paths of what the annotation shoal.dev/serving says and nobody reads."""
    try:
        return unread_fields(serving_by_annotation(metadata), f"annotation {ANNOTATION_SERVING}")
    except SpecError:  # which is said as an error
        return []


def _from_annotation(text: str, where: str) -> Serving:
    try:
        return Serving.model_validate_json(text, strict=True, by_alias=True, by_name=False)
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
    if serving.idle_unload is not None:
        duration_seconds(serving.idle_unload, f"{where}.idleUnload")
    serving.tuning(where)


def _seconds(duration: str | None, where: str) -> float | None:
    if duration is None:
        return None
    seconds = round(duration_seconds(duration, where), 6)
    if seconds > MAX_TUNING_SECONDS:
        raise SpecError("InvalidSpec", f"{where} is {duration}: write at most {MAX_TUNING_SECONDS / 3600:.0f}h.")
    return seconds


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"

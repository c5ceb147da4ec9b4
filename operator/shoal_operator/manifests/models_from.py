"""Annotations that make every artifact below a place a model: ``shoal.dev/models-from`` and what belongs to it. Pure.

What cannot be read leaves the InferenceService as it is without them, and is said.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from shoal_api.claim_uri import CLAIM_SCHEME
from shoal_api.errors import SpecError
from shoal_api.model_storage import STORAGE_CONFIG_SCHEME
from shoal_api.names import (
    ANNOTATION_MODELS_AT_MOST,
    ANNOTATION_MODELS_FRAMEWORK,
    ANNOTATION_MODELS_FROM,
    ANNOTATION_MODELS_MEMORY,
    ANNOTATION_MODELS_PATTERN,
    ANNOTATION_PLACEMENT,
)
from shoal_api.quantity import quantity_bytes, whole_number
from shoal_api.storage_uri import StorageUriError, parse_storage_uri

from shoal_operator.state.world.prefix import DEFAULT_MODELS, NAME, Prefix

from .annotations import shown

MOST_MODELS: Final = 100_000
_OTHERS: Final = (
    ANNOTATION_MODELS_FRAMEWORK,
    ANNOTATION_MODELS_MEMORY,
    ANNOTATION_MODELS_PATTERN,
    ANNOTATION_MODELS_AT_MOST,
)
_SCHEMES: Final = ("s3", "gs", STORAGE_CONFIG_SCHEME, CLAIM_SCHEME)
_EXAMPLE: Final = "s3://bucket/models/"
_GOES_ON: Final = "Until that is corrected, what held before goes on."
_STRICT: Final = (
    f"Annotation {ANNOTATION_MODELS_FROM} has no effect: {ANNOTATION_PLACEMENT} is strict, which has no cold models; "
    "remove one of them."
)


@dataclass(frozen=True, slots=True)
class ModelsFrom:
    """``place``: None where there is none, or none that can be used. ``unusable``: one is written and cannot be; what
    held before goes on. ``wrong``: a sentence for each thing that is."""

    place: Prefix | None = None
    unusable: bool = False
    wrong: tuple[str, ...] = ()


def models_from(annotations: Mapping[str, str], *, strict: bool) -> ModelsFrom:
    """Read from an InferenceService's annotations. Never raises."""
    uri = annotations.get(ANNOTATION_MODELS_FROM)
    if uri is None:
        alone = [name for name in _OTHERS if name in annotations]
        said = tuple(f"Annotation {name} has no effect without {ANNOTATION_MODELS_FROM}." for name in alone)
        return ModelsFrom(wrong=said)
    if strict:
        return ModelsFrom(wrong=(_STRICT,))
    framework = annotations.get(ANNOTATION_MODELS_FRAMEWORK, "").strip()
    pattern = annotations.get(ANNOTATION_MODELS_PATTERN, NAME)
    wrong = _unusable(uri, framework, pattern)
    if wrong is not None:
        return ModelsFrom(unusable=True, wrong=(f"{wrong} {_GOES_ON}",))
    memory, unread = _memory(annotations)
    most, uncounted = _most(annotations)
    place = Prefix(uri if uri.endswith("/") else f"{uri}/", framework, pattern, memory, most)
    return ModelsFrom(place, wrong=(*unread, *uncounted))


def of_runtime(annotations: Mapping[str, str], where: str) -> tuple[str, ...]:
    """A sentence where a runtime has them, which has no models of its own. ``where``: its kind and name."""
    if not any(name in annotations for name in (ANNOTATION_MODELS_FROM, *_OTHERS)):
        return ()
    return (
        f"Annotation {ANNOTATION_MODELS_FROM}, and what belongs to it, has no effect on {where}: write it on an "
        "InferenceService.",
    )


def as_loaded(found: ModelsFrom, formats: Iterable[str]) -> ModelsFrom:
    """The same where the model server loads these formats; ``wrong``: what is wrong beside."""
    if found.place is None or found.place.framework.lower() in formats:
        return replace(found, wrong=())
    said = (
        f"Annotation {ANNOTATION_MODELS_FRAMEWORK} is {shown(found.place.framework)}, which the model server does not "
        f"load: write one of {', '.join(sorted(formats))}. {_GOES_ON}"
    )
    return ModelsFrom(unusable=True, wrong=(said,))


def _unusable(uri: str, framework: str, pattern: str) -> str | None:
    try:
        place = parse_storage_uri(uri)
    except StorageUriError as error:
        return f"Annotation {ANNOTATION_MODELS_FROM}: {error.message}"
    if place.scheme not in _SCHEMES or place.parameters:
        return (
            f"Annotation {ANNOTATION_MODELS_FROM} is {shown(uri)}: a folder of s3://, gs://, pvc:// or storage:// "
            f"without parameters is accepted; write it like {_EXAMPLE}."
        )
    if not framework:
        return f"Annotation {ANNOTATION_MODELS_FROM} needs {ANNOTATION_MODELS_FRAMEWORK}: write the models' format."
    if pattern.count(NAME) != 1 or pattern.startswith("/") or not _is_path(pattern.replace(NAME, "name")):
        return (
            f"Annotation {ANNOTATION_MODELS_PATTERN} is {shown(pattern)}: write a path with {NAME} in it once, such as "
            f"{NAME}.tar.gz or {NAME}/model/."
        )
    return None


def _is_path(path: str) -> bool:
    try:
        parse_storage_uri(f"s3://bucket/{path}")
    except StorageUriError:
        return False
    return True


def _memory(annotations: Mapping[str, str]) -> tuple[int | None, tuple[str, ...]]:
    text = annotations.get(ANNOTATION_MODELS_MEMORY)
    if text is None:
        return None, ()
    try:
        if size := quantity_bytes(text, ANNOTATION_MODELS_MEMORY):
            return size, ()
    except SpecError:
        pass
    said = f"Annotation {ANNOTATION_MODELS_MEMORY} is {shown(text)}: write a size such as 20Mi; it is estimated."
    return None, (said,)


def _most(annotations: Mapping[str, str]) -> tuple[int, tuple[str, ...]]:
    text = annotations.get(ANNOTATION_MODELS_AT_MOST)
    if text is None:
        return DEFAULT_MODELS, ()
    if count := whole_number(text, MOST_MODELS):
        return count, ()
    said = f"Annotation {ANNOTATION_MODELS_AT_MOST} is {shown(text)}: write a number from 1 to {MOST_MODELS}; "
    return DEFAULT_MODELS, (f"{said}{DEFAULT_MODELS} holds.",)

"""Shoal's own annotations of an InferenceService. What cannot be read keeps its default, and is said."""

from collections.abc import Mapping
from dataclasses import dataclass

from shoal_api.errors import SpecError
from shoal_api.names import (
    ANNOTATION_ACTIVATION_TIMEOUT,
    ANNOTATION_ARTIFACT_CHECK,
    ANNOTATION_MAX_HELD_REQUESTS,
    ANNOTATION_PLACEMENT,
)
from shoal_api.quantity import NEVER, check_seconds, duration_seconds, whole_number

OVERCOMMIT, STRICT = "overcommit", "strict"

DEFAULT_ACTIVATION_SECONDS = 60.0
MIN_ACTIVATION_SECONDS, MAX_ACTIVATION_SECONDS = 1.0, 600.0
DEFAULT_HELD_REQUESTS = 1000
MAX_HELD_REQUESTS = 20_000

_MAX_SHOWN = 40


@dataclass(frozen=True, slots=True)
class ColdModels:
    """How an InferenceService treats models beyond its memory.

    ``activation_seconds``: longest time a request is held. ``max_held``: requests held at a time. ``check_seconds``:
    between two looks whether an artifact was overwritten; 0: nobody looks. ``wrong``: a sentence for each annotation
    that could not be read.
    """

    strict: bool = False
    activation_seconds: float = DEFAULT_ACTIVATION_SECONDS
    max_held: int = DEFAULT_HELD_REQUESTS
    check_seconds: float = 0.0
    wrong: tuple[str, ...] = ()


def cold_models(annotations: Mapping[str, str]) -> ColdModels:
    """Read from an InferenceService's annotations. Never raises."""
    wrong: list[str] = []
    return ColdModels(
        strict=_strict(annotations, wrong),
        activation_seconds=_activation_seconds(annotations, wrong),
        max_held=_max_held(annotations, wrong),
        check_seconds=_check_seconds(annotations, wrong),
        wrong=tuple(wrong),
    )


def shown(value: object) -> str:
    """A user's value in a message, cut short."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _strict(annotations: Mapping[str, str], wrong: list[str]) -> bool:
    text = annotations.get(ANNOTATION_PLACEMENT, OVERCOMMIT)
    if text not in (OVERCOMMIT, STRICT):
        wrong.append(
            f"Annotation {ANNOTATION_PLACEMENT} is {shown(text)}: write {STRICT} or {OVERCOMMIT}; {OVERCOMMIT} holds."
        )
    return text == STRICT


def _activation_seconds(annotations: Mapping[str, str], wrong: list[str]) -> float:
    text = annotations.get(ANNOTATION_ACTIVATION_TIMEOUT)
    if text is None:
        return DEFAULT_ACTIVATION_SECONDS
    try:
        seconds = duration_seconds(text, ANNOTATION_ACTIVATION_TIMEOUT)
    except SpecError:
        seconds = -1.0
    if MIN_ACTIVATION_SECONDS <= seconds <= MAX_ACTIVATION_SECONDS:
        return seconds
    wrong.append(
        f"Annotation {ANNOTATION_ACTIVATION_TIMEOUT} is {shown(text)}: write a duration from 1s to 10m; "
        f"{DEFAULT_ACTIVATION_SECONDS:.0f}s holds."
    )
    return DEFAULT_ACTIVATION_SECONDS


def _check_seconds(annotations: Mapping[str, str], wrong: list[str]) -> float:
    text = annotations.get(ANNOTATION_ARTIFACT_CHECK, NEVER)
    try:
        return check_seconds(text, ANNOTATION_ARTIFACT_CHECK)
    except SpecError:
        wrong.append(
            f"Annotation {ANNOTATION_ARTIFACT_CHECK} is {shown(text)}: write {NEVER}, or a duration from 10s to 168h; "
            f"{NEVER} holds."
        )
        return 0.0


def _max_held(annotations: Mapping[str, str], wrong: list[str]) -> int:
    text = annotations.get(ANNOTATION_MAX_HELD_REQUESTS)
    if text is None:
        return DEFAULT_HELD_REQUESTS
    if count := whole_number(text, MAX_HELD_REQUESTS):
        return count
    wrong.append(
        f"Annotation {ANNOTATION_MAX_HELD_REQUESTS} is {shown(text)}: write a number from 1 to {MAX_HELD_REQUESTS}; "
        f"{DEFAULT_HELD_REQUESTS} holds."
    )
    return DEFAULT_HELD_REQUESTS

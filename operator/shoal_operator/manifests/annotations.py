"""Shoal's own annotations of an InferenceService. What cannot be read keeps its default, and is said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from shoal_api.errors import SpecError
from shoal_api.names import (
    ANNOTATION_ACTIVATION_TIMEOUT,
    ANNOTATION_ARTIFACT_CHECK,
    ANNOTATION_MAX_HELD_REQUESTS,
    ANNOTATION_PLACEMENT,
    ANNOTATION_TO_ZERO_AFTER,
    ANNOTATION_WAKE_TIMEOUT,
)
from shoal_api.quantity import NEVER, check_seconds, duration_seconds, whole_number

OVERCOMMIT, STRICT = "overcommit", "strict"

DEFAULT_ACTIVATION_SECONDS = 60.0
MIN_ACTIVATION_SECONDS, MAX_ACTIVATION_SECONDS = 1.0, 600.0
DEFAULT_IDLE_SECONDS = 600.0
MIN_IDLE_SECONDS, MAX_IDLE_SECONDS = 10.0, 7 * 86_400.0
DEFAULT_WAKE_SECONDS = 120.0
DEFAULT_HELD_REQUESTS = 1000
MAX_HELD_REQUESTS = 20_000

_MAX_SHOWN = 40


class _Seconds(NamedTuple):
    """What a duration may be, in seconds and in words."""

    default: float
    least: float
    most: float
    words: str


_ACTIVATION = _Seconds(DEFAULT_ACTIVATION_SECONDS, MIN_ACTIVATION_SECONDS, MAX_ACTIVATION_SECONDS, "1s to 10m")
_WAKE = _Seconds(DEFAULT_WAKE_SECONDS, MIN_ACTIVATION_SECONDS, MAX_ACTIVATION_SECONDS, "1s to 10m")
_IDLE = _Seconds(DEFAULT_IDLE_SECONDS, MIN_IDLE_SECONDS, MAX_IDLE_SECONDS, "10s to 168h")


@dataclass(frozen=True, slots=True)
class ColdModels:
    """How an InferenceService treats models beyond its memory.

    ``activation_seconds``: longest time a request is held; ``wake_seconds``: the same where a pod has to start first.
    ``idle_seconds``: without use until there is no pod, where there may be none. ``max_held``: requests held at a time.
    ``check_seconds``: between two looks whether an artifact was overwritten; 0: nobody looks. ``wrong``: a sentence for
    each annotation that could not be read.
    """

    strict: bool = False
    activation_seconds: float = DEFAULT_ACTIVATION_SECONDS
    idle_seconds: float = DEFAULT_IDLE_SECONDS
    wake_seconds: float = DEFAULT_WAKE_SECONDS
    max_held: int = DEFAULT_HELD_REQUESTS
    check_seconds: float = 0.0
    wrong: tuple[str, ...] = ()


def cold_models(annotations: Mapping[str, str]) -> ColdModels:
    """Read from an InferenceService's annotations. Never raises."""
    wrong: list[str] = []
    return ColdModels(
        strict=_strict(annotations, wrong),
        activation_seconds=_seconds(annotations, wrong, ANNOTATION_ACTIVATION_TIMEOUT, _ACTIVATION),
        idle_seconds=_seconds(annotations, wrong, ANNOTATION_TO_ZERO_AFTER, _IDLE),
        wake_seconds=_seconds(annotations, wrong, ANNOTATION_WAKE_TIMEOUT, _WAKE),
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


def _seconds(annotations: Mapping[str, str], wrong: list[str], name: str, bounds: _Seconds) -> float:
    text = annotations.get(name)
    if text is None:
        return bounds.default
    try:
        seconds = duration_seconds(text, name)
    except SpecError:
        seconds = -1.0
    if bounds.least <= seconds <= bounds.most:
        return seconds
    wrong.append(
        f"Annotation {name} is {shown(text)}: write a duration from {bounds.words}; {bounds.default:.0f}s holds."
    )
    return bounds.default


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

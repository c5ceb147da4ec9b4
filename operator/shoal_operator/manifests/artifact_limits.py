"""What of artifacts a pod takes: the chart's values, and an InferenceService's annotations on top. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from shoal_api.errors import SpecError
from shoal_api.names import (
    ANNOTATION_MAX_ARTIFACT_BYTES,
    ANNOTATION_MAX_ARTIFACT_FILES,
    ANNOTATION_MAX_DISK_BYTES,
    ANNOTATION_STORAGE_CONNECTIONS,
)
from shoal_api.quantity import format_bytes, quantity_bytes, whole_number

from .annotations import shown

GIB: Final = 1024**3
MAX_BYTES: Final = 1024 * 1024 * GIB
MAX_FILES: Final = 100_000
MAX_CONNECTIONS: Final = 512
_SIZES: Final = {
    "max_artifact_bytes": ANNOTATION_MAX_ARTIFACT_BYTES,
    "max_disk_bytes": ANNOTATION_MAX_DISK_BYTES,
}
_COUNTS: Final = {
    "max_artifact_files": (ANNOTATION_MAX_ARTIFACT_FILES, MAX_FILES),
    "storage_connections": (ANNOTATION_STORAGE_CONNECTIONS, MAX_CONNECTIONS),
}


@dataclass(frozen=True, slots=True)
class ArtifactLimits:
    """``max_artifact_bytes`` and ``max_artifact_files`` of one artifact, as listed and as unpacked; ``max_disk_bytes``
    of all on a pod (0: what the node's disk has); ``storage_connections`` of a pod to storage at once.
    ``keep_free_percent`` of the node's disk, which no annotation sets: it is others' as well."""

    max_artifact_bytes: int = 20 * GIB
    max_artifact_files: int = 2_000
    max_disk_bytes: int = 0
    storage_connections: int = 64
    keep_free_percent: int = 16

    def environment(self) -> dict[str, str]:
        """As the agent reads them."""
        return {_variable(each.name): str(getattr(self, each.name)) for each in fields(self)}


DEFAULT_LIMITS: Final = ArtifactLimits()


def by_annotation(environment: Mapping[str, str]) -> dict[str, str]:
    """The chart's values, which have the same variables, by the annotations that say the same."""
    names = _SIZES | {name: annotation for name, (annotation, _) in _COUNTS.items()}
    return {annotation: said for name, annotation in names.items() if (said := environment.get(_variable(name), ""))}


def _variable(name: str) -> str:
    return f"SHOAL_{name.upper()}"


def artifact_limits(
    annotations: Mapping[str, str], default: ArtifactLimits = DEFAULT_LIMITS
) -> tuple[ArtifactLimits, tuple[str, ...]]:
    """The limits, and a sentence for each annotation that cannot be, whose default holds. Never raises."""
    found, wrong = default, []
    for field, annotation in _SIZES.items():
        text = annotations.get(annotation)
        if text is None:
            continue
        try:
            size = quantity_bytes(text, annotation)
        except SpecError:
            size = 0
        if 0 < size <= MAX_BYTES:
            found = replace(found, **{field: size})
        else:
            wrong.append(_wrong(annotation, text, f"a size up to {format_bytes(MAX_BYTES)}, such as 40Gi"))
    for field, (annotation, most) in _COUNTS.items():
        text = annotations.get(annotation)
        if text is None:
            continue
        count = whole_number(text, most)
        if count:
            found = replace(found, **{field: count})
        else:
            wrong.append(_wrong(annotation, text, f"a number from 1 to {most}"))
    return found, tuple(wrong)


def _wrong(name: str, text: str, what: str) -> str:
    return f"Annotation {name} is {shown(text)}: write {what}; the default holds."

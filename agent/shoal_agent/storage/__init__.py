"""Where artifacts come from. A file per scheme; each offers a ``Source``. All of it blocks: call it in a thread."""

import errno
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from shoal_api.storage_uri import StorageUri

STORAGE_ACCESS_DENIED: Final = "StorageAccessDenied"
STORAGE_CREDENTIALS_INVALID: Final = "StorageCredentialsInvalid"
STORAGE_UNREACHABLE: Final = "StorageUnreachable"
STORAGE_UNAVAILABLE: Final = "StorageUnavailable"
BUCKET_NOT_FOUND: Final = "BucketNotFound"
ARTIFACT_NOT_FOUND: Final = "ArtifactNotFound"
ARTIFACT_TOO_LARGE: Final = "ArtifactTooLarge"
ARTIFACT_INVALID: Final = "ArtifactInvalid"
ARTIFACT_CHANGED: Final = "ArtifactChanged"
DISK_FULL: Final = "DiskFull"

CREDENTIAL_REASONS: Final = frozenset(
    {STORAGE_ACCESS_DENIED, STORAGE_CREDENTIALS_INVALID, STORAGE_UNREACHABLE, BUCKET_NOT_FOUND}
)
"""Failures that other credentials (which carry the endpoint too) could heal."""


class StorageError(Exception):
    """A pull failed. ``reason`` is stable CamelCase; ``message`` says what, where, what to do, and holds no secret."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def disk_full(error: OSError) -> StorageError:
    """The StorageError of an error that says the disk is full."""
    return StorageError(
        DISK_FULL,
        f"The pod's disk for models is full: {error.strerror or error}. Delete models, or give the pods more ephemeral "
        "storage.",
    )


class Cancelled(Exception):
    """The pull is no longer wanted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one artifact, as listed and as unpacked."""

    max_bytes: int
    max_files: int


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of an artifact. ``path`` is relative, with ``/``, and safe to join to a folder."""

    key: str
    path: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What an artifact is made of, before any of it is fetched."""

    place: str  # where it was found, so that equal ETags of different stores stay apart
    files: tuple[ArtifactFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


class Source(Protocol):
    """One scheme."""

    def find(self, uri: StorageUri, limits: Limits) -> Listing:
        """The artifact's files. Raises StorageError."""

    def fetch(self, uri: StorageUri, file: ArtifactFile, target: Path, cancelled: threading.Event) -> None:
        """Stream one file of the listing to ``target``, whole and verified. Raises StorageError, Cancelled."""

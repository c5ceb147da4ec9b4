"""Where artifacts come from. A file per scheme; each offers a ``Source``, which the event loop calls.

An artifact passes through listing (``Source.find``), fetch (``fetching.py``), unpacking (``unpack/``), verification and
commit (``pull.py``). What is cancelled ends at once, and leaves only what a later pull goes on with.
"""

import errno
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass, field
from typing import Final, Protocol

from shoal_api.messages import ARTIFACT_NOT_FOUND as ARTIFACT_NOT_FOUND  # the operator knows it too
from shoal_api.names import ANNOTATION_MAX_ARTIFACT_BYTES, ANNOTATION_MAX_ARTIFACT_FILES, ANNOTATION_MAX_DISK_BYTES
from shoal_api.storage_uri import StorageUri

from .redact import redact

STORAGE_ACCESS_DENIED: Final = "StorageAccessDenied"
STORAGE_CREDENTIALS_INVALID: Final = "StorageCredentialsInvalid"
STORAGE_UNREACHABLE: Final = "StorageUnreachable"
STORAGE_UNAVAILABLE: Final = "StorageUnavailable"
BUCKET_NOT_FOUND: Final = "BucketNotFound"
REPOSITORY_NOT_FOUND: Final = "RepositoryNotFound"
ARTIFACT_TOO_LARGE: Final = "ArtifactTooLarge"
ARTIFACT_INVALID: Final = "ArtifactInvalid"
ARTIFACT_CHANGED: Final = "ArtifactChanged"
DISK_FULL: Final = "DiskFull"

CREDENTIAL_REASONS: Final = frozenset(
    {STORAGE_ACCESS_DENIED, STORAGE_CREDENTIALS_INVALID, STORAGE_UNREACHABLE, BUCKET_NOT_FOUND, REPOSITORY_NOT_FOUND}
)
"""Failures that other credentials (which carry the endpoint too) could heal."""


class StorageError(Exception):
    """A pull failed. ``reason`` is stable CamelCase; ``message`` says what, where, what to do, and holds no secret.
    ``after``: seconds before which the storage does not want to be asked again."""

    def __init__(self, reason: str, message: str, *, after: float = 0.0) -> None:
        self.reason = reason
        self.after = after
        self.message = redact(message.encode(errors="replace").decode())  # a server's header may be no UTF-8
        super().__init__(self.message)


MORE_DISK: Final = (
    f"Delete models, give the nodes more disk, or raise annotation {ANNOTATION_MAX_DISK_BYTES} of the InferenceService "
    "if it is set."
)
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def disk_full(error: OSError) -> StorageError:
    """The StorageError of an error that says the disk is full."""
    return StorageError(
        DISK_FULL,
        f"The pod's disk for models is full: {error.strerror or error}. {MORE_DISK}",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one artifact, as listed and as unpacked; ``max_files`` counts an archive's folders too. ``ours``: no
    annotation raises them."""

    max_bytes: int
    max_files: int
    ours: bool = False

    @property
    def raise_bytes(self) -> str:
        """The end of a message: what to do."""
        return "" if self.ours else f" Annotation {ANNOTATION_MAX_ARTIFACT_BYTES} of the InferenceService raises that."

    def refuse_beyond(self, size: int, what: str) -> None:
        """An artifact of so many listed bytes. Raises StorageError (ArtifactTooLarge)."""
        if size > self.max_bytes:
            raise StorageError(
                ARTIFACT_TOO_LARGE,
                f"{what} holds {size} bytes or more; at most {self.max_bytes} are pulled.{self.raise_bytes}",
            )

    @property
    def raise_files(self) -> str:
        return "" if self.ours else f" Annotation {ANNOTATION_MAX_ARTIFACT_FILES} of the InferenceService raises that."


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of an artifact. ``path`` is relative, with ``/``, and safe to join to a folder. ``unpack``: it is an
    archive, and the artifact is what is in it. ``digest``: what its bytes are held to once they are there
    (``digests.py``); empty: its size alone."""

    key: str
    path: str
    size: int
    etag: str
    unpack: bool = False
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """What an artifact is made of, before any of it is fetched. ``access`` is its source's own: what it was listed
    with, and is fetched with. ``place`` is where it was found, so that equal ETags of different stores stay apart.
    ``layers``: the files are an image's, the lowest first, and the artifact is what they make together below
    ``/models``. ``anybodys``: the ETags are whatever a server says that anybody may have named, so that they tell
    nothing of other places' content."""

    place: str
    files: tuple[ArtifactFile, ...]
    access: Hashable = field(default=None, compare=False, repr=False)
    layers: bool = False
    anybodys: bool = False

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


class Source(Protocol):
    """One scheme."""

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        """The artifact's files. Raises StorageError."""

    def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes | memoryview]:
        """The bytes from ``start`` to before ``end`` of a file of the listing: of the very content that was listed, or
        StorageError (ArtifactChanged). How many came is for the caller to count."""

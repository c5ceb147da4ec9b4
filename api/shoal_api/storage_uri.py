"""Where a model's artifact lies. Parsed once, here, into a value that stays parsed; nothing else takes URIs apart.

``spec.model.storageUri`` of a TrainedModel: ``s3://bucket/key``, where ``key`` is one object, or a prefix whose
objects (those below ``key/``) are the model's folder.
"""

import re
from dataclasses import dataclass
from typing import Final

STORAGE_URI_INVALID: Final = "StorageUriInvalid"
STORAGE_URI_NOT_SUPPORTED: Final = "StorageUriNotSupported"

SUPPORTED_SCHEMES: Final = ("s3",)
MAX_URI_LENGTH: Final = 2048

MIN_BUCKET_LENGTH: Final = 3
_MAX_SHOWN = 80
_EXAMPLE = "s3://bucket/path/to/model"
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.DOTALL)
# S3's rules; underscores and long names are let through, since S3-compatible servers and old buckets have them.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{2,254}")
_ADDRESS = re.compile(r"\d+(\.\d+){3}")


class StorageUriError(ValueError):
    """A URI that cannot be used. ``reason`` is stable CamelCase; the message says what is accepted instead."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class StorageUri:
    """A parsed storage URI. ``key`` has no leading or trailing slash; empty means the whole bucket.

    ``folder`` is True when the URI ended with a slash, so that ``key`` can only be a prefix.
    """

    scheme: str
    bucket: str
    key: str
    raw: str
    folder: bool = False

    @property
    def prefix(self) -> str:
        """What the keys of all objects of the folder start with: ``key/``, or nothing for a whole bucket."""
        return f"{self.key}/" if self.key else ""

    def __str__(self) -> str:
        return self.raw


def parse_storage_uri(raw: str) -> StorageUri:
    """Parse a storage URI. Raises StorageUriError (StorageUriInvalid, StorageUriNotSupported)."""
    shown = raw if len(raw) <= 200 else f"{raw[:200]}…"
    if len(raw) > MAX_URI_LENGTH:
        raise _invalid(f"storageUri is {len(raw)} characters long; at most {MAX_URI_LENGTH} are accepted.")
    if any(ord(character) < 32 or ord(character) == 127 for character in raw) or raw != raw.strip():
        raise _invalid(f"storageUri {shown!r} contains control characters, or spaces around it; remove them.")
    match = _SCHEME.fullmatch(raw)
    if match is None:
        raise _invalid(f"storageUri {shown!r} has no scheme; write it like {_EXAMPLE}.")
    scheme, rest = match.group(1).lower(), match.group(2)
    if scheme not in SUPPORTED_SCHEMES:
        raise StorageUriError(
            STORAGE_URI_NOT_SUPPORTED,
            f"storageUri {shown!r}: scheme {scheme}:// is not supported; supported: "
            f"{', '.join(f'{name}://' for name in SUPPORTED_SCHEMES)}. Copy the artifact to an S3-compatible store "
            f"and write {_EXAMPLE}.",
        )
    bucket, _, path = rest.partition("/")
    if not bucket:
        raise _invalid(f"storageUri {shown!r} names no bucket; write it like {_EXAMPLE}.")
    if not _BUCKET.fullmatch(bucket) or _ADDRESS.fullmatch(bucket):
        raise _invalid(f"storageUri {shown!r}: {bucket[:_MAX_SHOWN]!r} is not a bucket name: {_bucket_trouble(bucket)}")
    key = path.strip("/")
    segments = key.split("/") if key else []
    if any(segment in {".", ".."} for segment in segments):
        raise _invalid(f"storageUri {shown!r} contains '.' or '..' as a path segment; write the key out.")
    if any(not segment for segment in segments):
        raise _invalid(f"storageUri {shown!r} contains an empty path segment ('//'); remove the extra slash.")
    return StorageUri(scheme=scheme, bucket=bucket, key=key, raw=raw, folder=not key or path.endswith("/"))


def _bucket_trouble(bucket: str) -> str:
    if len(bucket) < MIN_BUCKET_LENGTH:
        return f"it has at least {MIN_BUCKET_LENGTH} characters."
    if _ADDRESS.fullmatch(bucket):
        return "it is an IP address, which no bucket is called: the endpoint belongs into the storage Secret."
    if _BUCKET.fullmatch(bucket.lower()):
        return "it has no capitals; write it as the store lists it."
    return (
        "it consists of lower-case letters, digits, '.', '-' and '_', a letter or digit first. No user, no port, no "
        "query: the endpoint belongs into the storage Secret."
    )


def _invalid(message: str) -> StorageUriError:
    return StorageUriError(STORAGE_URI_INVALID, message)

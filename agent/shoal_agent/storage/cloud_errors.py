"""What obstore raises about Google's and Azure's stores, as reasons that stay and messages with what to do. Pure.

Both answer alike; how each calls things, and what its users can do, is a value.
"""

from dataclasses import dataclass

from . import (
    ARTIFACT_CHANGED,
    ARTIFACT_NOT_FOUND,
    BUCKET_NOT_FOUND,
    NO_SPACE,
    STORAGE_ACCESS_DENIED,
    STORAGE_CREDENTIALS_INVALID,
    STORAGE_UNAVAILABLE,
    STORAGE_UNREACHABLE,
    StorageError,
    disk_full,
)
from .obstore_errors import Answer, BadCertificate, NoAnswer, NoToken, short, understand

_NOT_BELIEVED = "failed to authenticate"
"""As Azure puts it, under several codes."""


@dataclass(frozen=True, slots=True)
class Words:
    """How a cloud calls things. ``bad_keys``: codes that say that the credentials are wrong; ``private``: codes that
    tell somebody without credentials that he may not. The rest are ends of messages."""

    store: str
    bucket: str
    bad_keys: frozenset[str]
    private: frozenset[str]
    no_bucket: frozenset[str]
    correct: str
    allow: str
    give: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked: ``url`` of an object, or of a prefix if that is listed."""

    url: str
    bucket: str
    endpoint: str
    origin: str
    anonymous: bool
    listed: bool

    @property
    def where(self) -> str:
        return f"{self.url} at {self.endpoint}"


def explain(error: Exception, asked: Asked, words: Words) -> StorageError:
    """The StorageError of an exception that a call raised."""
    understood = understand(error)
    if isinstance(understood, Answer):
        return _answered(understood, asked, words)
    if isinstance(understood, NoToken):
        return StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"No {words.store} credentials for {asked.where} by {asked.origin}: {understood.why}. {words.give}",
        )
    if isinstance(understood, BadCertificate):
        return StorageError(
            STORAGE_UNREACHABLE,
            f"TLS to {asked.endpoint} failed for {asked.url}: {understood.why}. Put the server's CA into the Secret, "
            "under the key ca.crt.",
        )
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return disk_full(error)
    if isinstance(understood, NoAnswer) or isinstance(error, OSError):
        why = understood.why if isinstance(understood, NoAnswer) else short(str(error))
        return StorageError(
            STORAGE_UNREACHABLE,
            f"Cannot reach {asked.where}: {why}. Check the endpoint in {asked.origin} ({words.endpoint}) and that the "
            "pod's network policy lets it out.",
        )
    return StorageError(
        STORAGE_UNAVAILABLE, f"{words.store} failed for {asked.where}: {short(str(error))}. It is tried again."
    )


def unusable(error: Exception, asked: Asked, words: Words) -> StorageError:
    """The StorageError of an exception that was raised before anything was asked: the settings cannot be."""
    return StorageError(
        STORAGE_CREDENTIALS_INVALID,
        f"The {words.store} credentials or settings in {asked.origin} cannot be used for {asked.where}: "
        f"{short(str(error))}. {words.correct}",
    )


def _answered(answer: Answer, asked: Asked, words: Words) -> StorageError:
    said = f"{words.store} answered {answer.status} {answer.code}".rstrip()
    if answer.code in words.no_bucket or (answer.status == 404 and asked.listed and not asked.anonymous):
        return StorageError(
            BUCKET_NOT_FOUND,
            f"{said}: there is no {words.bucket} {asked.bucket!r} at {asked.endpoint} (asked with {asked.origin}). "
            "Create it, or correct storageUri or the endpoint.",
        )
    if asked.anonymous and (answer.status in (401, 403, 409) or (asked.listed and answer.code in words.private)):
        return StorageError(
            STORAGE_ACCESS_DENIED,
            f"{said} for {asked.where}, asked with {asked.origin}: it is not there, or not public. {words.give}",
        )
    if answer.code in words.bad_keys or answer.status == 401 or _NOT_BELIEVED in answer.said.lower():
        return StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"{said} for {asked.where}: the credentials in {asked.origin} are not accepted. {words.correct}",
        )
    if answer.status == 403:
        return StorageError(STORAGE_ACCESS_DENIED, f"{said} for {asked.where} with {asked.origin}. {words.allow}")
    if answer.status == 404:
        return StorageError(
            ARTIFACT_NOT_FOUND,
            f"{said} for {asked.where}. Upload the artifact, or correct storageUri; it is looked for again.",
        )
    if answer.status == 412:
        return StorageError(ARTIFACT_CHANGED, f"{asked.where} changed while it was being fetched. It is fetched again.")
    more = f": {answer.said[:200].strip()}" if answer.said else ""
    return StorageError(STORAGE_UNAVAILABLE, f"{said} for {asked.where}{more}. It is tried again.")

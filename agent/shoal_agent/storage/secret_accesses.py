"""The Secrets of the service account, each as one way to reach a store: its keys joined with what is said of it.

Secrets come as files (``<secrets>/<secret>/<KEY>``), their annotations as ``storage.json``
(``shoal_api.storage_secrets.StorageDocument``), which lies also beside the keys of each, from the same moment. All are
read again on each use, so a rotated key is noticed. Which keys count is the type of store's to say (``Reading``).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from shoal_api.storage_secrets import MOUNTED_STORAGE_FILE, AnnotatedSecret, ServiceAccountNote, StorageDocument

from . import STORAGE_CREDENTIALS_INVALID, StorageError
from .joined import Joined
from .mounted import Mounted, read_mount

A = TypeVar("A")
Made_co = TypeVar("Made_co", covariant=True)
Values = tuple[str | None, ...]

_FORMER: Final = "(its former keys: what is said of its new ones has not come yet)"
_MAX_NAMED: Final = 3


class Reading(Protocol[Made_co]):
    """What a type of store makes of a Secret."""

    def keys(self, mounted: Mounted) -> Values:
        """Its secret keys for such a store."""

    def settings(self, mounted: Mounted) -> Values:
        """What it says beside them."""

    def access(self, said: AnnotatedSecret, account: ServiceAccountNote, mounted: Mounted) -> Made_co | None:
        """None: it is for something else. Raises StorageError."""


@dataclass(frozen=True, slots=True)
class Found(Generic[A]):
    """``empty`` names the Secrets that are not there, or for something else."""

    accesses: list[A]
    empty: list[str]
    account: ServiceAccountNote

    def in_vain(self, store: str) -> str:
        """What to say of the access that is used instead: a Secret may be misspelt."""
        if not self.empty:
            return ""
        named = ", ".join(repr(name) for name in self.empty[:_MAX_NAMED])
        named += ", …" if len(self.empty) > _MAX_NAMED else ""
        account = self.account.name
        return f" (service account {account!r} names Secret {named}, which is missing or holds nothing for {store})"


def of_secrets(file: Path, secrets: Path, reading: Reading[A], joined: Joined[A] | None = None) -> Found[A]:
    """All that may be tried, in the order of the service account's Secrets. Blocks.

    ``joined`` remembers from call to call which keys what is said of a Secret belongs to. Raises StorageError
    (StorageCredentialsInvalid) when no Secret can be used and one cannot be understood, or what is said of it has not
    come yet.
    """
    document = read_document(file)
    if joined is not None:
        joined.keep_only({secret.name for secret in document.secrets})
    found: list[A] = []
    empty: list[str] = []
    wrong: list[StorageError] = []
    for listed in document.secrets:
        try:
            seen = read_mount(secrets / listed.name, partial(_seen, listed, document, reading))
        except StorageError as error:
            wrong.append(error)
            continue
        if seen is None:
            empty.append(listed.name)
            continue
        former = None
        if joined is not None and seen.said_of:
            former = joined.held_back(listed.name, seen.said_of, seen.keys, seen.access)
        if former is not None and not any(seen.keys):
            empty.append(listed.name)  # deleted, which the operator has yet to tell
            continue
        found.append(seen.access if former is None else _called(former, seen.access))
    if wrong and not found:
        raise wrong[0]
    return Found(found, empty, document.service_account)


def listed_secrets(file: Path) -> list[str]:
    """The Secrets of the service account, in its order. Raises StorageError (StorageCredentialsInvalid)."""
    return [secret.name for secret in read_document(file).secrets]


def fingerprint(file: Path, secrets: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a Secret or its annotations did; reads no content. Cheap enough for every few seconds."""
    marks = []
    files = [file]
    if secrets.is_dir():
        files += sorted(each for folder in secrets.iterdir() if folder.is_dir() for each in folder.iterdir())
    for each in files:
        try:
            status = each.stat()
        except OSError:
            continue
        marks.append((str(each), status.st_mtime_ns, status.st_ino))
    return tuple(marks)


def read_document(file: Path) -> StorageDocument:
    """``storage.json``; an empty one where there is none. Raises StorageError (StorageCredentialsInvalid)."""
    try:
        return StorageDocument.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return StorageDocument()
    except (OSError, ValueError) as error:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID, f"The storage Secrets' annotations in {file} cannot be read: {error}."
        ) from error


@dataclass(frozen=True, slots=True)
class _Seen(Generic[A]):
    """A Secret at one moment. ``said_of``: the one, and its state, that the operator spoke of; empty: it is older."""

    said_of: tuple[str, ...]
    keys: Values = field(repr=False)
    access: A


def _seen(listed: AnnotatedSecret, document: StorageDocument, reading: Reading[A], mounted: Mounted) -> _Seen[A] | None:
    """None: it is not there, or for something else."""
    beside = mounted.file(MOUNTED_STORAGE_FILE)  # from the same moment; not there beside an older operator
    if beside is not None:
        document = read_document(beside)
    said = next((secret for secret in document.secrets if secret.name == listed.name), None)
    keys = reading.keys(mounted)
    if said is None or said.missing:
        if any(keys):
            raise StorageError(
                STORAGE_CREDENTIALS_INVALID,
                f"Secret {listed.name!r} was made just now: its keys are not used before the operator has told its "
                "annotations. It is tried again.",
            )
        return None
    access = reading.access(said, document.service_account, mounted)
    if access is None:
        return None
    of = (said.uid, said.version) if said.uid else ()
    return _Seen(of, (*keys, *reading.settings(mounted)), access)


def _called(former: Any, now: Any) -> Any:
    return replace(former, origin=f"{now.origin} {_FORMER}")


def settings_of(values: Iterable[tuple[str, str]]) -> Values:
    """As they are compared."""
    return tuple(sorted(f"{name}={value}" for name, value in values))

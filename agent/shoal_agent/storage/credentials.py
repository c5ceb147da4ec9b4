"""Which S3 to talk to, and as whom: from KServe's storage Secrets, else from the AWS environment or cloud identity.

Secrets come as files (``<secrets>/<secret>/<KEY>``), their annotations as ``storage.json``
(``shoal_api.storage_secrets.StorageDocument``), which lies also beside the keys of each, from the same moment. All are
read again on each use, so a rotated key is noticed.
Annotations and keys are KServe's: https://kserve.github.io/website/docs/model-serving/storage/providers/s3
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from shoal_api.storage_secrets import (
    CA_FILE,
    CA_FOLDER,
    MOUNTED_STORAGE_FILE,
    S3_ANNOTATIONS,
    AnnotatedSecret,
    ServiceAccountNote,
    StorageDocument,
)

from . import STORAGE_CREDENTIALS_INVALID, StorageError
from .joined import Joined
from .mounted import Mounted, read_mount
from .s3_settings import annotated, maybe, named, true, url, with_inherited

ACCESS_KEY_NAMES: Final = ("AWS_ACCESS_KEY_ID", "awsAccessKeyID", "aws_access_key_id", "access_key_id")
SECRET_KEY_NAMES: Final = ("AWS_SECRET_ACCESS_KEY", "awsSecretAccessKey", "aws_secret_access_key", "secret_access_key")
SESSION_TOKEN_NAMES: Final = ("AWS_SESSION_TOKEN", "awsSessionToken", "aws_session_token", "session_token")
DEFAULT_REGION: Final = "us-east-1"
_MAX_NAMED: Final = 3
_FORMER: Final = "(its former keys: what is said of its new ones has not come yet)"


@dataclass(frozen=True, slots=True)
class S3Access:
    """One way to reach S3. Keys None: boto3's own chain (environment, web identity, instance metadata).

    ``origin`` names it in messages. Two that are equal can share a client.
    """

    origin: str
    endpoint: str | None = None
    region: str | None = None
    verify: bool | str = True
    virtual_host: bool | None = None
    anonymous: bool = False
    requester_pays: bool = False
    accelerate: bool = False
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


def accesses(
    annotations_file: Path, secrets: Path, environment: Mapping[str, str], *, joined: Joined[S3Access] | None = None
) -> list[S3Access]:
    """All that may be tried, in the order of the service account's Secrets; the environment when there is none.

    ``joined`` remembers from call to call which keys what is said of a Secret belongs to. Raises StorageError
    (StorageCredentialsInvalid) when no Secret can be used and one cannot be understood, or what is said of it has not
    come yet.
    """
    document = _document(annotations_file)
    if joined is not None:
        joined.keep_only({secret.name for secret in document.secrets})
    found: list[S3Access] = []
    empty: list[str] = []
    wrong: list[StorageError] = []
    for listed in document.secrets:
        try:
            seen = read_mount(secrets / listed.name, partial(_seen, listed, document, secrets / CA_FOLDER))
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
        found.append(seen.access if former is None else replace(former, origin=f"{seen.access.origin} {_FORMER}"))
    if wrong and not found:
        raise wrong[0]
    account = document.service_account
    return found or [_instead(_of_environment(environment, account, secrets), account.name, empty)]


def _of_environment(environment: Mapping[str, str], account: ServiceAccountNote, secrets: Path) -> S3Access:
    """AWS's variables (read by boto3 itself), a cloud identity, and what KServe sets on its storage initializer; but
    what the service account's annotations say is said for this very purpose."""
    said = annotated(account.annotations)
    whose = f" with the annotations of service account {account.name!r}" if said else ""
    said = with_inherited(said, named(lambda names: next((v for n in names if (v := environment.get(n))), None)))
    return access_by(f"the AWS environment or cloud identity{whose}", said, Mounted(secrets), secrets / CA_FOLDER)


def _instead(access: S3Access, account: str, empty: list[str]) -> S3Access:
    """The environment's access, whose name tells which Secrets were looked for in vain: one may be misspelt."""
    if not empty:
        return access
    named = ", ".join(repr(name) for name in empty[:_MAX_NAMED]) + (", …" if len(empty) > _MAX_NAMED else "")
    looked = f"service account {account!r} names Secret {named}, which is missing or holds nothing for S3"
    return replace(access, origin=f"{access.origin} ({looked})")


def listed_secrets(annotations_file: Path) -> list[str]:
    """The Secrets of the service account, in its order. Raises StorageError (StorageCredentialsInvalid)."""
    return [secret.name for secret in _document(annotations_file).secrets]


def fingerprint(annotations_file: Path, secrets: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a Secret or its annotations did; reads no content. Cheap enough for every few seconds."""
    marks = []
    files = [annotations_file]
    if secrets.is_dir():
        files += sorted(file for folder in secrets.iterdir() if folder.is_dir() for file in folder.iterdir())
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        marks.append((str(file), status.st_mtime_ns, status.st_ino))
    return tuple(marks)


def _document(file: Path) -> StorageDocument:
    try:
        return StorageDocument.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return StorageDocument()
    except (OSError, ValueError) as error:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID, f"The storage Secrets' annotations in {file} cannot be read: {error}."
        ) from error


@dataclass(frozen=True, slots=True)
class _Seen:
    """A Secret at one moment. ``said_of``: the one, and its state, that the operator spoke of; empty: it is older."""

    said_of: tuple[str, ...]
    keys: tuple[str | None, ...] = field(repr=False)
    access: S3Access


def _seen(listed: AnnotatedSecret, document: StorageDocument, authorities: Path, mounted: Mounted) -> _Seen | None:
    """None: it is not there, or for something else."""
    beside = mounted.file(MOUNTED_STORAGE_FILE)  # from the same moment; not there beside an older operator
    if beside is not None:
        document = _document(beside)
    said = next((secret for secret in document.secrets if secret.name == listed.name), None)
    keys = tuple(mounted.text(names) for names in (ACCESS_KEY_NAMES, SECRET_KEY_NAMES, SESSION_TOKEN_NAMES))
    if said is None or said.missing:
        if any(keys):
            raise StorageError(
                STORAGE_CREDENTIALS_INVALID,
                f"Secret {listed.name!r} was made just now: its keys are not used before the operator has told its "
                "annotations. It is tried again.",
            )
        return None
    beside_keys = named(mounted.text)
    own = {**beside_keys, **annotated(said.annotations)}
    if not own and not any(keys):
        return None
    access = _of_secret(said.name, own, document.service_account, keys, authorities=authorities, mounted=mounted)
    of = (said.uid, said.version) if said.uid else ()
    return _Seen(of, (*keys, *sorted(f"{name}={value}" for name, value in beside_keys.items())), access)


def _of_secret(
    name: str,
    own: Mapping[str, str],
    account: ServiceAccountNote,
    keys: tuple[str | None, ...],
    *,
    authorities: Path,
    mounted: Mounted,
) -> S3Access:
    access_key, secret_key, token = keys
    inherited = annotated(account.annotations)
    if access_key or secret_key:
        inherited.pop("useanoncredential", None)  # somebody else's, who has no keys
    access = access_by(f"Secret {name!r}", with_inherited(own, inherited), mounted, authorities)
    if access.anonymous:
        return access
    if bool(access_key) != bool(secret_key):
        present, missing = (ACCESS_KEY_NAMES, SECRET_KEY_NAMES) if access_key else (SECRET_KEY_NAMES, ACCESS_KEY_NAMES)
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"Secret {name!r} has {present[0]} but no {missing[0]}. Add the key {missing[0]} to it.",
        )
    return replace(access, access_key=access_key, secret_key=secret_key, session_token=token)


def access_by(origin: str, said: Mapping[str, str], mounted: Mounted, authorities: Path) -> S3Access:
    """What settings say (named as annotations call them), without keys. Raises StorageError."""
    endpoint = said.get("endpoint")
    return S3Access(
        origin=origin,
        endpoint=url(endpoint, said.get("usehttps") or "1") if endpoint else None,
        region=said.get("region") or None,
        verify=_verify(origin, said, mounted, authorities),
        virtual_host=maybe(said.get("usevirtualbucket")),
        anonymous=true(said.get("useanoncredential", "")),
        requester_pays=true(said.get("requesterpays", "")),
        accelerate=true(said.get("useaccelerate", "")),
    )


def _verify(origin: str, said: Mapping[str, str], mounted: Mounted, authorities: Path) -> bool | str:
    if said.get("verifyssl") and not true(said["verifyssl"]):
        return False
    bundle, config = said.get("cabundle", ""), said.get("cabundle-configmap", "")
    if not bundle and not config:
        return True
    # KServe: a path in the container. Also taken: the name of a key of the same Secret, or of the ConfigMap.
    if bundle and Path(bundle).is_absolute() and Path(bundle).is_file():
        return str(Path(bundle).resolve())  # another file once the kubelet has exchanged it
    name = Path(bundle).name
    found = mounted.file(name)
    if found is None and config:
        found = Mounted.now(authorities / Path(config).name).file(name or CA_FILE)
    if found is not None:
        return str(found)
    if config:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"ConfigMap {config!r} with the authority of {origin} has no key {name or CA_FILE}, or is not there. Put "
            "the CA bundle under that key into a ConfigMap of that name, and name that in an annotation "
            f"{S3_ANNOTATIONS}cabundle-configmap.",
        )
    raise StorageError(
        STORAGE_CREDENTIALS_INVALID,
        f"{S3_ANNOTATIONS}cabundle of {origin} names {bundle!r}, which is neither a file in the agent's container nor "
        "a key of the Secret. Put the CA bundle into the Secret and name its key.",
    )

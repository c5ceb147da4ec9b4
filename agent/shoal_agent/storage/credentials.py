"""Which S3 to talk to, and as whom: from KServe's storage Secrets, else from the AWS environment or cloud identity.

Secrets come as files (``<secrets>/<secret>/<KEY>``), their annotations as ``storage.json``
(``shoal_api.storage_secrets.StorageDocument``). Both are read again on each use, so a rotated key is noticed.
Annotations and keys are KServe's: https://kserve.github.io/website/docs/model-serving/storage/providers/s3
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from shoal_api.storage_secrets import StorageDocument

from . import STORAGE_CREDENTIALS_INVALID, StorageError

PREFIX: Final = "serving.kserve.io/s3-"
ACCESS_KEY_NAMES: Final = ("AWS_ACCESS_KEY_ID", "awsAccessKeyID")
SECRET_KEY_NAMES: Final = ("AWS_SECRET_ACCESS_KEY", "awsSecretAccessKey")
DEFAULT_REGION: Final = "us-east-1"
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_MAX_FILE: Final = 64 * 1024
_MAX_NAMED: Final = 3


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
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


def accesses(annotations_file: Path, secrets: Path, environment: Mapping[str, str]) -> list[S3Access]:
    """All that may be tried, in the order of the service account's Secrets; the environment when there is none.

    Raises StorageError (StorageCredentialsInvalid) when a Secret cannot be understood.
    """
    found, empty = [], []
    document = _document(annotations_file)
    for secret in document.secrets:
        access = _of_secret(secret.name, secret.annotations, secrets / secret.name)
        if access is not None:
            found.append(access)
        else:
            empty.append(secret.name)
    return found or [_instead(of_environment(environment), document.service_account.name, empty)]


def of_environment(environment: Mapping[str, str]) -> S3Access:
    """AWS's variables (read by boto3 itself), and those that KServe sets on its storage initializer."""
    endpoint = (
        environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or environment.get("S3_ENDPOINT")
    )
    verify: bool | str = environment.get("AWS_CA_BUNDLE") or True
    if "S3_VERIFY_SSL" in environment and not _true(environment["S3_VERIFY_SSL"]):
        verify = False
    return S3Access(
        origin="the AWS environment or cloud identity",
        endpoint=_url(endpoint, environment.get("S3_USE_HTTPS", "1")) if endpoint else None,
        region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
        verify=verify,
        virtual_host=_maybe(environment.get("S3_USER_VIRTUAL_BUCKET")),
        anonymous=_true(environment.get("awsAnonymousCredential", "")),
    )


def _instead(access: S3Access, account: str, empty: list[str]) -> S3Access:
    """The environment's access, whose name tells which Secrets were looked for in vain: one may be misspelt."""
    if not empty:
        return access
    named = ", ".join(repr(name) for name in empty[:_MAX_NAMED]) + (", …" if len(empty) > _MAX_NAMED else "")
    looked = f"service account {account!r} names Secret {named}, which is missing or holds nothing for S3"
    return replace(access, origin=f"{access.origin} ({looked})")


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


def _of_secret(name: str, annotations: Mapping[str, str], folder: Path) -> S3Access | None:
    said = {key.removeprefix(PREFIX): value.strip() for key, value in annotations.items() if key.startswith(PREFIX)}
    access_key = _first(folder, ACCESS_KEY_NAMES)
    secret_key = _first(folder, SECRET_KEY_NAMES)
    if not said and not access_key and not secret_key:
        return None  # a Secret for something else
    anonymous = _true(said.get("useanoncredential", ""))
    if not anonymous and bool(access_key) != bool(secret_key):
        present, missing = (ACCESS_KEY_NAMES, SECRET_KEY_NAMES) if access_key else (SECRET_KEY_NAMES, ACCESS_KEY_NAMES)
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"Secret {name!r} has {present[0]} but no {missing[0]}. Add the key {missing[0]} to it.",
        )
    endpoint = said.get("endpoint")
    return S3Access(
        origin=f"Secret {name!r}",
        endpoint=_url(endpoint, said.get("usehttps", "1")) if endpoint else None,
        region=said.get("region") or None,
        verify=_verify(name, said, folder),
        virtual_host=_maybe(said.get("usevirtualbucket")),
        anonymous=anonymous,
        access_key=None if anonymous else access_key,
        secret_key=None if anonymous else secret_key,
        session_token=None if anonymous else _first(folder, ("AWS_SESSION_TOKEN",)),
    )


def _verify(name: str, said: Mapping[str, str], folder: Path) -> bool | str:
    if "verifyssl" in said and not _true(said["verifyssl"]):
        return False
    bundle = said.get("cabundle")
    if not bundle:
        return True
    # KServe: a path in the container. Also taken: the name of a key of the same Secret.
    for candidate in (Path(bundle), folder / Path(bundle).name):
        if candidate.is_absolute() and candidate.is_file():
            return str(candidate)
    raise StorageError(
        STORAGE_CREDENTIALS_INVALID,
        f"Secret {name!r}: annotation {PREFIX}cabundle names {bundle!r}, which is neither a file in the agent's "
        "container nor a key of the Secret. Put the CA bundle into the Secret and name its key.",
    )


def _first(folder: Path, names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            with (folder / name).open() as file:
                value = file.read(_MAX_FILE).strip()
        except (OSError, ValueError):
            continue
        if value:
            return value
    return None


def _url(endpoint: str, use_https: str) -> str:
    if "://" in endpoint:
        return endpoint.rstrip("/")
    return f"{'https' if _true(use_https) else 'http'}://{endpoint.rstrip('/')}"


def _maybe(value: str | None) -> bool | None:
    return None if not value else _true(value)


def _true(value: str) -> bool:
    return value.strip().lower() in _TRUE

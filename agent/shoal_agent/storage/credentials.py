"""Which S3 to talk to, and as whom: from KServe's storage Secrets, else from the AWS environment or cloud identity.

Annotations and keys are KServe's: https://kserve.github.io/website/docs/model-serving/storage/providers/s3
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from shoal_api.storage_secrets import CA_FILE, CA_FOLDER, S3_ANNOTATIONS, AnnotatedSecret, ServiceAccountNote

from . import STORAGE_CREDENTIALS_INVALID, StorageError
from .joined import Joined
from .mounted import Mounted
from .s3_settings import annotated, maybe, named, true, url, with_inherited
from .secret_accesses import Values, of_secrets, settings_of

ACCESS_KEY_NAMES: Final = ("AWS_ACCESS_KEY_ID", "awsAccessKeyID", "aws_access_key_id", "access_key_id")
SECRET_KEY_NAMES: Final = ("AWS_SECRET_ACCESS_KEY", "awsSecretAccessKey", "aws_secret_access_key", "secret_access_key")
SESSION_TOKEN_NAMES: Final = ("AWS_SESSION_TOKEN", "awsSessionToken", "aws_session_token", "session_token")
DEFAULT_REGION: Final = "us-east-1"


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
    """All that may be tried, in the order of the service account's Secrets; the environment when there is none. As
    ``of_secrets``."""
    found = of_secrets(annotations_file, secrets, _S3Reading(secrets / CA_FOLDER), joined)
    if found.accesses:
        return found.accesses
    instead = _of_environment(environment, found.account, secrets)
    return [replace(instead, origin=f"{instead.origin}{found.in_vain('S3')}")]


def _of_environment(environment: Mapping[str, str], account: ServiceAccountNote, secrets: Path) -> S3Access:
    """AWS's variables (read by boto3 itself), a cloud identity, and what KServe sets on its storage initializer; but
    what the service account's annotations say is said for this very purpose."""
    said = annotated(account.annotations)
    whose = f" with the annotations of service account {account.name!r}" if said else ""
    said = with_inherited(said, named(lambda names: next((v for n in names if (v := environment.get(n))), None)))
    return access_by(f"the AWS environment or cloud identity{whose}", said, Mounted(secrets), secrets / CA_FOLDER)


@dataclass(frozen=True, slots=True)
class _S3Reading:
    """``Reading``."""

    authorities: Path

    def keys(self, mounted: Mounted) -> Values:
        return tuple(mounted.text(names) for names in (ACCESS_KEY_NAMES, SECRET_KEY_NAMES, SESSION_TOKEN_NAMES))

    def settings(self, mounted: Mounted) -> Values:
        return settings_of(named(mounted.text).items())

    def access(self, said: AnnotatedSecret, account: ServiceAccountNote, mounted: Mounted) -> S3Access | None:
        own = {**named(mounted.text), **annotated(said.annotations)}
        keys = self.keys(mounted)
        if not own and not any(keys):
            return None
        return _of_secret(said.name, own, account, keys, authorities=self.authorities, mounted=mounted)


def _of_secret(
    name: str,
    own: Mapping[str, str],
    account: ServiceAccountNote,
    keys: Values,
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

"""Which Google Cloud Storage to talk to, and as whom.

As in KServe a Secret of the service account holds a key file under ``gcloud-application-credentials.json``; where there
is none, the pod's own identity is asked for a token, and then what is public is read without one.
https://kserve.github.io/website/docs/model-serving/storage/providers/gcs
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from shoal_api.storage_secrets import GCS_ANNOTATIONS, AnnotatedSecret, ServiceAccountNote

from . import STORAGE_CREDENTIALS_INVALID, StorageError
from .joined import Joined
from .mounted import Mounted
from .s3_settings import annotated, true, url
from .secret_accesses import Values, of_secrets, settings_of

KEY_FILE: Final = "gcloud-application-credentials.json"
"""KServe's default name of the key; what its ConfigMap calls it otherwise is not known here."""
ENDPOINT: Final = "STORAGE_EMULATOR_HOST"
"""As Google's own libraries call it."""
AUTHORITY: Final = "ca.crt"
_NEEDED: Final = ("client_email", "private_key")
_IDENTITY: Final = "the pod's cloud identity"
_ANONYMOUS: Final = "no credentials"


@dataclass(frozen=True, slots=True)
class GcsAccess:
    """One way to reach Google Cloud Storage. ``key``: a service account's key file, as text; ``user``: the path of one
    of a user's. Neither, and not anonymous: the metadata server's token.

    ``origin`` names it in messages. Two that are equal can share a client.
    """

    origin: str
    endpoint: str | None = None
    anonymous: bool = False
    authority: str | None = None
    key: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)


def accesses(
    annotations_file: Path, secrets: Path, environment: Mapping[str, str], joined: Joined[GcsAccess] | None = None
) -> list[GcsAccess]:
    """All that may be tried, in that order. Blocks. As ``of_secrets``."""
    found = of_secrets(annotations_file, secrets, _GcsReading(), joined)
    if found.accesses:
        return found.accesses
    said = _said(found.account.annotations)
    endpoint = _endpoint(said.get("endpoint") or environment.get(ENDPOINT))
    vain = found.in_vain("Google Cloud Storage")
    anonymous = GcsAccess(f"{_ANONYMOUS}{vain}", endpoint=endpoint, anonymous=True)
    if endpoint is not None or true(said.get("useanoncredential", "")):
        return [anonymous]  # a token of the pod's is Google's alone
    return [GcsAccess(f"{_IDENTITY}{vain}"), anonymous]


def of_key_file(access: GcsAccess, text: str, path: Path | None = None) -> GcsAccess:
    """With a key file that lies at ``path``. Raises StorageError (StorageCredentialsInvalid)."""
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _refused(access, "is no JSON object. Put the service account's key file there as it was downloaded")
    kind = content.get("type") or "service_account"
    if kind == "authorized_user" and path is not None:
        return replace(access, user=str(path))
    if kind != "service_account":
        raise _refused(
            access,
            f"is of type {str(kind)[:80]!r}; a service account's key file (service_account) is needed. For workload "
            "identity leave the Secret out",
        )
    missing = [name for name in _NEEDED if not isinstance(content.get(name), str) or not content[name]]
    if missing:
        raise _refused(access, f"has no {' and no '.join(missing)}. Put the key file there as it was downloaded")
    own = content.get("gcs_base_url")
    endpoint = access.endpoint or (own.rstrip("/") if isinstance(own, str) and own else None)
    return replace(access, key=json.dumps({"private_key_id": "", **content}), endpoint=endpoint)


def _refused(access: GcsAccess, what: str) -> StorageError:
    return StorageError(STORAGE_CREDENTIALS_INVALID, f"The Google key file ({KEY_FILE}) in {access.origin} {what}.")


@dataclass(frozen=True, slots=True)
class _GcsReading:
    """``Reading``."""

    def keys(self, mounted: Mounted) -> Values:
        return (mounted.text([KEY_FILE]),)

    def settings(self, mounted: Mounted) -> Values:
        return settings_of((ENDPOINT, text) for text in [mounted.text([ENDPOINT])] if text)

    def access(self, said: AnnotatedSecret, account: ServiceAccountNote, mounted: Mounted) -> GcsAccess | None:
        key, own = mounted.text([KEY_FILE]), _said(said.annotations)
        if endpoint := mounted.text([ENDPOINT]):
            own = {"endpoint": endpoint, **own}
        if key is None and not own:
            return None
        inherited = _said(account.annotations)
        authority = mounted.file(AUTHORITY)
        access = GcsAccess(
            f"Secret {said.name!r}",
            endpoint=_endpoint(own.get("endpoint") or inherited.get("endpoint")),
            anonymous=key is None or true(own.get("useanoncredential", "")),
            authority=str(authority) if authority is not None else None,
        )
        if access.anonymous or key is None:
            return access
        return of_key_file(access, key, mounted.file(KEY_FILE))


def _said(annotations: Mapping[str, str]) -> dict[str, str]:
    return annotated(annotations, GCS_ANNOTATIONS)


def _endpoint(said: str | None) -> str | None:
    """Plain HTTP where no scheme is said, as Google's libraries have it for emulators."""
    return url(said.strip(), "0") if said and said.strip() else None

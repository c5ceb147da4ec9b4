"""``storage://key/path``: a place that an entry of the Secret ``storage-config`` describes, as in KServe and ModelMesh.

The entry is JSON and says all of it: which store, whose keys, which bucket. So nothing has to be joined. One of type
pvc says a claim, which a model may do itself by its parameters ``type`` and ``name``: no entry is needed then.
"""

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from shoal_api.claim_uri import CLAIM_SCHEME
from shoal_api.model_storage import STORAGE_CONFIG_SECRET
from shoal_api.storage_secrets import CA_FOLDER
from shoal_api.storage_uri import (
    CONFIGURED_TYPES,
    STORAGE_URI_INVALID,
    STORAGE_URI_NOT_SUPPORTED,
    StorageUri,
    StorageUriError,
    parse_storage_uri,
)

from . import STORAGE_CREDENTIALS_INVALID, ArtifactFile, Limits, Listing, Source, StorageError
from .azure_access import AzureAccess, with_keys
from .credentials import S3Access, access_by
from .gcs_access import GcsAccess, of_key_file
from .mounted import Mounted, read_mount
from .object_source import ObjectSource, Place
from .s3_settings import true, url

_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "endpoint": ("endpoint_url", "endpoint"),
    "region": ("region",),
    "verifyssl": ("verify_ssl",),
    "cabundle": ("ca_bundle",),
    "cabundle-configmap": ("cabundle_configmap",),
    "useanoncredential": ("anonymous",),
    "usevirtualbucket": ("use_virtual_bucket",),
    "requesterpays": ("requester_pays",),
}
"""The S3 settings, as annotations call them, by the fields of an entry."""
_REACH: Final = frozenset(
    {"endpoint_url", "endpoint", "verify_ssl", "ca_bundle", "cabundle_configmap", "certificate"}
    | {"account_name", "authority_host", "tenant_id"}
)
"""Where the keys of an entry go, and who is believed to be there: its own word only, since whoever writes a model's
parameters may not be who may read the keys."""
_KEY_FIELDS: Final = ("client_email", "private_key", "private_key_id")
_AZURE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "key": ("account_key", "access_key"),
    "sas": ("sas_token",),
    "connection": ("connection_string",),
    "tenant": ("tenant_id",),
    "client": ("client_id",),
    "secret": ("client_secret",),
}
_MAX_NAMED: Final = 8


Configured = S3Access | GcsAccess | AzureAccess


class ConfiguredSource:
    """``Source`` of ``storage://``. ``sources``: those of the types of store, by what reaches them; ``claims``: that of
    volumes."""

    def __init__(self, secrets: Path, sources: Mapping[type[Configured], ObjectSource[Any]], claims: Source) -> None:
        self._secrets, self._sources, self._claims = secrets, sources, claims

    async def find(self, uri: StorageUri, limits: Limits) -> Listing:
        """As an entry says. Raises StorageError."""
        place, access = await asyncio.to_thread(configured, uri, self._secrets)
        if access is None:
            return await self._claims.find(place, limits)
        return await self._sources[type(access)].find_with(place, access, limits)

    def read(self, listing: Listing, file: ArtifactFile, start: int, end: int) -> AsyncIterator[bytes | memoryview]:
        """As the source that found it."""
        place: Any = listing.access
        if not isinstance(place, Place):
            return self._claims.read(listing, file, start, end)
        return self._sources[type(place.access)].read(listing, file, start, end)


def configured(uri: StorageUri, secrets: Path) -> tuple[StorageUri, Configured | None]:
    """Where a model lies, and how that is reached; None: it is on a claim, which this pod mounts or not. Raises
    StorageError, with reasons of credentials or, for what cannot be at all, StorageUriInvalid and
    StorageUriNotSupported."""
    overridden = dict(uri.parameters)
    key = uri.bucket or (f"default_{overridden['type']}" if overridden.get("type") else "default")
    origin = f"entry {key!r} of Secret {STORAGE_CONFIG_SECRET!r}"

    def read(mounted: Mounted) -> tuple[StorageUri, Configured | None]:
        entry = _entry(key, mounted)
        _refuse_elsewhere(entry, overridden, origin)
        entry |= overridden
        scheme = _scheme(entry, origin)
        if scheme == CLAIM_SCHEME:
            return _on_claim(uri, entry, origin), None
        return _place(uri, scheme, entry, origin), _ACCESS[scheme](entry, origin, mounted, secrets / CA_FOLDER)

    if not uri.bucket and overridden.get("type") == CLAIM_SCHEME and "name" in overridden:
        return _on_claim(uri, overridden, "storage.parameters"), None
    return read_mount(secrets / STORAGE_CONFIG_SECRET, read)


def _entry(key: str, mounted: Mounted) -> dict[str, str]:
    text = mounted.text([key])
    if text is None:
        there = ", ".join(mounted.names()[:_MAX_NAMED])
        what = f"its keys are {there}" if there else "it is not there, or empty"
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"Secret {STORAGE_CONFIG_SECRET!r} has no key {key!r}: {what}. Correct storage.key, or add the entry to "
            "that Secret in the InferenceService's namespace; it is noticed.",
        )
    try:
        entry: Any = json.loads(text)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"Key {key!r} of Secret {STORAGE_CONFIG_SECRET!r} is no JSON object. Write it like "
            '{"type": "s3", "endpoint_url": "https://...", "access_key_id": "...", "secret_access_key": "...", '
            '"bucket": "..."}.',
        )
    return {str(name): str(value) for name, value in entry.items() if isinstance(value, str | int | float | bool)}


def _refuse_elsewhere(entry: Mapping[str, str], overridden: Mapping[str, str], origin: str) -> None:
    """Raises StorageError for parameters that would have the entry's keys sent to another store."""
    moved = sorted(name for name in overridden.keys() & _REACH if overridden[name] != entry.get(name))
    if moved:
        raise StorageError(
            STORAGE_URI_INVALID,
            f"storage.parameters.{moved[0]} is another than that of {origin}, whose keys would be sent there. Leave it "
            f"out, or add an entry for that store to the Secret and name it in storage.key.",
        )


def _scheme(entry: Mapping[str, str], origin: str) -> str:
    of_type = entry.get("type") or "s3"
    if of_type not in CONFIGURED_TYPES:
        raise StorageError(
            STORAGE_URI_NOT_SUPPORTED,
            f"{origin} is of type {of_type!r}, which is not supported; supported: {', '.join(CONFIGURED_TYPES)}. Copy "
            "the artifact to an S3-compatible store and name an entry for that.",
        )
    return CONFIGURED_TYPES[of_type]


def _place(uri: StorageUri, scheme: str, entry: Mapping[str, str], origin: str) -> StorageUri:
    bucket = _first(entry, ("bucket", "default_bucket", *(("container",) if scheme == "az" else ())))
    if not bucket:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"No bucket for {uri.raw}: {origin} has none. Add bucket (or default_bucket) to it, or "
            "storage.parameters.bucket to the model.",
        )
    return _at(scheme, bucket, uri, origin)


def _on_claim(uri: StorageUri, entry: Mapping[str, str], origin: str) -> StorageUri:
    claim = entry.get("name")
    if not claim:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"No claim for {uri.raw}: {origin} is of type pvc and has no name. Add name, which is the "
            "PersistentVolumeClaim's, to it.",
        )
    return _at(CLAIM_SCHEME, claim, uri, origin)


def _at(scheme: str, bucket: str, uri: StorageUri, origin: str) -> StorageUri:
    try:
        return parse_storage_uri(f"{scheme}://{bucket}/{uri.key}{'/' if uri.folder and uri.key else ''}")
    except StorageUriError as error:
        raise StorageError(error.reason, f"By {origin}: {error.message}") from error


def _s3(entry: Mapping[str, str], origin: str, mounted: Mounted, authorities: Path) -> S3Access:
    said = {name: value for name, fields in _SETTINGS.items() if (value := _first(entry, fields))}
    access = access_by(origin, said, mounted, authorities)
    if access.verify is True and (certificate := entry.get("certificate")):
        access = replace(access, verify=_file(certificate))
    key, secret = entry.get("access_key_id") or None, entry.get("secret_access_key") or None
    if access.anonymous or (key is None and secret is None):
        return access
    if key is None or secret is None:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"{origin} has {'access_key_id' if key else 'secret_access_key'} but no "
            f"{'secret_access_key' if key else 'access_key_id'}. Add it.",
        )
    return replace(access, access_key=key, secret_key=secret, session_token=entry.get("session_token") or None)


def _gcs(entry: Mapping[str, str], origin: str, mounted: Mounted, authorities: Path) -> GcsAccess:
    """ModelMesh's fields: client_email, private_key; without them nobody's."""
    endpoint, certificate = _first(entry, ("endpoint_url", "endpoint")), entry.get("certificate")
    key = {name: entry[name] for name in _KEY_FIELDS if entry.get(name)}
    access = GcsAccess(
        origin,
        endpoint=url(endpoint, "1") if endpoint else None,
        anonymous=not key or true(entry.get("anonymous", "")),
        authority=_file(certificate) if certificate else None,
    )
    return access if access.anonymous else of_key_file(access, json.dumps(key))


def _azure(entry: Mapping[str, str], origin: str, mounted: Mounted, authorities: Path) -> AzureAccess:
    """ModelMesh's fields, and Azure's other ways; without any nobody's."""
    endpoint, certificate = _first(entry, ("endpoint_url", "endpoint")), entry.get("certificate")
    keys = {name: value for name, fields in _AZURE_KEYS.items() if (value := _first(entry, fields))}
    access = AzureAccess(
        origin,
        account=entry.get("account_name", ""),
        endpoint=url(endpoint, "1") if endpoint else None,
        anonymous=not keys or true(entry.get("anonymous", "")),
        authority=_file(certificate) if certificate else None,
        login=entry.get("authority_host") or None,
    )
    return access if access.anonymous else with_keys(access, keys)


_ACCESS: Final[Mapping[str, Callable[[Mapping[str, str], str, Mounted, Path], Configured]]] = {
    "s3": _s3,
    "gs": _gcs,
    "az": _azure,
}


def _first(entry: Mapping[str, str], fields: tuple[str, ...]) -> str | None:
    return next((entry[field] for field in fields if entry.get(field)), None)


def _file(certificate: str) -> str:
    """A file with the authority, called by what is in it: TLS libraries want one."""
    folder = Path(tempfile.gettempdir()) / f"shoal-authorities-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{hashlib.blake2b(certificate.encode(), digest_size=16).hexdigest()}.pem"
    if not target.exists():
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(certificate)
        Path(file.name).replace(target)
    return str(target)

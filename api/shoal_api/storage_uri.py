"""Where a model's artifact lies. Parsed once, here, into a value that stays parsed; nothing else takes URIs apart.

``spec.model.storageUri`` of a TrainedModel: ``s3://bucket/key`` or ``gs://bucket/key``, where ``key`` is one object, or
a prefix whose objects (those below ``key/``) are the model's folder; the same in Azure (``azure_uri.py``);
``https://host/path``, one file or archive; a repository of Hugging Face's hub (``hub_uri.py``); an image or an artifact
of a registry (``oci_uri.py``); a place on a PersistentVolumeClaim (``claim_uri.py``). Or
``storage://key/path?parameters``, which ``spec.model.storage`` stands for: the agent makes a place in an object store
or on a claim of it, by an entry of the Secret ``storage-config``.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote

from .azure_uri import AZURE_EXAMPLE, AZURE_SCHEMES, FILE_SHARE, AzurePlace, azure_place
from .claim_uri import CLAIM_EXAMPLE, CLAIM_SCHEME, claim_place, is_claim_name
from .hub_uri import HUB_EXAMPLE, HUB_SCHEME, hub_place
from .model_storage import STORAGE_CONFIG_SCHEME, STORAGE_CONFIG_SECRET
from .oci_uri import OCI_EXAMPLE, OCI_SCHEME, oci_place

STORAGE_URI_INVALID: Final = "StorageUriInvalid"
STORAGE_URI_NOT_SUPPORTED: Final = "StorageUriNotSupported"

SUPPORTED_SCHEMES: Final = ("s3", "gs", "https", "http", *AZURE_SCHEMES, HUB_SCHEME, OCI_SCHEME, CLAIM_SCHEME)
CONFIGURED_TYPES: Final[Mapping[str, str]] = {"s3": "s3", "gs": "gs", "gcs": "gs", "azure": "az", "pvc": CLAIM_SCHEME}
"""Types of entries of the Secret storage-config, as KServe and ModelMesh call them, and the schemes that they are."""
MAX_URI_LENGTH: Final = 2048
MAX_KEY_LENGTH: Final = 1024
"""In bytes of UTF-8: S3's bound, and Google's and Azure's."""

MIN_BUCKET_LENGTH: Final = 3
_MAX_SHOWN = 80
_EXAMPLE = "s3://bucket/path/to/model"
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.DOTALL)
# S3's rules; underscores and long names are let through, since S3-compatible servers and old buckets have them.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{2,254}")
_STORAGE_KEY = re.compile(r"[-._a-zA-Z0-9]{0,253}")
_SECRET = re.compile(r"secret|access_?key|private_?key|token|password|account_?key|connection_?string")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_WEB_EXAMPLE = "https://host/path/model.tar.gz"
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

    ``folder`` is True when the URI ended with a slash, so that ``key`` can only be a prefix. For ``storage://`` the
    ``bucket`` is the entry's key (empty: the default one), and ``parameters`` override the entry. For ``https://`` and
    ``http://`` it is the host, with its port, and ``key`` the path; ``raw`` has the query. For Azure, however it was
    written, the scheme is ``az``, the bucket a container, ``account`` its account (empty: the Secret's) and parameter
    ``sas`` the signature behind it. For ``hf://`` the bucket is the repository with its owner, and parameter
    ``revision`` the one that was named. For ``oci://`` the bucket is the registry, with its port, ``key`` the
    repository, and parameters ``tag`` and ``digest`` what was named. For ``pvc://`` the bucket is the claim.
    """

    scheme: str
    bucket: str
    key: str
    raw: str
    folder: bool = False
    parameters: tuple[tuple[str, str], ...] = ()
    account: str = ""

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
    if scheme == STORAGE_CONFIG_SCHEME:
        return _of_entry(rest, raw, shown)
    if scheme not in SUPPORTED_SCHEMES:
        raise StorageUriError(
            STORAGE_URI_NOT_SUPPORTED,
            f"storageUri {shown!r}: scheme {scheme}:// is not supported; supported: "
            f"{', '.join(f'{name}://' for name in SUPPORTED_SCHEMES)}. Copy the artifact to an S3-compatible store "
            f"and write {_EXAMPLE}.",
        )
    if (azure := azure_place(scheme, rest)) is not None:
        return _of_azure(azure, raw, shown)
    if re.fullmatch(FILE_SHARE, f"{scheme}://{rest}"):
        raise StorageUriError(
            STORAGE_URI_NOT_SUPPORTED,
            f"storageUri {shown!r}: Azure's file shares are not supported. Copy the artifact to Blob Storage and write "
            f"{AZURE_EXAMPLE}.",
        )
    if scheme in ("https", "http"):
        return _of_web(scheme, rest, raw, shown)
    if scheme == HUB_SCHEME:
        return _of_hub(rest, raw, shown)
    if scheme == OCI_SCHEME:
        return _of_oci(rest, raw, shown)
    if scheme == CLAIM_SCHEME:
        return _of_claim(rest, raw, shown)
    bucket, _, path = rest.partition("/")
    if not bucket:
        raise _invalid(f"storageUri {shown!r} names no bucket; write it like {scheme}://bucket/path/to/model.")
    if not _BUCKET.fullmatch(bucket) or _ADDRESS.fullmatch(bucket):
        raise _invalid(f"storageUri {shown!r}: {bucket[:_MAX_SHOWN]!r} is not a bucket name: {_bucket_trouble(bucket)}")
    key = _key(path, f"storageUri {shown!r}")
    return StorageUri(scheme=scheme, bucket=bucket, key=key, raw=raw, folder=not key or path.endswith("/"))


def _of_azure(place: AzurePlace, raw: str, shown: str) -> StorageUri:
    if place.trouble:
        raise _invalid(f"storageUri {shown!r}: {place.trouble}; write it like {AZURE_EXAMPLE}.")
    key = _key(place.path, f"storageUri {shown!r}")
    sas = (("sas", place.signature),) if place.signature else ()
    folder = not key or place.path.endswith("/")
    return StorageUri("az", place.container, key, raw=raw, folder=folder, parameters=sas, account=place.account)


def _of_hub(rest: str, raw: str, shown: str) -> StorageUri:
    place = hub_place(rest)
    if place is None:
        raise _invalid(
            f"storageUri {shown!r} names no repository of the hub; write it like {HUB_EXAMPLE}, where the revision (a "
            "branch, a tag or a commit, without '/') may be left out."
        )
    key = _key(place.path, f"storageUri {shown!r}")
    revision = (("revision", place.revision),) if place.revision else ()
    folder = not key or place.path.endswith("/")
    return StorageUri(HUB_SCHEME, place.repository, key, raw=raw, folder=folder, parameters=revision)


def _of_oci(rest: str, raw: str, shown: str) -> StorageUri:
    place = oci_place(rest)
    if place is None:
        raise _invalid(
            f"storageUri {shown!r} names no image or artifact: a repository consists of lower-case letters, digits, "
            f"'.', '_', '-' and '/'; write it like {OCI_EXAMPLE}."
        )
    named = (("tag", place.tag), ("digest", place.digest))
    parameters = tuple((name, value) for name, value in named if value)
    return StorageUri(OCI_SCHEME, place.host, place.repository, raw=raw, parameters=parameters)


def _of_claim(rest: str, raw: str, shown: str) -> StorageUri:
    place = claim_place(rest)
    if place is None:
        raise _invalid(
            f"storageUri {shown!r} names no PersistentVolumeClaim: its name consists of lower-case letters, digits, "
            f"'-' and '.'; write it like {CLAIM_EXAMPLE}. The claim is one of the model's own namespace."
        )
    key = _key(place.path, f"storageUri {shown!r}")
    return StorageUri(CLAIM_SCHEME, place.claim, key, raw=raw, folder=not key or place.path.endswith("/"))


def claim_of(location: str) -> str:
    """The claim that a model's location names, as far as its text says; empty: none. An entry of the Secret
    storage-config may name another one, which agents alone read. Never raises."""
    if not location.lower().startswith((f"{CLAIM_SCHEME}://", f"{STORAGE_CONFIG_SCHEME}://")):
        return ""
    try:
        uri = parse_storage_uri(location)
    except StorageUriError:
        return ""
    if uri.scheme == CLAIM_SCHEME:
        return uri.bucket
    said = dict(uri.parameters)
    return said.get("name", "") if said.get("type") == CLAIM_SCHEME else ""


def _of_web(scheme: str, rest: str, raw: str, shown: str) -> StorageUri:
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in host:
        raise _invalid(
            "storageUri has a user or a password in it, which everybody could read here: put them as headers into a "
            "Secret of the service account (keys https-host and headers)."
        )
    if not _HOST.fullmatch(host) or (host.startswith("[") and not is_ipv6_address(host.partition("]")[0][1:])):
        raise _invalid(f"storageUri {shown!r}: {host[:_MAX_SHOWN]!r} is no host; write it like {_WEB_EXAMPLE}.")
    port = re.search(r":([0-9]+)$", host)
    if port is not None and not 0 < int(port[1]) < 65536:
        raise _invalid(f"storageUri {shown!r}: {port[1]} is no port; write one from 1 to 65535, or none.")
    path = re.split("[?#]", rest[len(host) :], maxsplit=1)[0]
    if "\\" in path or any(segment in {".", ".."} for segment in unquote(path).split("/")):
        raise _invalid(f"storageUri {shown!r} contains a backslash, or '.' or '..' as a path segment; write it out.")
    if not unquote(path).rpartition("/")[2]:
        raise _invalid(f"storageUri {shown!r} names no file; write it like {_WEB_EXAMPLE}.")
    return StorageUri(scheme, host.lower(), unquote(path).strip("/"), raw=raw)


def is_ipv6_address(text: str) -> bool:
    """Without brackets. Never raises."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _of_entry(rest: str, raw: str, shown: str) -> StorageUri:
    place, _, query = rest.partition("?")
    entry, _, quoted = place.partition("/")
    if not _STORAGE_KEY.fullmatch(entry):
        raise _invalid(
            f"storage.key {entry[:_MAX_SHOWN]!r} is no key of a Secret: it consists of letters, digits, '-', '_' and "
            f"'.'. Name a key of Secret {STORAGE_CONFIG_SECRET}."
        )
    parameters = tuple(parse_qsl(query, keep_blank_values=True))
    if (secret := next((name for name, _ in parameters if _SECRET.search(name.lower())), None)) is not None:
        raise _invalid(
            f"storage.parameters.{secret[:_MAX_SHOWN]} is a secret, which everybody could read here: put it into the "
            f"entry of Secret {STORAGE_CONFIG_SECRET}."
        )
    of_type = dict(parameters).get("type", "s3")
    if of_type not in CONFIGURED_TYPES:
        raise StorageUriError(
            STORAGE_URI_NOT_SUPPORTED,
            f"storage.parameters.type {of_type[:_MAX_SHOWN]!r} is not supported; supported: "
            f"{', '.join(CONFIGURED_TYPES)}. Copy the artifact to an S3-compatible store.",
        )
    if of_type == CLAIM_SCHEME and not is_claim_name(dict(parameters).get("name", "a")):
        raise _invalid(f"storage.parameters.name of {shown!r} is no name of a PersistentVolumeClaim; correct it.")
    path = unquote(quoted)
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise _invalid(f"storage.path of {shown!r} contains control characters; remove them.")
    key = _key(path, f"storage.path of {shown!r}")
    folder = not key or path.endswith("/")
    return StorageUri(STORAGE_CONFIG_SCHEME, entry, key, raw=raw, folder=folder, parameters=parameters)


def _key(path: str, what: str) -> str:
    key = path.strip("/")
    segments = key.split("/") if key else []
    if any(segment in {".", ".."} for segment in segments):
        raise _invalid(f"{what} contains '.' or '..' as a path segment; write the key out.")
    if any(not segment for segment in segments):
        raise _invalid(f"{what} contains an empty path segment ('//'); remove the extra slash.")
    if (length := len(key.encode(errors="replace"))) > MAX_KEY_LENGTH:
        raise _invalid(f"{what} has a key of {length} bytes; no store has one of more than {MAX_KEY_LENGTH}.")
    return key


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

"""Headers and authorities for web servers, from KServe's Secrets: keys ``https-host`` and ``headers`` (a JSON object).

https://kserve.github.io/website/docs/model-serving/storage/providers/uri has them. ``ca.crt`` (not in KServe) is the
host's authority.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from . import STORAGE_CREDENTIALS_INVALID, StorageError
from .mounted import Mounted, read_mount
from .secret_accesses import listed_secrets

HOST_NAMES: Final = ("https-host", "http-host")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_VALUE: Final = re.compile(r"[\x20-\x7e]{0,8192}")
_NOT_THEIRS: Final = frozenset({"host", "range", "if-match", "content-length", "transfer-encoding", "connection"})


@dataclass(frozen=True, slots=True)
class WebAccess:
    """``origin`` names it in messages."""

    origin: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authority: Path | None = None

    def __hash__(self) -> int:
        return hash((self.origin, tuple(sorted(self.headers.items())), self.authority))


def accesses(annotations_file: Path, secrets: Path) -> dict[str, WebAccess]:
    """By host, or host and port. Blocks. Raises StorageError (StorageCredentialsInvalid)."""
    found: dict[str, WebAccess] = {}
    for name in listed_secrets(annotations_file):
        access = read_mount(secrets / name, partial(_access, name))
        if access is not None:
            found.setdefault(*access)
    return found


def _access(name: str, mounted: Mounted) -> tuple[str, WebAccess] | None:
    host = mounted.text(HOST_NAMES)
    if host is None:
        return None
    host = host.partition("://")[2] or host
    return host.rstrip("/").lower(), WebAccess(
        f"Secret {name!r}", _headers(name, mounted.text(("headers",)) or "{}"), mounted.file("ca.crt")
    )


def _headers(secret: str, text: str) -> dict[str, str]:
    try:
        headers = json.loads(text)
        pairs = {str(key): str(value) for key, value in headers.items()}
    except (ValueError, AttributeError, RecursionError):
        pairs = {"": ""}
    wrong = next(
        (
            key
            for key, value in pairs.items()
            if not _NAME.fullmatch(key) or not _VALUE.fullmatch(value) or key.lower() in _NOT_THEIRS
        ),
        None,
    )
    if wrong is not None:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"Secret {secret!r}: key headers is no JSON object of headers that may be sent"
            + (f" ({wrong[:80]!r})" if wrong else "")
            + '. Write it like {"Authorization": "Bearer ..."}.',
        )
    return pairs

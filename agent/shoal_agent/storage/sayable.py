"""What can be said to a store at all: obstore ends a request that cannot be written by a panic and a page on stderr,
for whatever somebody has put into a Secret. Pure.
"""

import re
from typing import Final

from shoal_api.storage_uri import is_ipv6_address

from . import STORAGE_CREDENTIALS_INVALID, StorageError

MAX_CREDENTIAL: Final = 16 * 1024
"""Characters; longer headers are refused by servers."""
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_URL: Final = re.compile(
    r"https?://(?P<host>\[[^\]]*\]|[^/?#@:\[\]]*)(?::(?P<port>[0-9]{1,5}))?(?:/[^?#\x00-\x20\x7f-\U0010ffff]*)?"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def refuse_endpoint(endpoint: str, origin: str, what: str = "endpoint") -> None:
    """``endpoint``: a URL; ``what`` it is. Raises StorageError (StorageCredentialsInvalid) for one of no store."""
    if _is_endpoint(endpoint):
        return
    raise StorageError(
        STORAGE_CREDENTIALS_INVALID,
        f"The {what} of {origin} is {endpoint[:80]!r}, which is no such URL: write host, host:port or "
        "http(s)://host:port, without user and query. It is noticed.",
    )


def refuse_text(value: str | None, what: str, origin: str) -> None:
    """``value``: a key, a token or a region, which is not shown. Raises StorageError (StorageCredentialsInvalid) for
    what no header can have."""
    if not value:
        return
    if _CONTROL.search(value):
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"The {what} of {origin} contains a line break or another control character. Write it anew, on one line; "
            "it is noticed.",
        )
    if len(value) > MAX_CREDENTIAL:
        raise StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"The {what} of {origin} is {len(value)} characters long; at most {MAX_CREDENTIAL} are accepted.",
        )


def _is_endpoint(endpoint: str) -> bool:
    found = _URL.fullmatch(endpoint)
    if found is None or not 0 < int(found["port"] or 1) < 65536:
        return False
    host = found["host"]
    return is_ipv6_address(host[1:-1]) if host.startswith("[") else _HOST.fullmatch(host) is not None

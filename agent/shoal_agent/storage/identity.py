"""What makes two artifacts the same one: their files' paths, sizes and ETags. Pure."""

import hashlib
import re
from typing import Final

from shoal_api.messages import REVISION_LENGTH

from . import Listing

_KEY_BYTES: Final = 16
_KEY: Final = re.compile(rf"[0-9a-f]{{{2 * _KEY_BYTES}}}")
_OF_CONTENT: Final = re.compile(r'"?[0-9a-f]{32}(-[0-9]+)?"?')
"""ETags that S3 makes of an object's bytes."""


def artifact_key(listing: Listing) -> str:
    """The content key of a listing."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    hashed = not listing.anybodys
    if not all(file.digest or (hashed and _OF_CONTENT.fullmatch(file.etag)) for file in listing.files):
        digest.update(f"{listing.place}\n".encode())
    for file in listing.files:
        digest.update(f"{file.path}\0{file.size}\0{file.etag}\0{file.unpack}\n".encode())
    if listing.layers:
        digest.update(b"layers\n")
    return digest.hexdigest()


def revision(key: str) -> str | None:
    """What the operator is told of a content key: the same on every pod, and another one for other content. None: it is
    no content key."""
    return key[:REVISION_LENGTH] if _KEY.fullmatch(key) else None

"""What makes two artifacts the same one: their files' paths, sizes and ETags. Pure."""

import hashlib
import re
from typing import Final

from . import Listing

_KEY_BYTES: Final = 16
_OF_CONTENT: Final = re.compile(r'"?[0-9a-f]{32}(-[0-9]+)?"?')
"""ETags that S3 makes of an object's bytes."""


def artifact_key(listing: Listing) -> str:
    """The content key of a listing."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    if not all(_OF_CONTENT.fullmatch(file.etag) for file in listing.files):
        digest.update(f"{listing.place}\n".encode())
    for file in listing.files:
        digest.update(f"{file.path}\0{file.size}\0{file.etag}\0{file.unpack}\n".encode())
    return digest.hexdigest()

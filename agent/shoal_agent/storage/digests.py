"""Holds what was fetched to the digests that its listing named: another content than that never becomes an artifact.

A digest is ``sha256:`` or ``git:`` (the id of a git blob: SHA-1 of a header and the content) and hexadecimal digits.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from shoal_agent.threads import in_thread

from . import ArtifactFile
from .fetching import changed

SHA256: Final = "sha256"
GIT: Final = "git"
_LENGTHS: Final = {SHA256: 64, GIT: 40}
_HEX: Final = re.compile(r"[0-9a-f]+")
_CHUNK: Final = 1024 * 1024
_AT_ONCE: Final = 64 * 1024 * 1024
"""Bytes that a thread reads before it looks whether anybody still waits."""


def is_digest(text: str) -> bool:
    """Whether it is one that can be checked."""
    kind, _, digits = text.partition(":")
    return len(digits) == _LENGTHS.get(kind) and _HEX.fullmatch(digits) is not None


async def verify(files: Iterable[ArtifactFile], folder: Path, journal: Path) -> None:
    """Raises StorageError (ArtifactChanged) for another content; what is noted in the journal is fetched again then."""
    checking = _check(files, folder, journal)
    while await in_thread(next, checking, False):
        pass


def _check(files: Iterable[ArtifactFile], folder: Path, journal: Path) -> Iterator[bool]:
    left = _AT_ONCE
    for file in files:
        if not file.digest:
            continue
        kind, _, expected = file.digest.partition(":")
        digest = _begin(kind, file.size)
        with (folder / file.path).open("rb") as content:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                left -= len(chunk)
                if left <= 0:
                    left = _AT_ONCE
                    yield True
        if digest.hexdigest() != expected:
            journal.unlink(missing_ok=True)
            raise changed(file, f"its {kind} digest is {digest.hexdigest()}, and {expected} was listed")


def _begin(kind: str, size: int) -> Any:
    if kind == SHA256:
        return hashlib.sha256()
    digest = hashlib.sha1(usedforsecurity=False)
    digest.update(f"blob {size}\0".encode())
    return digest

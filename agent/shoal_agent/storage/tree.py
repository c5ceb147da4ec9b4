"""What the files of a listing make together. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from . import ArtifactFile
from .paths import check_tree
from .unpack.formats import is_archive


def as_artifact(files: Iterable[ArtifactFile], what: str) -> tuple[ArtifactFile, ...]:
    """The files in their order; one that is alone and an archive is to be unpacked. Raises StorageError
    (ArtifactInvalid) where they cannot lie beside each other; ``what`` names them for the message."""
    found = sorted(files, key=lambda file: file.path)
    check_tree([file.path for file in found], what)
    if len(found) == 1 and is_archive(found[0].path):
        found = [replace(found[0], unpack=True)]
    return tuple(found)

"""Names of files inside an artifact: what is safe to create below a model's folder. Pure."""

import re
from collections import Counter
from typing import Final

from . import ARTIFACT_INVALID, StorageError

MAX_PATH: Final = 1024
MAX_SEGMENT: Final = 255
MAX_DEPTH: Final = 32
"""Folders that a file lies in: each is an inode that no listing counts."""
_UNSAYABLE: Final = re.compile(r"[\\\x00-\x1f\x7f\ud800-\udfff]")


def safe_path(path: str, what: str) -> str:
    """``path`` itself when it stays below the folder that it is joined to. Raises StorageError (ArtifactInvalid).

    ``what`` names the object or archive for the message.
    """
    segments = path.split("/")
    problem = ""
    if any(segment in {"", ".", ".."} for segment in segments):
        problem = "it has an empty, '.' or '..' segment and could leave the model's folder"
    elif _UNSAYABLE.search(path):
        problem = "it contains a backslash, a control character or what is no text"
    elif len(segments) > MAX_DEPTH + 1:
        problem = f"it lies more than {MAX_DEPTH} folders deep"
    elif len(path.encode()) > MAX_PATH or any(len(segment.encode()) > MAX_SEGMENT for segment in segments):
        problem = f"it is longer than {MAX_PATH} bytes, or a segment is longer than {MAX_SEGMENT}"
    if problem:
        raise StorageError(
            ARTIFACT_INVALID, f"{what} holds {path[:200]!r}, which is refused: {problem}. Rename or remove it."
        )
    return path


def check_tree(paths: list[str], what: str) -> None:
    """Refuse a path that is both a file and a folder, or occurs twice. Raises StorageError (ArtifactInvalid)."""
    files = set(paths)
    if len(files) != len(paths):
        twice = min(path for path, times in Counter(paths).items() if times > 1)
        raise StorageError(ARTIFACT_INVALID, f"{what} holds {twice!r} more than once. Remove one of them.")
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in files:
                raise StorageError(
                    ARTIFACT_INVALID,
                    f"{what} holds {parent!r} both as a file and as the folder of {path!r}. Remove one of them.",
                )
            parent = parent.rpartition("/")[0]

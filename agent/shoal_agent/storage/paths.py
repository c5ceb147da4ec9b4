"""Names of files inside an artifact: what is safe to create below a model's folder. Pure."""

from typing import Final

from . import ARTIFACT_INVALID, StorageError

MAX_PATH: Final = 1024
MAX_SEGMENT: Final = 255


def safe_path(path: str, what: str) -> str:
    """``path`` itself when it stays below the folder that it is joined to. Raises StorageError (ArtifactInvalid).

    ``what`` names the object or archive for the message.
    """
    segments = path.split("/")
    problem = ""
    if any(segment in {"", ".", ".."} for segment in segments):
        problem = "it has an empty, '.' or '..' segment and could leave the model's folder"
    elif "\\" in path or any(ord(character) < 32 or ord(character) == 127 for character in path):
        problem = "it contains a backslash or a control character"
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
        twice = next(path for path in sorted(files) if paths.count(path) > 1)
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

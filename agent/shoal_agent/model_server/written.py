"""What users write into their artifacts, read within bounds."""

from pathlib import Path
from typing import Final

from shoal_agent.storage import ARTIFACT_INVALID, StorageError

MAX_BYTES: Final = 1024 * 1024


def text(path: Path) -> str:
    """A file's text, of at most MAX_BYTES. Raises StorageError, by the file's name. Blocks."""
    if path.stat().st_size > MAX_BYTES:
        raise StorageError(ARTIFACT_INVALID, f"{path.name} is larger than {MAX_BYTES} bytes.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StorageError(ARTIFACT_INVALID, f"{path.name} is no UTF-8 text: {error}. Correct it.") from error

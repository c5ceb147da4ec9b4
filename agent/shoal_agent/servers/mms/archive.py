"""A copy's folder as multi-model-server reads it, and which handler it has.

Artifacts are model archives (.mar, or their folder with MAR-INF/MANIFEST.json), or what SageMaker calls model.tar.gz:
files of the model with code/inference.py, or with a handler of multi-model-server's own kind.
"""

import json
from pathlib import Path
from typing import Final

from shoal_agent.storage import ARTIFACT_INVALID, Limits, StorageError
from shoal_agent.storage.unpack import Unpacking

MANIFEST: Final = "MAR-INF/MANIFEST.json"
LEGACY_MANIFEST: Final = "MANIFEST.json"
ARCHIVE: Final = ".mar"
SCRIPTS: Final = ("code/inference.py", "inference.py")
OUR_HANDLER: Final = "shoal_mms_script.py:handle"
HANDLERS: Final = ("handler.py", "model_handler.py", "service.py", "model.py")
"""Names of a module with ``handle(data, context)``, most usual first."""
_UNPACKED_LEAST: Final = 1 << 30
_UNPACKED_PER_PACKED: Final = 4
"""Of one archive: weights hardly shrink when they are packed, so what unpacks to more is no model."""
_MAX_FILES: Final = 10_000


def lay_out(folder: Path) -> None:
    """Unpack an archive, and see that the server will know what to call. Blocks. Raises StorageError
    (ArtifactInvalid)."""
    files = _files(folder)
    archives = [file for file in files if file.endswith(ARCHIVE)]
    if MANIFEST not in files and len(archives) == 1:
        # The server would unpack it to a folder that copies of one content share, and delete it with the first of them.
        archive = folder / archives[0]
        limits = Limits(max(_UNPACKED_LEAST, _UNPACKED_PER_PACKED * archive.stat().st_size), _MAX_FILES, ours=True)
        Unpacking(archive, archives[0], folder, limits).run()
        archive.unlink()
    handler(folder)


def handler(folder: Path) -> str:
    """What a load has to name; empty where a manifest says it. Blocks. Raises StorageError (ArtifactInvalid)."""
    files = _files(folder)
    if LEGACY_MANIFEST in files:
        return ""
    if MANIFEST in files and _named(folder / MANIFEST):
        return ""
    for script in SCRIPTS:
        if script in files:
            return OUR_HANDLER
    for name in HANDLERS:
        if name in files:
            return f"{name}:handle"
    some = ", ".join(file[:80] for file in files[:8]) or "nothing"
    raise StorageError(
        ARTIFACT_INVALID,
        f"The artifact is no model for multi-model-server: it has neither {MANIFEST} with a handler, nor "
        f"{' or '.join(SCRIPTS)}, nor {', '.join(HANDLERS)}; found {some}. Pack it with model-archiver, or add one.",
    )


def _named(manifest: Path) -> bool:
    try:
        content = json.loads(manifest.read_bytes())
        return bool(content["model"].get("handler"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise StorageError(
            ARTIFACT_INVALID, f"{MANIFEST} has no model: {error}. Pack it again with model-archiver."
        ) from error


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())

"""Makes of an artifact's files in a copy's folder what TorchServe reads. Blocks."""

import json
import os
import shutil
import uuid
from pathlib import Path, PurePosixPath
from typing import Any, Final

from shoal_agent.model_server import ModelCopy, written
from shoal_agent.storage import ARTIFACT_INVALID, Limits, StorageError
from shoal_agent.storage.unpack import Unpacking

from .archive import (
    CONFIG,
    MANIFEST,
    SETTINGS,
    Arrangement,
    arranged,
    from_snapshot,
    manifest_of,
    ours,
    parsed,
)
from .model_config import model_config

_UNPACKED_PER_PACKED: Final = 20
_UNPACKED_LEAST: Final = 256 << 20
_MAX_FILES: Final = 10_000
"""Of one archive: weights hardly shrink when they are packed, so what unpacks to more is no model."""


def prepare(copy: ModelCopy, loading_timeout: float) -> None:
    """Raises StorageError (ArtifactInvalid, ArtifactTooLarge)."""
    plan = arranged(_files(copy.folder))
    before = {}
    if plan.archive:
        name = plan.archive.rsplit("/", 1)[-1]
        if plan.properties:
            before = from_snapshot(written.text(copy.folder / plan.properties), name)
        _unpack(copy.folder, plan.archive)
        plan = arranged(_files(copy.folder))
        if plan.archive or plan.script:
            raise StorageError(
                ARTIFACT_INVALID, f"{name} holds no {MANIFEST}. Pack it again with torch-model-archiver."
            )
    _raise_root(copy.folder, plan)
    if plan.script:
        manifest = manifest_of(PurePosixPath(plan.script).name, plan.handler)
    else:
        manifest = parsed(written.text(copy.folder / MANIFEST), MANIFEST)
    own = str(manifest["model"].get("configFile") or "")
    text = model_config(_own_config(copy.folder, own), before, copy.tuning, loading_timeout)
    (copy.folder / MANIFEST).parent.mkdir(exist_ok=True)
    for_server, for_handler = ours(manifest, copy.identity, copy.tuning.threads)
    _write(copy.folder / MANIFEST, json.dumps(for_server))
    _write(copy.folder / SETTINGS, json.dumps(for_handler))
    _write(copy.folder / CONFIG, text)


def _files(folder: Path) -> list[str]:
    return sorted(str(PurePosixPath(file.relative_to(folder))) for file in folder.rglob("*") if file.is_file())


def _unpack(folder: Path, archive: str) -> None:
    """The archive's files, and nothing else: TorchServe would unpack it anew at each load, to a folder of its own."""
    aside = folder / f".{uuid.uuid4().hex}"
    aside.mkdir()
    packed = folder / archive
    limits = Limits(max(_UNPACKED_LEAST, _UNPACKED_PER_PACKED * packed.stat().st_size), _MAX_FILES, ours=True)
    Unpacking(packed, archive, aside, limits).run()
    for entry in list(folder.iterdir()):
        if entry == aside:
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    for entry in list(aside.iterdir()):
        os.rename(entry, folder / entry.name)
    aside.rmdir()


def _raise_root(folder: Path, plan: Arrangement) -> None:
    """The model's folder, where it is one in the artifact, in place of the artifact."""
    if not plan.root:
        return
    aside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    os.rename(folder / plan.root.rstrip("/"), aside)
    shutil.rmtree(folder)
    os.rename(aside, folder)


def _own_config(folder: Path, name: str) -> str:
    """The text of the file that the manifest names; empty where it names none."""
    path = (folder / name).resolve()
    if not name:
        return ""
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise StorageError(
            ARTIFACT_INVALID,
            f"{MANIFEST} names configFile {name[:200]!r}, which is not in the artifact. Pack it again.",
        )
    return written.text(path)


def _write(path: Path, content: Any) -> None:
    """The user's file may be a hard link into the cache: replaced, never written into."""
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    temporary.write_text(content)
    os.replace(temporary, path)
